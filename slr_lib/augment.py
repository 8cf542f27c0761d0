"""Augmentation of a batch of clips, before its points are divided by statistics: pure, and seeded by a torch.Generator.

Every function takes a padded Batch and returns a new one; none looks at padding, and missing points stay missing.
Vocabulary of the first places of Kaggle GISLR 2023 (1st: resampling, mirror with side swap, affine, masks; 2nd and
3rd: exchange of parts between clips of a sign; 8th: parts cut out for a time); fingers bend as arms do in SPOTER
(Boháček and Hrúz 2022).

B clips, T frames, P points.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from slr_lib import loops
from slr_lib.errors import InputError
from slr_lib.skeleton import Skeleton


class Batch(NamedTuple):
    """points float32 [B, T, P, 3], zero where missing; mask bool [B, T, P], point seen; frames bool [B, T], no padding,
    a clip's frames first; times float32 [B, T] seconds; labels int64 [B]."""

    points: Tensor
    mask: Tensor
    frames: Tensor
    times: Tensor
    labels: Tensor


class Noise(NamedTuple):
    """Error of detection in one kind of part: spread of the offset that the part's points share, and of each point's
    own, in units of the body; the seconds in which its correlation falls to 1 / e."""

    shared: float
    own: float
    seconds: float


# extracted minus true, on the demo corpus's 168 clips at 15 frames a second: `python benchmarks/noise.py`. Offset and
# own error forget about equally soon (hand 0.48 and 0.38 s, face 0.29 and 0.27, body 0.31 and 0.39): their mean
NOISE = {
    "hand": Noise(shared=0.0083, own=0.0081, seconds=0.43),
    "face": Noise(shared=0.0017, own=0.0010, seconds=0.28),
    "body": Noise(shared=0.0079, own=0.0136, seconds=0.35),
}


# MediaPipe guesses depth, of each part by itself: turned far, a clip falls apart. What a depth camera measures is
# what another camera would have seen. Chosen on isl_kinect30's validation signers: reports/log.md, 2026-11-27
MEASURED_TURN = 3


@dataclass(frozen=True)
class AugmentSettings:
    """How much of what. Shares and chances lie between 0 and 1; ranges are drawn evenly from [-x, x] unless said.

    tempo: a clip gets 1 / (1 + tempo) to 1 + tempo times its frames (evenly in the logarithm); crop: up to this share
    is cut off its ends; mirror: chance; scale: of both axes; stretch: of x against y; shear; shift: in units of the
    body; rotation: in the picture, degrees; turn: about the vertical and the sideways axis, degrees, MEASURED_TURN
    times as many where depth is measured; bend: degrees by which a finger's bone turns against the one before it,
    bones: logarithm of how much longer it gets, both spreads of normal numbers, the same in all frames of a clip;
    hide_time: chance to hide a stretch of hide_longest of the frames at most; hide_part: chance to hide one part for
    part_longest of the frames at most; exchange: chance to take the face from another clip of the sign; noise: times
    the error that detection makes (NOISE).
    """

    tempo: float = 0.0
    crop: float = 0.0
    mirror: float = 0.0
    scale: float = 0.0
    stretch: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    turn: float = 0.0
    bend: float = 0.0
    bones: float = 0.0
    hide_time: float = 0.0
    hide_longest: float = 0.4
    hide_part: float = 0.0
    part_longest: float = 0.5
    exchange: float = 0.0
    noise: float = 0.0


STRENGTHS = {
    "none": AugmentSettings(),
    "weak": AugmentSettings(tempo=0.2, crop=0.05, mirror=0.5, scale=0.1, stretch=0.1, shear=0.05, shift=0.1, rotation=8,
                            turn=5, bend=2, bones=0.04, hide_time=0.2, hide_longest=0.2, hide_part=0.1,
                            part_longest=0.3, noise=0.5),
    "strong": AugmentSettings(tempo=0.5, crop=0.1, mirror=0.5, scale=0.2, stretch=0.25, shear=0.15, shift=0.25,
                              rotation=20, turn=15, bend=4, bones=0.08, hide_time=0.5, hide_longest=0.4, hide_part=0.3,
                              part_longest=0.6, exchange=0.25, noise=1.0),
}


