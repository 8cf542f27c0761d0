"""The predecessor's way from landmarks to its model's input, one clip at a time, written anew for its speed.

As its public source does it: frames with a hand, 92 columns (lips, both hands, ten points of the pose; the model then
takes 87), and 128 frames. A clip of at most 128 frames is filled up with zeros. A longer one, and that is the slow way,
has each frame repeated 128 * 128 // T times and its first and last ones some more, and is averaged over 128 windows of
as many frames, leaving out what is missing. Repaired: frames without a hand are really dropped, hands are not mirrored
alone, and missing points are zero. Nothing is done that the original does not do.

Shapes: T frames, P = 92 points.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slr_lib.skeleton import HOLISTIC

FRAMES, LIMIT = 128, 5.0
_HANDS = [*HOLISTIC.part("left_hand").points, *HOLISTIC.part("right_hand").points]
_POSE = [HOLISTIC.index(f"pose_{side}_{joint}") for side in ("left", "right")
         for joint in ("elbow", "wrist", "pinky", "index", "thumb")]
POINTS = (*HOLISTIC.part("lips").points, *_HANDS, *_POSE)


def preprocess(points: np.ndarray, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """The input of one clip.

    Args:
        points: float32 [T, 543, 3], NaN where missing; mean, std: [P, 2] of x and y.

    Returns:
        float32 [128, P, 2], zero where missing, and each frame's place in the clip [128], -1 at padding.
    """
    data = torch.from_numpy(points)
    hands = (~data[:, _HANDS].isnan()).sum((1, 2))
    places = (hands > 0).nonzero().squeeze(1)
    if not len(places):
        places = torch.arange(len(data))
    data = data[places][:, POINTS]
    places = (places - places.min()).float()
    count = len(data)
    if count <= FRAMES:
        fill = FRAMES - count
        data = torch.cat([data, torch.zeros(fill, *data.shape[1:])])
        places = torch.cat([places, torch.full((fill,), -1.0)])
    else:
        data, places = _pooled(data), _pooled(places)
    place = data[..., :2]
    seen = ~place.isnan() & (places >= 0)[:, None, None]
    return torch.where(seen, ((place - mean) / (std + 1e-8)).clamp(-LIMIT, LIMIT), 0.0), places


def _pooled(rows: Tensor) -> Tensor:
    """[T, ...] -> [128, ...]: means of what is not missing over windows of the repeated frames."""
    rows = rows.repeat_interleave(max(1, FRAMES * FRAMES // len(rows)), 0)
    more = -len(rows) % FRAMES + FRAMES
    before = more // 2
    edges = rows[:1].expand(before, *rows.shape[1:]), rows[-1:].expand(more - before, *rows.shape[1:])
    return torch.cat([edges[0], rows, edges[1]]).unflatten(0, (FRAMES, -1)).nanmean(1)
