"""Augmentation: the mirror above all, and that nothing touches padding, masks, order or another clip."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slr_lib.augment import (
    MEASURED_TURN,
    NOISE,
    STRENGTHS,
    AugmentSettings,
    Batch,
    augment,
    augmentation,
    change_tempo,
    exchange_faces,
    hide_frames,
    hide_parts,
    mirror,
    move,
    resample,
    reshape_hands,
    scatter,
)
from slr_lib.errors import InputError
from slr_lib.skeleton import HANDS, HOLISTIC

SKELETON = HOLISTIC.select()[0]
LENGTHS = [7, 24, 1, 16]


def made(lengths=LENGTHS, skeleton=SKELETON, seed: int = 0, padding: int = 3) -> Batch:
    """Random clips; a hand of each is missing now and then."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.arange(max(lengths) + padding) < torch.tensor(lengths)[:, None]
    points = torch.randn(*frames.shape, len(skeleton.points), 3, generator=generator)
    mask = torch.ones(points.shape[:3], dtype=torch.bool)
    for part in skeleton.hands:
        mask[:, :, list(part.points)] &= (torch.rand(frames.shape, generator=generator) < 0.7)[..., None]
    mask &= frames[..., None]
    times = (0.02 + 0.03 * torch.rand(frames.shape, generator=generator)).cumsum(1)
    times = (times - times[:, :1]) * frames
    return Batch(points * mask[..., None], mask, frames, times, torch.arange(len(lengths)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int = 0, count: int = 4) -> torch.Tensor:
    """Of change_tempo."""
    return torch.rand(3, count, generator=generator(seed))


def equal(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def sound(batch: Batch) -> bool:
    """Zero where missing, nothing seen in padding, times that rise from zero."""
    lengths = batch.frames.sum(1)
    first = torch.arange(batch.frames.shape[1]) < lengths[:, None]
    gaps = batch.times.diff(dim=1)[batch.frames[:, 1:]]
    return bool((batch.points[~batch.mask] == 0).all() and not batch.mask[~batch.frames].any() and (lengths > 0).all()
                and torch.equal(first, batch.frames) and (gaps >= 0).all() and (batch.times[:, 0] == 0).all()
                and (batch.times[~batch.frames] == 0).all() and torch.isfinite(batch.points).all())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 99), st.sampled_from([SKELETON, HANDS]))
def test_mirroring_twice_restores_points_and_masks(lengths, seed, skeleton):
    batch = made(lengths, skeleton, seed)
    chosen = torch.ones(len(lengths), dtype=torch.bool)
    once = mirror(batch, skeleton, chosen)
    assert equal(mirror(once, skeleton, chosen), batch) and sound(once)


def test_mirroring_swaps_the_sides_of_every_part_with_their_masks():
    batch = made()
    turned = mirror(batch, SKELETON, torch.tensor([True, False, True, True]))
    assert torch.equal(turned.points[1], batch.points[1]) and torch.equal(turned.mask[1], batch.mask[1])
    for name, twin in (("left_hand_thumb_tip", "right_hand_thumb_tip"), ("pose_left_elbow", "pose_right_elbow"),
                       ("face_61", "face_291"), ("face_13", "face_13"), ("pose_nose", "pose_nose")):
        here, there = SKELETON.index(name), SKELETON.index(twin)
        assert torch.equal(turned.mask[0, :, here], batch.mask[0, :, there])
        flipped = batch.points[0, :, there] * torch.tensor([-1.0, 1.0, 1.0])
        assert torch.equal(turned.points[0, :, here], flipped)


def test_signs_that_must_not_be_mirrored_never_are():
    batch = made([20] * 64)
    allowed = torch.arange(64) % 2 == 0
    out = augment(batch, SKELETON, AugmentSettings(mirror=1.0), allowed, generator(), 64, draws(0, 64))
    assert torch.equal(out.points[~allowed], batch.points[~allowed])
    assert all(not torch.equal(out.points[i], batch.points[i]) for i in range(0, 64, 2))


