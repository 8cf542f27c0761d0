"""What a frame's points say beside where they are: motion, shape relative to the part itself, directions of bones.

Shapes: B batch, T frames, P points, K parts, C coordinates (3), E bones, R rows of features. Everything is zero where a
point was not seen, and depends on a frame and its two neighbours only, so padding changes nothing.
"""

from __future__ import annotations

import numpy as np
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


def directions(points: Tensor, mask: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Unit vectors along bones, [B, T, E, C]; zero where an end is missing. (Plain differences would add nothing: the
    layer above is linear in the coordinates already.)"""
    bone = points[:, :, ends] - points[:, :, starts]
    seen = (mask[:, :, ends] & mask[:, :, starts]).unsqueeze(-1)
    return bone / bone.square().sum(-1, keepdim=True).sqrt().clamp_min(SMALL) * seen


class RelativePlaces(nn.Module):
    """Each part's points as seen from the part itself: centred on its root, divided by its size in that frame.

    Sums over parts, and what they give back to points, are products with tables of zeros and ones: two operations for
    all parts together.

    Args:
        parts: [P] the part of each point. roots: for each part the point that it is centred on where that is seen (a
        hand's wrist), or None: its mean. coordinates: C.
    """

    def __init__(self, parts: list[int], roots: list[int | None], coordinates: int):
        super().__init__()
        count = len(roots)
        member = np.zeros((len(parts), count), np.float32)
        member[np.arange(len(parts)), parts] = 1
        root = np.zeros_like(member)
        rooted = [part for part in range(count) if roots[part] is not None]
        root[[roots[part] for part in rooted], rooted] = 1
        each, all_of = np.eye(coordinates, dtype=np.float32), np.ones((coordinates, 1), np.float32)
        tables = {"member": member, "root": root, "sums": np.kron(member, each), "root_sums": np.kron(root, each),
                  "square_sums": np.kron(member, all_of), "spread": np.kron(member, each).T,
                  "size_spread": np.kron(member, all_of).T}
        for name, table in tables.items():  # they follow from the configuration, so they are no part of the weights
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(table)), persistent=False)

    def forward(self, points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """points [B, T, P, C], zero where not seen; seen [B, T, P] of 0 and 1.

        Returns:
            [B, T, P, C]: root-mean-square distance from the centre 1; and how many points of each part were seen,
            [B, T, K].
        """
        flat = points.flatten(2)
        number = seen @ self.member  # B, T, K
        safe = number.clamp_min(1)
        wrist = (seen @ self.root).unsqueeze(-1)  # 1 where the root was seen
        shape = (*number.shape, points.shape[-1])
        mean = (flat @ self.sums).view(shape) / safe.unsqueeze(-1)
        centre = torch.lerp(mean, (flat @ self.root_sums).view(shape), wrist)
        offset = (points - (centre.flatten(2) @ self.spread).view(points.shape)) * seen.unsqueeze(-1)
        flat = offset.flatten(2)
        size = ((flat.square() @ self.square_sums) / safe).sqrt().clamp_min(SMALL)
        return (flat * (size.reciprocal() @ self.size_spread)).view(points.shape), number


class PartFeatures(nn.Module):
    """Features of all parts: coordinates, relative coordinates, first and second differences, bone directions, and the
    share of the part's points that was seen; every one a row of C numbers, the rows of a part one behind the other.

    Args:
        parts: for each its points, indices into the batch's points, its root first.
        rooted: for each whether its first point is its root (see `RelativePlaces`).
        edges: bones as pairs of indices into the batch's points; those not wholly in a part are left out.
        coordinates: C, how many of x, y, z to use.
    """

    def __init__(self, parts: list[tuple[int, ...]], rooted: list[bool], edges: list[tuple[int, int]],
                 coordinates: int):
        super().__init__()
        self.coordinates = coordinates
        order = [point for part in parts for point in part]
        place = {point: i for i, point in enumerate(order)}
        part_of = {point: k for k, part in enumerate(parts) for point in part}
        bones = sorted(((part_of[a], place[a], place[b]) for a, b in edges if part_of.get(a, -1) == part_of.get(b, -2)),
                       key=lambda bone: bone[0])
        self.sizes = [len(part) for part in parts]
        self.bones = [sum(part == k for part, _, _ in bones) for k in range(len(parts))]
        self.rows = [4 * size + bone + 1 for size, bone in zip(self.sizes, self.bones, strict=True)]
        firsts = [place[part[0]] for part in parts]
        self.relative = RelativePlaces([part_of[point] for point in order],
                                       [first if root else None for first, root in zip(firsts, rooted, strict=True)],
                                       coordinates)
        tables = {"order": order, "starts": [a for _, a, _ in bones], "ends": [b for _, _, b in bones]}
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=torch.long), persistent=False)

    def forward(self, points: Tensor, mask: Tensor, times: Tensor) -> tuple[list[Tensor], Tensor]:
        """points [B, T, P, 3], mask [B, T, P], times [B, T] -> of each part [B, T, rows x C]; presence, bool [B, T, K].
        """
        mask = mask.index_select(2, self.order)
        seen = mask.to(points.dtype)
        place = points.index_select(2, self.order)[..., : self.coordinates] * seen.unsqueeze(-1)
        speed, moving = differences(place, mask, times)
        change, _ = differences(speed, moving, times)
        relative, number = self.relative(place, seen)
        bones = directions(place, mask, self.starts, self.ends).split(self.bones, 2)
        by_part = [values.split(self.sizes, 2) for values in (place, relative, speed, change)]
        sizes = torch.tensor(self.sizes, dtype=number.dtype, device=number.device)
        share = (number / sizes).unsqueeze(-1).expand(*number.shape, self.coordinates).split(1, 2)
        rows = [torch.cat([*(values[k] for values in by_part), bones[k], share[k]], 2).flatten(2)
                for k in range(len(self.sizes))]
        return rows, number > 0
