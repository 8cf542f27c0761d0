"""What a frame's points say beside where they are: motion, shape relative to the part itself, directions of bones.

Shapes: B batch, T frames, P points, K parts, C coordinates (3), E bones. Time comes last in torch's operations: masks
and sums over points and coordinates then run along whole rows in memory, and choosing points copies whole blocks (0.4
of the time with ONNX Runtime, 0.7 with torch, of coordinates last). Everything is zero where a point was not seen, and
depends on a frame and its two neighbours only, so padding changes nothing. No gradient flows back into landmarks: what
is made here is changed in place.

On a CPU all of a part's features are made by one compiled loop (slr_lib.loops), to rounding those of torch, which GPUs
and exports use.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from slr_lib import loops

MOTION_UNIT = 0.1  # seconds: motion is measured per tenth of a second, which is of the order of the coordinates
MOTION_LIMIT = 8.0  # a detector that jumps to another hand makes motion of any size
SMALL = 1e-4


def differences(points: Tensor, seen: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Motion since the frame before, where both frames saw the point; real times, so frame rates compare.

    Args:
        points: [B, P, C, T]; seen: [B, P, T] of 0 and 1, where points are valid; times: [B, T] in seconds.

    Returns:
        [B, P, C, T] change per MOTION_UNIT and where it is valid [B, P, T]; frame 0 has none.
    """
    both = seen[..., 1:] * seen[..., :-1]
    pace = MOTION_UNIT / (times[:, 1:] - times[:, :-1]).clamp_min(MOTION_UNIT / 100)[:, None, None]
    change = (points[..., 1:] - points[..., :-1]).mul_(pace).clamp_(-MOTION_LIMIT, MOTION_LIMIT).mul_(both.unsqueeze(2))
    return functional.pad(change, (1, 0)), functional.pad(both, (1, 0))


