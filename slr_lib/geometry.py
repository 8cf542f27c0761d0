"""What a frame's points say beside where they are: motion, shape relative to the part itself, directions of bones.

Shapes: B batch, T frames, P points, C coordinates (3), E bones, F features of a part. Everything is zero where a
point was not seen, and depends on a frame and its two neighbours only, so padding changes nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOTION_UNIT = 0.1  # seconds: motion is measured per tenth of a second, which is of the order of the coordinates
MOTION_LIMIT = 8.0  # a detector that jumps to another hand makes motion of any size
SMALL = 1e-4


def differences(points: Tensor, mask: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Motion since the frame before, where both frames saw the point; real times, so frame rates compare.

    Args:
        points: [B, T, P, C]; mask: bool [B, T, P], where points are valid; times: [B, T] in seconds.

    Returns:
        [B, T, P, C] change per MOTION_UNIT and its mask [B, T, P]; frame 0 has none.
    """
    seen = mask[:, 1:] & mask[:, :-1]
    gap = (times[:, 1:] - times[:, :-1]).clamp_min(MOTION_UNIT / 100)[:, :, None, None]
    change = (points[:, 1:] - points[:, :-1]) * (MOTION_UNIT / gap)
    change = change.clamp(-MOTION_LIMIT, MOTION_LIMIT) * seen.unsqueeze(-1)
    return nn.functional.pad(change, (0, 0, 0, 0, 1, 0)), nn.functional.pad(seen, (0, 0, 1, 0))


def relative(points: Tensor, mask: Tensor, first_is_root: bool) -> Tensor:
    """A part's points as seen from the part itself: centred on its root, divided by its size in that frame.

    Args:
        points: [B, T, P, C] of one part; mask: bool [B, T, P].
        first_is_root: centre on the part's first point (a hand's wrist) where that is seen, else on the mean.

    Returns:
        [B, T, P, C]: root-mean-square distance from the centre 1.
    """
    seen = mask.unsqueeze(-1).to(points.dtype)
    count = seen.sum(2, keepdim=True).clamp_min(1)
    centre = (points * seen).sum(2, keepdim=True) / count
    if first_is_root:
        centre = torch.where(mask[:, :, :1, None], points[:, :, :1], centre)
    offset = (points - centre) * seen
    size = (offset.square().sum((2, 3), keepdim=True) / count).sqrt()
    return offset / size.clamp_min(SMALL)


def directions(points: Tensor, mask: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Unit vectors along bones, [B, T, E, C]; zero where an end is missing. (Plain differences would add nothing: the
    layer above is linear in the coordinates already.)"""
    bone = points[:, :, ends] - points[:, :, starts]
    seen = (mask[:, :, ends] & mask[:, :, starts]).unsqueeze(-1)
    return bone / bone.square().sum(-1, keepdim=True).sqrt().clamp_min(SMALL) * seen


class PartFeatures(nn.Module):
    """Features of one part: coordinates, relative coordinates, first and second differences, bone directions, presence.

    Args:
        points: the part's indices into the batch's points, its root first.
        edges: bones as pairs of indices into the batch's points; those not wholly in the part are left out.
        rooted: the first point is the root (see `relative`).
        coordinates: how many of x, y, z to use.
    """

    def __init__(self, points: tuple[int, ...], edges: tuple[tuple[int, int], ...], rooted: bool, coordinates: int):
        super().__init__()
        place = {point: i for i, point in enumerate(points)}
        bones = [(place[a], place[b]) for a, b in edges if a in place and b in place]
        self.rooted = rooted
        self.coordinates = coordinates
        self.width = (4 * len(points) + len(bones)) * coordinates + 1
        # the tables follow from the configuration, so they are no part of the weights
        self.register_buffer("points", torch.tensor(points, dtype=torch.long), persistent=False)
        self.register_buffer("starts", torch.tensor([a for a, _ in bones], dtype=torch.long), persistent=False)
        self.register_buffer("ends", torch.tensor([b for _, b in bones], dtype=torch.long), persistent=False)

    def forward(self, points: Tensor, mask: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """points [B, T, P, 3], mask [B, T, P], times [B, T] -> features [B, T, F] and presence, bool [B, T]."""
        mask = mask[:, :, self.points]
        place = points[:, :, self.points, : self.coordinates] * mask.unsqueeze(-1)
        speed, moving = differences(place, mask, times)
        change, _ = differences(speed, moving, times)
        features = [place, relative(place, mask, self.rooted), speed, change,
                    directions(place, mask, self.starts, self.ends)]
        share = mask.to(place.dtype).mean(-1, keepdim=True)
        return torch.cat([f.flatten(2) for f in features] + [share], -1), mask.any(-1)