def augmentation(strength: str, **values: float) -> AugmentSettings | None:
    """The settings of a strength, some of them replaced by `values`; None where nothing is to be done.

    Raises:
        InputError: unknown strength or setting.
    """
    if strength not in STRENGTHS:
        raise InputError(f"augmentation: {strength!r} is none of {', '.join(STRENGTHS)}.")
    known = vars(STRENGTHS[strength])
    for name in values:
        if name not in known:
            raise InputError(f"augmentation: {name} is none of its settings {', '.join(known)}.")
    settings = AugmentSettings(**{**vars(STRENGTHS[strength]), **values})
    return None if settings == STRENGTHS["none"] else settings


def augment(batch: Batch, skeleton: Skeleton, settings: AugmentSettings, mirrored: Tensor, generator: Generator,
            longest: int, tempo_draws: Tensor, partners: Batch | None = None) -> Batch:
    """All of `settings`, in an order in which nothing undoes another.

    Args:
        batch: in units of the body, not yet divided by statistics. mirrored: bool [B], clips that may be mirrored.
        longest: frames that no clip may exceed. tempo_draws: of `change_tempo`. partners: for each clip another of its
        sign, in as many frames.
    """
    if partners is not None and settings.exchange:
        batch = exchange_faces(batch, partners, skeleton, settings.exchange, generator)
    if settings.tempo or settings.crop:
        batch = change_tempo(batch, settings.tempo, settings.crop, tempo_draws, longest)
    if settings.mirror:
        chosen = mirrored & (torch.rand(len(mirrored), generator=generator) < settings.mirror)
        batch = mirror(batch, skeleton, chosen)
    if any((settings.scale, settings.stretch, settings.shear, settings.shift, settings.rotation, settings.turn)):
        far = MEASURED_TURN if depth_measured(batch, skeleton) else 1
        batch = move(batch, *_transforms(len(mirrored), replace(settings, turn=far * settings.turn), generator))
    if settings.bend or settings.bones:
        batch = reshape_hands(batch, skeleton, settings.bend, settings.bones, generator)
    if settings.noise:
        batch = scatter(batch, skeleton, settings.noise, generator)
    if settings.hide_time:
        batch = hide_frames(batch, settings.hide_time, settings.hide_longest, generator)
    if settings.hide_part:
        batch = hide_parts(batch, skeleton, settings.hide_part, settings.part_longest, generator)
    return batch


def mirror(batch: Batch, skeleton: Skeleton, chosen: Tensor) -> Batch:
    """Swap left and right of every part and negate x of the clips `chosen`, bool [B]. Twice restores the batch."""
    where = chosen.nonzero().squeeze(1)
    twins = torch.tensor(skeleton.mirror)
    points, mask = batch.points.clone(), batch.mask.clone()
    points[where] = batch.points[where].index_select(2, twins).mul_(torch.tensor([-1.0, 1.0, 1.0]))
    mask[where] = batch.mask[where].index_select(2, twins)
    return batch._replace(points=points, mask=mask)


def change_tempo(batch: Batch, tempo: float, crop: float, draws: Tensor, longest: int) -> Batch:
    """Cut up to `crop` of each clip's length off its ends and resample the rest to between 1 / (1 + tempo) and
    1 + tempo times as many frames, at most `longest`; times stretch with them, so that a slow clip is a slow sign.

    Args:
        draws: [3, B], evenly from [0, 1): how much is cut, how much of it in front, how the tempo changes.
    """
    frames = batch.frames.sum(1)
    kept, factor, wanted = changed_lengths(frames, tempo, crop, draws, longest)
    start = ((frames - 1).float() - kept) * draws[1]
    return resample(batch, start, kept, wanted, factor)