def directions(points: Tensor, seen: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
    """Unit vectors along bones, [B, E, C, T]; zero where an end is missing. (Plain differences would add nothing: the
    layer above is linear in the coordinates already.)"""
    bone = points.index_select(1, ends) - points.index_select(1, starts)
    both = seen.index_select(1, ends) * seen.index_select(1, starts)
    return bone.mul_((both / bone.square().sum(2).sqrt().clamp_min(SMALL)).unsqueeze(2))


class RelativePlaces(nn.Module):
    """Each part's points as seen from the part itself: centred on its root, divided by its size in that frame.

    Args:
        parts: [P] the part of each point. roots: for each part the point that it is centred on where that is seen (a
        hand's wrist), or None: its mean.
    """

    def __init__(self, parts: list[int], roots: list[int | None]):
        super().__init__()
        part = torch.tensor(parts)
        # the tables follow from the configuration, so they are no part of the weights
        self.register_buffer("part", part, persistent=False)
        self.register_buffer("member", functional.one_hot(part, len(roots)).T.float().contiguous(), persistent=False)
        self.register_buffer("root", torch.tensor([root or 0 for root in roots]), persistent=False)
        self.register_buffer("rooted", torch.tensor([[float(root is not None)] for root in roots]), persistent=False)

    def forward(self, points: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """points [B, P, C, T], zero where not seen; seen [B, P, T] of 0 and 1.

        Returns:
            [B, P, C, T]: root-mean-square distance from the centre 1; and how many points of each part were seen,
            [B, K, T].
        """
        number = self.member @ seen
        share = number.clamp_min(1).reciprocal()
        mean = (self.member @ points.flatten(2)).unflatten(2, points.shape[2:]) * share.unsqueeze(2)
        has_root = (seen.index_select(1, self.root) * self.rooted).unsqueeze(2)
        centre = mean + (points.index_select(1, self.root) - mean) * has_root  # B, K, C, T
        offset = (points - centre.index_select(1, self.part)).mul_(seen.unsqueeze(2))
        size = ((self.member @ offset.square().sum(2)) * share).sqrt().clamp_min(SMALL)
        return offset.mul_(size.reciprocal().index_select(1, self.part).unsqueeze(2)), number


class PartFeatures(nn.Module):
    """Features of all parts: coordinates, relative coordinates, first and second differences, bone directions, and the
    share of the part's points that was seen; every one a row of C numbers, a frame's rows of a part one behind the
    other.

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
        self.relative = RelativePlaces([part_of[point] for point in order],
                                       [place[part[0]] if root else None
                                        for part, root in zip(parts, rooted, strict=True)])
        first = np.cumsum([0, *self.sizes])
        self.looped = []  # of each part, what loops.part_features takes
        for k, (part, root) in enumerate(zip(parts, rooted, strict=True)):
            members = np.array(part, np.uintp)
            chosen = (3 * members[:, None] + np.arange(3, dtype=np.uintp)).reshape(-1)
            starts, ends = (3 * np.array([bone[end] - first[k] for bone in bones if bone[0] == k], np.uintp)
                            for end in (1, 2))
            self.looped.append((members, chosen, root, starts, ends))
        tables = {"order": order, "starts": [a for _, a, _ in bones], "ends": [b for _, _, b in bones]}
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=torch.long), persistent=False)
        self.register_buffer("count", torch.tensor(self.sizes, dtype=torch.float32)[:, None], persistent=False)

    def forward(self, points: Tensor, mask: Tensor, times: Tensor,
                dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
        """Of each part [B, T, rows x C], and its presence, bool [B, T, K].

        Args:
            points: [B, T, P, 3]; mask: [B, T, P]; times: [B, T] seconds; dtype: of the features, float32 or bfloat16.
        """
        able = self.coordinates == 3 and points.dtype == torch.float32 and dtype in (torch.float32, torch.bfloat16)
        if able and points.is_cpu and not torch.compiler.is_compiling():
            given = (tensor.detach().contiguous().numpy() for tensor in (points, mask, times))
            rows, present = self._by_loops(*given, np.float32 if dtype == torch.float32 else np.uint16)
            return [torch.from_numpy(row).view(dtype) for row in rows], torch.from_numpy(present)
        place = points[..., : self.coordinates].permute(0, 2, 3, 1).index_select(1, self.order)
        seen = mask.transpose(1, 2).to(points.dtype).index_select(1, self.order)
        place.mul_(seen.unsqueeze(2))
        speed, moving = differences(place, seen, times)
        change, _ = differences(speed, moving, times)
        relative, number = self.relative(place, seen)
        bones = directions(place, seen, self.starts, self.ends).split(self.bones, 1)
        by_part = [values.split(self.sizes, 1) for values in (place, relative, speed, change)]
        share = (number / self.count).unsqueeze(2).expand(-1, -1, self.coordinates, -1).split(1, 1)
        rows = [torch.cat([*(values[k] for values in by_part), bones[k], share[k]], 1).flatten(1, 2)
                for k in range(len(self.sizes))]
        return [row.transpose(1, 2).to(dtype).contiguous() for row in rows], (number > 0).transpose(1, 2)

    def of_arrays(self, points: np.ndarray, mask: np.ndarray, times: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """`forward` from and to NumPy arrays, float32: for one clip torch's calls take as long as a part's loop."""
        if self.coordinates == 3:
            return self._by_loops(points, mask, times, np.float32)
        rows, present = self(*(torch.from_numpy(array) for array in (points, mask, times)))
        return [row.numpy() for row in rows], present.numpy()

    def _by_loops(self, points: np.ndarray, mask: np.ndarray, times: np.ndarray,
                  kind: type) -> tuple[list[np.ndarray], np.ndarray]:
        """The same by compiled loops, on as many threads as torch has; kind: float32, or uint16 for bfloat16's bits."""
        count, frames = points.shape[:2]
        given = points.reshape(count, frames, -1), mask, times
        made = [np.empty((count, frames, rows * self.coordinates), kind) for rows in self.rows]
        present = np.empty((len(made), count, frames), bool)
        constants = [np.float32(value) for value in (MOTION_UNIT, MOTION_LIMIT, SMALL)]
        nothing = np.empty((0, 0, 0), np.uint16 if kind == np.float32 else np.float32)

        def fill(clips: range) -> None:
            some = slice(clips.start, clips.stop)
            for k, array in enumerate(made):
                filled = (array[some], nothing) if kind == np.float32 else (nothing, array[some])
                loops.part_features(*(array[some] for array in given), *self.looped[k], *constants, *filled,
                                    present[k, some])

        loops.in_threads(fill, count, torch.get_num_threads())
        return made, present.transpose(1, 2, 0)