def test_clips_are_turned_farther_where_depth_is_measured():
    """Points on a circle about the vertical, seen from above: what angle they all turn by."""
    angles = torch.linspace(0, 2 * math.pi, len(SKELETON.points) + 1)[:-1]
    circle = torch.stack((angles.cos(), torch.zeros_like(angles), angles.sin()), 1)
    batch = made([1] * 400, padding=0)
    batch = batch._replace(points=circle.expand(400, 1, -1, 3).clone(), mask=torch.ones_like(batch.mask))
    measured = dataclasses.replace(SKELETON, depth_by_part=False)
    flat = batch._replace(points=batch.points * torch.tensor([1.0, 1.0, 0.0]))

    def widest(batch: Batch, skeleton) -> float:
        """Degrees; the circle's first point is where x was 1 and keeps the cosine of its turn about the vertical."""
        turned = augment(batch, skeleton, AugmentSettings(turn=10.0), torch.zeros(400, dtype=torch.bool), generator(),
                         64, draws(0, 400))
        return math.degrees(torch.acos(turned.points[:, 0, 0, 0]).max())

    assert 9 < widest(batch, SKELETON) <= 10.01
    assert 9 * MEASURED_TURN < widest(batch, measured) <= 10.01 * MEASURED_TURN
    assert 9 < widest(flat, measured) <= 10.01  # no depth at all: a far turn would only squeeze the picture


@pytest.mark.parametrize("strength", ["weak", "strong"])
def test_the_seed_alone_decides_and_the_input_stays(strength):
    batch = made()
    before = Batch(*(value.clone() for value in batch))
    allowed = torch.ones(4, dtype=torch.bool)
    first, second, other = (augment(batch, SKELETON, STRENGTHS[strength], allowed, generator(seed), 32, draws(seed),
                                    made(seed=5)) for seed in (1, 1, 2))
    assert equal(first, second) and equal(batch, before) and sound(first)
    assert first.points.shape != other.points.shape or not torch.equal(first.points, other.points)
    assert torch.equal(first.labels, batch.labels) and first.frames.sum(1).max() <= 32


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 9))
def test_padding_changes_nothing(seed, padding):
    """The same clips behind more padding give the same clips."""
    chosen = dataclasses.replace(STRENGTHS["strong"], noise=0.0, exchange=0.0)  # their draws depend on the shape
    allowed = torch.ones(4, dtype=torch.bool)
    one = augment(made(padding=0), SKELETON, chosen, allowed, generator(seed), 64, draws(seed))
    base = made(padding=0)
    longer = Batch(*(torch.nn.functional.pad(value, (*[0, 0] * (value.dim() - 2), 0, padding))
                     for value in base[:4]), base.labels)
    two = augment(longer, SKELETON, chosen, allowed, generator(seed), 64, draws(seed))
    assert torch.equal(one.frames, two.frames[:, : one.frames.shape[1]])
    torch.testing.assert_close(one.points, two.points[:, : one.points.shape[1]])
    assert not two.frames[:, one.frames.shape[1]:].any()


def test_resampling_to_as_many_frames_changes_nothing():
    batch = made(padding=0)
    frames = batch.frames.sum(1)
    out = resample(batch, torch.zeros(4), (frames - 1).float(), frames, torch.ones(4))
    assert torch.equal(out.mask, batch.mask) and torch.equal(out.frames, batch.frames)
    torch.testing.assert_close(out.points, batch.points)
    torch.testing.assert_close(out.times, batch.times)


def test_resampling_interpolates_places_and_stretches_times():
    frames, steps = 5, torch.arange(5.0)
    points = steps.view(1, 5, 1, 1).expand(1, 5, 42, 3).clone()
    batch = Batch(points, torch.ones(1, 5, 42, dtype=torch.bool), torch.ones(1, 5, dtype=torch.bool), steps[None] / 30,
                  torch.zeros(1, dtype=torch.long))
    out = resample(batch, torch.zeros(1), torch.tensor([4.0]), torch.tensor([2 * frames - 1]), torch.tensor([2.0]))
    torch.testing.assert_close(out.points[0, :, 0, 0], torch.arange(9) / 2)
    torch.testing.assert_close(out.times[0], torch.arange(9) / 30)


def test_a_hand_seen_in_one_of_two_frames_is_taken_from_there_or_left_out():
    points = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 42, 3).clone()
    mask = torch.tensor([True, False]).view(1, 2, 1).expand(1, 2, 42)
    batch = Batch(points, mask, torch.ones(1, 2, dtype=torch.bool), torch.tensor([[0.0, 0.1]]), torch.zeros(1).long())
    out = resample(batch, torch.zeros(1), torch.ones(1), torch.tensor([5]), torch.ones(1))
    assert out.mask[0, :, 0].tolist() == [True, True, False, False, False]
    assert out.points[0, :, 0, 0].tolist() == [3.0, 3.0, 0.0, 0.0, 0.0]  # never a place half way to nowhere


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_tempo_keeps_within_its_bounds(seed):
    batch = made([40] * 8, HANDS)
    out = change_tempo(batch, 0.5, 0.1, draws(seed, 8), 48)
    lengths = out.frames.sum(1)
    assert lengths.max() <= 48 and lengths.min() >= 40 * 0.9 / 1.5 - 1 and sound(out)
    span, old = out.times.amax(1), batch.times.amax(1)
    assert (span <= old * 1.5 + 1e-4).all() and (span >= old * 0.9 / 1.5 * 0.8).all()