def changed_lengths(frames: Tensor, tempo: float, crop: float, draws: Tensor, longest: int) -> tuple[Tensor, ...]:
    """What `change_tempo` makes of clips of `frames` [B] frames: the way from the first kept frame to the last, in
    frames; the factor by which their time stretches; the new number of frames. Each [B]."""
    kept = (frames - 1).float() * (1 - crop * draws[0])
    factor = torch.exp((2 * draws[2] - 1) * math.log1p(tempo))
    wanted = (kept * factor + 1).round().long().clamp(min=2, max=longest)
    return kept, factor, torch.where(frames > 1, wanted, frames)


def resample(batch: Batch, start: Tensor, length: Tensor, frames: Tensor, factor: Tensor) -> Batch:
    """Clips read anew at evenly spaced places, by linear interpolation.

    Args:
        start, length: [B] first place and way to the last, in frames of the old clip. frames: int64 [B] of the new one.
        factor: [B] by which its time is stretched.

    Returns:
        A batch as long as the longest clip. A point is seen where it was seen in both old frames about it, or in the
        nearer one alone, whose place it then takes.
    """
    new = int(frames.max())
    steps = torch.arange(new, device=frames.device)
    fresh = steps < frames[:, None]  # B, T
    places = start[:, None] + length[:, None] * (steps / (frames[:, None] - 1).clamp_min(1)).clamp(max=1)
    old = batch.frames.sum(1, keepdim=True)
    places = places.clamp_min(0).minimum((old - 1).float())
    before = places.floor().long()
    after = (before + 1).minimum(old - 1)
    share = places - before
    rows = torch.arange(len(frames), device=frames.device)[:, None] * batch.points.shape[1]
    left, right = (rows + before).flatten(), (rows + after).flatten()
    shape = (len(frames), new, batch.mask.shape[2])
    old_points, old_mask = batch.points.flatten(0, 1).flatten(1), batch.mask.flatten(0, 1)
    a, b = old_points.index_select(0, left), old_points.index_select(0, right)
    seen_a, seen_b = old_mask.index_select(0, left).view(shape), old_mask.index_select(0, right).view(shape)
    points = torch.lerp(a, b, share.view(-1, 1)).view(*shape, 3)
    mask = torch.where((share < 0.5)[..., None], seen_a, seen_b)
    # seen in one of the frames alone: the other's place is zero, so that their sum is the place itself
    alone = (mask & (seen_a != seen_b)).flatten().nonzero().squeeze(1)
    points.view(-1, 3)[alone] = a.view(-1, 3)[alone] + b.view(-1, 3)[alone]
    mask &= fresh[..., None]
    points = _cleared(points, mask)
    times = batch.times.flatten()
    times = torch.lerp(times[left], times[right], share.flatten()).view(shape[:2])
    times = (times - times[:, :1]) * factor[:, None] * fresh
    return Batch(points, mask, fresh, times, batch.labels)


def move(batch: Batch, matrices: Tensor, shifts: Tensor) -> Batch:
    """Points times matrices [B, 3, 3] (a row vector from the left) plus shifts [B, 3]."""
    points = torch.baddbmm(shifts[:, None], batch.points.flatten(1, 2), matrices).view(batch.points.shape)
    return batch._replace(points=_cleared(points, batch.mask))


def depth_measured(batch: Batch, skeleton: Skeleton) -> bool:
    """Whether the clips have depth on one scale with x and y, as a depth camera's and a motion capture's have."""
    return not skeleton.depth_by_part and bool(batch.points[..., 2].any())


