"""How a clip is looked at to be recognised: as it is, or from several sides where its depth was measured.

What a depth camera or a motion capture measured can be turned: it is what another camera would have seen. The network
then judges the clip from each side, with frames interpolated between its own, and the logits' mean counts. Epochs are
chosen in training by the clip as it is.

B clips, T frames, P points, N signs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slr_lib.augment import Batch, depth_measured, move, resample
from slr_lib.batches import padded
from slr_lib.skeleton import Skeleton


@dataclass(frozen=True)
class Views:
    """turns: degrees about the vertical axis, a view each; frames: how many times its own frames a clip gets."""

    turns: tuple[float, ...]
    frames: float


# as far as training turns such clips. Chosen on isl_kinect30's validation signers: reports/log.md, 2026-11-28
MEASURED = Views(turns=(-45.0, 0.0, 45.0), frames=1.25)


def mean_logits(network: Callable[[Batch], np.ndarray], batch: Batch, skeleton: Skeleton, mean: Tensor, std: Tensor,
                most_frames: int) -> np.ndarray:
    """Logits float32 [B, N] of a batch as it is, or the mean over its views where depth was measured.

    Args:
        network: a batch -> its logits. batch: divided by the statistics mean and std, [P, 3]. skeleton: of the clips.
        most_frames: that interpolation may give a clip.
    """
    if skeleton.depth_by_part:
        return network(batch)
    plain = batch._replace(points=(batch.points * std + mean).mul_(batch.mask[..., None]))
    if not depth_measured(plain, skeleton):
        return network(batch)
    plain = denser(plain, MEASURED.frames, most_frames)
    sides = [turned(plain, degrees) for degrees in MEASURED.turns]
    views = Batch(*(torch.cat(values) for values in zip(*sides, strict=True)))
    points = views.points.sub_(mean).div_(std).mul_(views.mask[..., None])
    logits = network(views._replace(points=points))  # at once: one clip takes 0.6 of the time
    return logits.reshape(len(sides), len(batch.points), -1).mean(0)


def turned(batch: Batch, degrees: float) -> Batch:
    """Every clip, in units of the body, turned about the vertical axis through its origin."""
    count, sine, cosine = len(batch.points), math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    matrix = torch.tensor([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])
    return move(batch, matrix.expand(count, 3, 3), torch.zeros(count, 3))


def denser(batch: Batch, factor: float, most_frames: int) -> Batch:
    """Every clip at `factor` times its frames, but no more than `most_frames`, interpolated; its time is as before."""
    frames = batch.frames.sum(1)
    way = (frames - 1).float()
    wanted = (way * factor + 1).round().long().clamp(max=most_frames)
    # a clip that has more already keeps them
    return padded(resample(batch, torch.zeros_like(way), way, wanted.maximum(frames), torch.ones_like(way)))