def test_moves_are_affine_and_leave_missing_points():
    batch = made()
    matrices, shifts = torch.eye(3).repeat(4, 1, 1) * 2, torch.tensor([[1.0, 0, 0]] * 4)
    out = move(batch, matrices, shifts)
    assert sound(out)
    torch.testing.assert_close(out.points[batch.mask], batch.points[batch.mask] * 2 + torch.tensor([1.0, 0, 0]))


def test_turns_and_rotations_keep_distances():
    batch = made()
    out = augment(batch, SKELETON, AugmentSettings(rotation=30, turn=20), torch.ones(4, dtype=torch.bool), generator(),
                  64, draws())
    seen = batch.mask[:, :, 0] & batch.mask[:, :, 1]

    def bones(points):
        return (points[:, :, 0] - points[:, :, 1]).norm(dim=-1)[seen]

    torch.testing.assert_close(bones(out.points), bones(batch.points))
    assert not torch.allclose(out.points, batch.points)


def errors_of_still_clips(noise: float, clips: int = 24, skeleton=SKELETON) -> torch.Tensor:
    """What `scatter` adds: [clips, 128 frames at 30 a second, P, 3]."""
    shape = (clips, 128, len(skeleton.points))
    mask, frames = torch.ones(shape, dtype=torch.bool), torch.ones(shape[:2], dtype=torch.bool)
    times = (torch.arange(128) / 30).expand(shape[:2])
    batch = Batch(torch.zeros(*shape, 3), mask, frames, times, torch.zeros(clips).long())
    return torch.cat([scatter(batch, skeleton, noise, generator(seed)).points for seed in range(8)])


@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_the_measured_one(kind):
    """The spread of a part's offset and of its points about it, and how soon either forgets."""
    part = next(part for part in SKELETON.parts if part.kind == kind)
    error = errors_of_still_clips(1.0)[:, :, list(part.points)]
    offset, points = error.mean(2, keepdim=True), len(part.points)
    measured, lag = NOISE[kind], 6
    # the mean over the points keeps a little of what is each point's own
    spread = (measured.shared**2 + measured.own**2 / points) ** 0.5
    assert offset.std().item() == pytest.approx(spread, rel=0.1)
    own = error - offset
    assert own.std().item() == pytest.approx(measured.own * (1 - 1 / points) ** 0.5, rel=0.05)
    for value in (offset, own):
        kept = (value[:, lag:] * value[:, :-lag]).mean() / value.square().mean()
        assert kept.item() == pytest.approx(math.exp(-lag / 30 / measured.seconds), abs=0.1)