def _transforms(count: int, settings: AugmentSettings, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random matrices [B, 3, 3] (turn in space, rotation in the picture, shear, stretch, scale) and shifts [B, 3]."""
    draws = torch.rand(count, 8, generator=generator) * 2 - 1
    zero, one = torch.zeros(count), torch.ones(count)

    def matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return torch.stack([torch.stack(row, 1) for row in rows], 1)

    roll, yaw, pitch = (draws[:, i] * math.radians(most) for i, most in
                        enumerate((settings.rotation, settings.turn, settings.turn)))
    in_plane = matrix((roll.cos(), roll.sin(), zero), (-roll.sin(), roll.cos(), zero), (zero, zero, one))
    sideways = matrix((yaw.cos(), zero, -yaw.sin()), (zero, one, zero), (yaw.sin(), zero, yaw.cos()))
    nod = matrix((one, zero, zero), (zero, pitch.cos(), pitch.sin()), (zero, -pitch.sin(), pitch.cos()))
    size = torch.exp(draws[:, 3] * math.log1p(settings.scale))
    half = torch.exp(draws[:, 4] * math.log1p(settings.stretch) / 2)
    sheared = matrix((size * half, zero, zero), (draws[:, 5] * settings.shear, size / half, zero), (zero, zero, size))
    shifts = torch.stack((draws[:, 6] * settings.shift, draws[:, 7] * settings.shift, zero), 1)
    return sideways @ nod @ in_plane @ sheared, shifts


def reshape_hands(batch: Batch, skeleton: Skeleton, bend: float, bones: float, generator: Generator) -> Batch:
    """Give each clip other fingers: every bone of a hand turns in the picture and gets longer or shorter, and what
    hangs on it goes along. Where a point of a hand is missing, the hand stays as it is.

    Args:
        bend, bones: as of AugmentSettings.
    """
    if not skeleton.hands:
        return batch
    points = batch.points.clone()
    for part in skeleton.hands:
        order, before, way = _tree(part.points, skeleton.edges)
        angle, length = torch.randn(2, len(batch.labels), len(order), generator=generator)
        angle, length = (angle * math.radians(bend)) @ way.T, torch.exp(length * bones)
        turns = torch.stack((length * angle.cos(), length * angle.sin(), length), 2)
        loops.hang(batch.points.numpy(), batch.mask.numpy(), order, before, turns.numpy(), points.numpy())
    return batch._replace(points=points)


@functools.lru_cache(maxsize=8)
def _tree(points: tuple[int, ...], edges: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """A part as a tree that hangs on its first point: its points [J], each behind the one that it hangs on; those,
    [J]; and which bones lie on the way to a point, float [J, J], a bone being named by its end. A point that no edge
    leads to hangs on the first."""
    order, before = [points[0]], {points[0]: points[0]}
    for point in order:  # grows meanwhile
        near = {b if a == point else a for a, b in edges if point in (a, b)}
        order += [other for other in points if other in near and other not in before]
        before |= {other: point for other in near & set(points) - set(before)}
    order += [point for point in points if point not in before]
    way = torch.zeros(len(order), len(order))
    for number, point in enumerate(order[1:], 1):
        way[number] = way[order.index(before.setdefault(point, points[0]))]
        way[number, number] = 1
    return np.array(order), np.array([before[point] for point in order]), way


def scatter(batch: Batch, skeleton: Skeleton, noise: float, generator: Generator) -> Batch:
    """Add `noise` times the error that detection makes: every part wanders as a whole, and each of its points about it.

    In z as much as was measured in x and y: what MediaPipe guesses there has no truth on a drawing. Clips share a pool
    of it, each from another frame and as it is or negative: drawing it is most of the cost.
    """
    clips, frames, count, _ = batch.points.shape
    length = frames + frames // 2
    gap = batch.times.amax(1).sum() / (batch.frames.sum() - clips).clamp_min(1)  # seconds between frames, on average
    pool = torch.zeros(2, length, count, 3)
    for kind, (shared, own, seconds) in NOISE.items():
        parts = [part for part in skeleton.parts if part.kind == kind]
        points = [point for part in parts for point in part.points]
        owners = [number for number, part in enumerate(parts) for _ in part.points]
        error = _wandering(length, len(points) + len(parts), gap / seconds, generator).mul_(noise)
        pool[0, :, points] = error[:, len(parts):].mul_(own) + error[:, owners].mul_(shared)
    torch.neg(pool[0], out=pool[1])
    starts = torch.randint(length - frames + 1, (clips,), generator=generator)
    starts += length * torch.randint(2, (clips,), generator=generator)
    drawn = pool.flatten().unfold(0, batch.points[0].numel(), 3 * count).index_select(0, starts)
    return batch._replace(points=_cleared(drawn.view(batch.points.shape).add_(batch.points), batch.mask))


def _wandering(frames: int, count: int, step: Tensor, generator: Generator) -> Tensor:
    """Normal numbers [frames, count, 3] of spread 1 whose correlation falls by exp(-step) from frame to frame (an
    Ornstein-Uhlenbeck process): white noise times the triangular matrix of what is left of it."""
    step = step.clamp(1e-4, 10)
    white = torch.randn(frames, count * 3, generator=generator)
    white[1:] *= (1 - torch.exp(-2 * step)).sqrt()
    left = torch.cat((torch.zeros(frames - 1), torch.exp(-step * torch.arange(frames))))
    return (left.unfold(0, frames, 1).flip(1) @ white).view(frames, count, 3)


def hide_frames(batch: Batch, chance: float, longest: float, generator: Generator) -> Batch:
    """Hide everything in one stretch of some clips. The frames stay frames: nothing was detected in them."""
    hidden = _stretches(batch, chance, longest, generator)
    return _hidden(batch, hidden[..., None].expand(batch.mask.shape))


def hide_parts(batch: Batch, skeleton: Skeleton, chance: float, longest: float, generator: Generator) -> Batch:
    """Hide one part of some clips, in one stretch; a clip's only part is never hidden."""
    if len(skeleton.parts) < 2:
        return batch
    members = torch.zeros(len(skeleton.parts), len(skeleton.points), dtype=torch.bool)
    for number, part in enumerate(skeleton.parts):
        members[number, list(part.points)] = True
    chosen = members[torch.randint(len(skeleton.parts), (len(batch.labels),), generator=generator)]  # B, P
    hidden = _stretches(batch, chance, longest, generator)
    return _hidden(batch, hidden[..., None] & chosen[:, None])


def exchange_faces(batch: Batch, partners: Batch, skeleton: Skeleton, chance: float, generator: Generator) -> Batch:
    """Give some clips the face of their partners: another signer's mouth and brows, of the same sign."""
    faces = torch.zeros(len(skeleton.points), dtype=torch.bool)
    faces[[point for part in skeleton.parts if part.kind == "face" for point in part.points]] = True
    chosen = torch.rand(len(batch.labels), generator=generator) < chance
    taken = chosen[:, None, None] & batch.frames[..., None] & faces
    return batch._replace(points=torch.where(taken[..., None], partners.points, batch.points),
                          mask=torch.where(taken, partners.mask, batch.mask))


def _stretches(batch: Batch, chance: float, longest: float, generator: Generator) -> Tensor:
    """Bool [B, T]: for some clips one stretch of up to `longest` of their frames."""
    draws = torch.rand(3, len(batch.labels), 1, generator=generator)
    frames = batch.frames.sum(1, keepdim=True)
    length = (frames * longest * draws[0]).round()
    start = ((frames - length) * draws[1]).round()
    place = torch.arange(batch.frames.shape[1])
    return (place >= start) & (place < start + length) & (draws[2] < chance) & batch.frames


def _hidden(batch: Batch, hidden: Tensor) -> Batch:
    mask = batch.mask & ~hidden
    return batch._replace(points=batch.points * mask.to(batch.points.dtype)[..., None], mask=mask)


def _cleared(points: Tensor, mask: Tensor) -> Tensor:
    """Zero where missing. In place: for tensors just made. (A product is four times as fast as masked_fill here.)"""
    return points.mul_(mask.to(points.dtype)[..., None])