def test_noise_grows_with_its_setting_and_differs_between_clips_and_parts():
    error = errors_of_still_clips(1.0)
    torch.testing.assert_close(errors_of_still_clips(2.0), 2 * error)
    left, right = (error[:, :, list(SKELETON.part(f"{side}_hand").points)].mean(2).flatten() for side in
                   ("left", "right"))
    assert torch.corrcoef(torch.stack((left, right)))[0, 1].abs() < 0.2
    assert not torch.equal(error[0], error[1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(0, 99), st.sampled_from([SKELETON, HANDS]))
def test_noise_leaves_missing_points_padding_and_masks(lengths, seed, skeleton):
    batch = made(lengths, skeleton, seed)
    out = scatter(batch, skeleton, 1.0, generator(seed))
    assert sound(out) and equal(batch._replace(points=out.points), out)
    assert equal(scatter(batch, skeleton, 1.0, generator(seed)), out)
    assert (out.points != batch.points)[batch.mask].any() or not batch.mask.any()


def test_hidden_frames_are_one_stretch_and_stay_frames():
    batch = made([40] * 32, HANDS)
    out = hide_frames(batch, 1.0, 0.4, generator())
    hidden = ~out.mask.any(2) & batch.mask.any(2)
    assert torch.equal(out.frames, batch.frames) and sound(out)
    assert hidden.any() and (hidden.sum(1) <= 16).all()
    assert torch.equal(out.points[out.mask], batch.points[out.mask])


def test_hidden_parts_are_one_part_a_clip():
    batch = made([40] * 64, SKELETON)
    out = hide_parts(batch, SKELETON, 1.0, 0.5, generator())
    changed = (out.mask != batch.mask).any(1)  # B, P
    parts = torch.stack([changed[:, list(part.points)].any(1) for part in SKELETON.parts], 1)
    assert sound(out) and (parts.sum(1) <= 1).all() and parts.any(0).all()
    assert equal(hide_parts(batch, SKELETON, 0.0, 0.5, generator()), batch)


def test_exchanged_faces_come_from_the_partner_and_nothing_else_does():
    batch, partners = made(), made(seed=9)
    out = exchange_faces(batch, partners, SKELETON, 1.0, generator())
    face = [p for part in SKELETON.parts if part.kind == "face" for p in part.points]
    rest = [p for p in range(len(SKELETON.points)) if p not in face]
    assert torch.equal(out.points[:, :, face], partners.points[:, :, face]) and sound(out)
    assert torch.equal(out.points[:, :, rest], batch.points[:, :, rest])


def test_strengths_from_plain_keys():
    assert augmentation("none") is None
    assert augmentation("none", mirror=0.5) == AugmentSettings(mirror=0.5)
    assert augmentation("strong", noise=0.0) == dataclasses.replace(STRENGTHS["strong"], noise=0.0)
    with pytest.raises(InputError, match="'medium' is none of none, weak, strong"):
        augmentation("medium")
    with pytest.raises(InputError, match="flip is none of its settings"):
        augmentation("weak", flip=0.5)


def test_other_fingers_keep_the_wrist_the_bones_and_all_else():
    batch = made()
    bent = reshape_hands(batch, SKELETON, 30, 0.0, generator())
    moved = (bent.points != batch.points).any(3)
    of_hands = [point for part in SKELETON.hands for point in part.points[1:]]
    whole = torch.stack([batch.mask[:, :, list(part.points)].all(2) for part in SKELETON.hands], 2)
    assert moved[:, :, of_hands].unflatten(2, (2, 20))[whole].all(), "every joint of a whole hand"
    moved[:, :, of_hands] = False
    assert not moved.any()
    for part in SKELETON.hands:
        for joint in range(1, 21):
            if joint % 4 != 1:  # a finger has four, of which the first one hangs on the palm
                a, b = part.points[joint - 1], part.points[joint]
                before, after = ((one.points[:, :, b] - one.points[:, :, a]).norm(dim=2) for one in (batch, bent))
                assert torch.allclose(before, after, atol=1e-5)
    assert equal(bent._replace(points=batch.points), batch)


def test_other_fingers_are_the_same_in_all_frames_of_a_clip():
    still = made([6, 6])
    still = still._replace(points=still.points[:, :1].expand_as(still.points) * still.mask[..., None])
    bent = reshape_hands(still, SKELETON, 10, 0.1, generator())
    for clip in range(2):
        for part in SKELETON.hands:
            frames = still.mask[clip][:, list(part.points)].all(1).nonzero().squeeze(1)
            hands = bent.points[clip][frames][:, list(part.points)]
            assert len(hands) < 2 or torch.allclose(hands, hands[:1].expand_as(hands), atol=1e-6)
    shapes = bent.points[:, :, list(SKELETON.hands[0].points)] - still.points[:, :, list(SKELETON.hands[0].points)]
    assert not torch.allclose(shapes[0], shapes[1])


def test_a_hand_of_which_a_point_is_missing_stays_as_it_is():
    batch = made([5])
    finger = SKELETON.hands[0].points[8]
    batch.mask[:, 2, finger], batch.points[:, 2, finger] = False, 0
    bent = reshape_hands(batch, SKELETON, 30, 0.2, generator())
    hand = list(SKELETON.hands[0].points)
    assert torch.equal(bent.points[:, 2, hand], batch.points[:, 2, hand])


def test_fingers_as_they_are_and_a_skeleton_without_hands():
    batch = made()
    assert torch.allclose(reshape_hands(batch, SKELETON, 0.0, 0.0, generator()).points, batch.points, atol=1e-5)
    body = dataclasses.replace(SKELETON, parts=tuple(part for part in SKELETON.parts if part.kind != "hand"))
    assert equal(reshape_hands(batch, body, 30, 0.2, generator()), batch)
