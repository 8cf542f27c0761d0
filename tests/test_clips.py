"""Landmarks become clips: NaN, frames without hands, hands in the order of detection, coordinates of the body."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from wlasl_slice import wlasl_clips

from slr_lib.clips import FARTHEST, ClipSettings, prepare_clip
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks
from slr_lib.skeleton import HANDS, HANDS_BY_DETECTION, HOLISTIC, Part, Skeleton
from slr_lib.slots import swapped_slots

SELECTED, INDICES = HOLISTIC.select()
BODY = Skeleton("body", ("head", "left", "right"), (Part("body", (0, 1, 2), None, "body"),), (0, 2, 1),
                origin=(1, 2), unit=(1, 2))


def signer(frames: int = 20, seed: int = 0) -> np.ndarray:
    """Landmarks [T, 543, 3] of a body with shoulders at x = 0.3 and 0.7, y = 0.5, everything seen."""
    points = np.random.default_rng(seed).uniform(0.2, 0.8, (frames, 543, 3)).astype(np.float32)
    points[:, HOLISTIC.index("pose_left_shoulder"), :2] = 0.7, 0.5
    points[:, HOLISTIC.index("pose_right_shoulder"), :2] = 0.3, 0.5
    return points


def landmarks(points: np.ndarray, **info) -> ClipLandmarks:
    return ClipLandmarks(points, np.arange(len(points)) / 25 + 3.0, info)


def test_coordinates_count_from_the_shoulders_in_their_distance():
    points = signer()
    clip = prepare_clip(landmarks(points), HOLISTIC)
    assert clip.points.shape == (20, 108, 3) and clip.points.dtype == clip.times.dtype == np.float32
    assert clip.mask.all() and clip.mask.dtype == bool
    expected = (points[:, INDICES, :2] - [0.5, 0.5]) / 0.4
    np.testing.assert_allclose(clip.points[..., :2], expected, atol=1e-5)
    np.testing.assert_allclose(clip.points[..., 2], points[:, INDICES, 2] / 0.4, atol=1e-5)  # depth: no common zero
    np.testing.assert_allclose(clip.times, np.arange(20) / 25, atol=1e-6)


def test_place_and_size_of_the_signer_in_the_picture_do_not_matter():
    points = signer()
    there = points * 0.5 + np.float32([0.3, 0.1, 0])
    np.testing.assert_allclose(prepare_clip(landmarks(points), HOLISTIC).points,
                               prepare_clip(landmarks(there), HOLISTIC).points, atol=1e-4)


def test_the_pictures_shape_does_not_matter_where_it_is_known():
    points = signer()
    wide = points / np.float32([2, 1, 2])  # the same scene in a picture twice as wide
    square = prepare_clip(landmarks(points), HOLISTIC)
    for clip in (prepare_clip(landmarks(wide, width=1280, height=640), HOLISTIC),
                 prepare_clip(landmarks(wide), HOLISTIC, ClipSettings(aspect=2.0))):
        np.testing.assert_allclose(clip.points, square.points, atol=1e-4)


def test_frames_without_hands_go_and_times_stay_true():
    points = signer()
    points[5:9, 468:489] = points[5:9, 522:543] = np.nan
    points[12, 468:489] = np.nan  # one hand is enough
    clip = prepare_clip(landmarks(points), HOLISTIC)
    assert len(clip.times) == 16 and clip.mask[:, INDICES >= 522].all()
    assert clip.times[5] == pytest.approx(9 / 25, abs=1e-6)
    left = list(SELECTED.part("left_hand").points)
    assert clip.mask[:, left].all(1).sum() == 15 and (clip.points[~clip.mask] == 0).all()
    kept = prepare_clip(landmarks(points), HOLISTIC, ClipSettings(keep_handless=True))
    assert len(kept.times) == 20


def test_a_missing_hand_is_masked_and_moves_nothing_else():
    points = signer()
    whole = prepare_clip(landmarks(points), HOLISTIC)
    points[:, 468:489] = np.nan
    clip = prepare_clip(landmarks(points), HOLISTIC)
    left = list(SELECTED.part("left_hand").points)
    rest = [point for point in range(108) if point not in left]
    assert not clip.mask[:, left].any() and (clip.points[:, left] == 0).all()
    np.testing.assert_array_equal(clip.points[:, rest], whole.points[:, rest])


def test_a_frame_without_face_shifts_no_other_frame():
    points = signer()
    whole = prepare_clip(landmarks(points), HOLISTIC)
    points[7, :468] = np.nan
    clip = prepare_clip(landmarks(points), HOLISTIC)
    np.testing.assert_array_equal(clip.points[clip.mask], whole.points[clip.mask])
    assert not clip.mask[7, list(SELECTED.part("lips").points)].any() and len(clip.times) == 20


def test_without_shoulders_the_hands_are_origin_and_unit():
    points = signer()
    points[:, 489:522] = np.nan
    first = prepare_clip(landmarks(points), HOLISTIC)
    second = prepare_clip(landmarks(points * 0.5 + np.float32(0.1)), HOLISTIC)
    np.testing.assert_allclose(first.points[..., :2], second.points[..., :2], atol=1e-3)
    hands = first.points[:, [p for part in SELECTED.hands for p in part.points], :2]
    assert abs(np.median(hands.mean(1), axis=0)).max() < 1e-3 and 0.05 < hands.std() < 1


def test_hands_alone_count_from_the_middle_of_the_picture_in_its_height():
    points = np.full((3, 42, 3), 0.5, np.float32)
    points[:, :, 0], points[:, :, 1] = 0.25, 0.8
    clip = prepare_clip(ClipLandmarks(points, np.arange(3) / 30, {"width": 300, "height": 200}), HANDS)
    assert clip.points[0, 0] == pytest.approx([-0.25 * 1.5 / 0.3, 0.3 / 0.3, 0.5 * 1.5 / 0.3], abs=1e-5)


def test_a_clip_in_which_nothing_was_found_is_rejected_with_the_reason():
    points = np.full_like(signer(), np.nan)
    assert prepare_clip(landmarks(points), HOLISTIC) == "no point in any of its 20 frames"
    one = signer()
    one[1:] = np.nan
    assert "only 1 of its 20 frames can be used" in prepare_clip(landmarks(one), HOLISTIC)


@pytest.mark.parametrize("frames_with_a_hand", [0, 1])
def test_a_clip_that_hardly_shows_a_hand_is_kept_whole(frames_with_a_hand):
    points = signer()
    points[frames_with_a_hand:, 468:489] = points[frames_with_a_hand:, 522:543] = np.nan
    clip = prepare_clip(landmarks(points), HOLISTIC)
    assert len(clip.times) == 20 and np.isfinite(clip.points).all()
    hands = [point for part in SELECTED.hands for point in part.points]
    assert clip.mask[:, hands].any(1).sum() == frames_with_a_hand


def test_a_body_without_hands_keeps_all_frames_that_show_something():
    points = np.random.default_rng(0).normal(size=(9, 3, 3))
    points[:, 1], points[:, 2] = (1, 2, 3), (3, 2, 3)
    points[4] = np.nan
    clip = prepare_clip(landmarks(points), BODY)
    assert len(clip.times) == 8
    np.testing.assert_allclose(clip.points[0, 1], (-0.5, 0, 0), atol=1e-6)  # depth is common here


def test_true_depth_counts_for_the_unit_so_that_a_turned_body_is_no_larger():
    points = np.zeros((5, 3, 3))
    points[:, 0], points[:, 1], points[:, 2] = (0, 1, 0), (0.2, 0, 0), (-0.2, 0, 0)
    turned = points.copy()
    turned[:, 1], turned[:, 2] = (0.12, 0, 0.16), (-0.12, 0, -0.16)
    np.testing.assert_allclose(prepare_clip(landmarks(turned), BODY).points[:, 0],
                               prepare_clip(landmarks(points), BODY).points[:, 0], atol=1e-5)


def test_other_landmarks_than_the_skeletons_are_refused():
    with pytest.raises(InputError, match="42 points, the skeleton holistic 543"):
        prepare_clip(landmarks(np.zeros((3, 42, 3))), HOLISTIC)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, (6, 42, 3), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_no_landmarks_whatever_give_anything_but_finite_numbers(points):
    clip = prepare_clip(landmarks(points), HANDS_BY_DETECTION, ClipSettings(minimum_frames=1))
    if not isinstance(clip, str):
        assert np.isfinite(clip.points).all() and abs(clip.points).max() <= FARTHEST
        assert (clip.points[~clip.mask] == 0).all() and clip.mask.any(1).all()


def two_hands(frames: int = 40, seed: int = 0) -> np.ndarray:
    """[T, 2, 21, 3]: the left hand on the picture's right, both in motion, and now and then across one another."""
    random = np.random.default_rng(seed)
    shape = random.normal(0, 0.03, (2, 21, 3))
    time = np.linspace(0, 2 * np.pi, frames)[:, None]
    centre = np.stack([np.concatenate([0.62 + 0.2 * np.cos(time), 0.7 + 0.1 * np.sin(time)], 1),
                       np.concatenate([0.38 - 0.1 * np.cos(time), 0.4 + 0.1 * np.sin(time)], 1)], 1)
    points = np.repeat(shape[None], frames, 0)
    points[..., :2] += centre[:, :, None]
    return points.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(arrays.arrays(bool, 40), arrays.arrays(bool, (40, 2), elements=st.booleans()), st.integers(0, 5))
def test_hands_find_their_tracks_however_the_slots_were_swapped(swaps, hidden, seed):
    hands = two_hands(seed=seed)
    hidden[::4] = False  # at 50 frames/s never LONG_GAP without both hands
    hidden[hidden.all(1)] = False
    hands[hidden] = np.nan
    mixed = np.where(swaps[:, None, None, None], hands[:, ::-1], hands)
    times = np.arange(40) / 50
    clip = prepare_clip(ClipLandmarks(mixed.reshape(40, 42, 3), times, {}), HANDS_BY_DETECTION)
    truth = prepare_clip(ClipLandmarks(hands.reshape(40, 42, 3), times, {}), HANDS)
    np.testing.assert_array_equal(clip.mask, truth.mask)
    np.testing.assert_allclose(clip.points, truth.points, atol=1e-5)


def test_a_single_hand_goes_to_the_side_it_lies_on():
    hands = two_hands()
    for slot, x, part in ((0, 0.3, "right_hand"), (1, 0.3, "right_hand"), (0, 0.7, "left_hand"), (1, 0.7, "left_hand")):
        alone = np.full_like(hands, np.nan)
        alone[:, slot] = hands[:, 0] * [0.1, 1, 1] + [x, 0, 0]
        clip = prepare_clip(landmarks(alone.reshape(-1, 42, 3)), HANDS_BY_DETECTION)
        chosen = list(HANDS_BY_DETECTION.part(part).points)
        assert clip.mask[:, chosen].all() and clip.mask.sum() == clip.mask[:, chosen].sum()


def test_slots_of_frames_without_hands_stay():
    assert not swapped_slots(np.zeros((5, 2, 2)), np.zeros((5, 2), bool), np.arange(5) / 30).any()


def test_sided_slots_are_left_alone():
    hands = two_hands()[:, ::-1]
    clip = prepare_clip(landmarks(hands.reshape(-1, 42, 3)), HANDS)
    sorted_clip = prepare_clip(landmarks(hands.reshape(-1, 42, 3)), HANDS_BY_DETECTION)
    np.testing.assert_allclose(clip.points[:, :21], sorted_clip.points[:, 21:], atol=1e-5)


def test_real_hands_jump_less_once_sorted(shared):
    clips = wlasl_clips(shared, 150)

    def jumps(skeleton):
        far = moves = 0
        for points in clips:
            clip = prepare_clip(ClipLandmarks(points, np.arange(len(points)) / 30, {}), skeleton,
                                ClipSettings(minimum_frames=1))
            wrists, seen = clip.points[:, [0, 21], :2], clip.mask[:, [0, 21]]
            both = seen[1:] & seen[:-1]
            way = np.linalg.norm(np.diff(wrists, axis=0), axis=-1)[both]
            far, moves = far + (way > 0.5).sum(), moves + both.sum()
        return far / moves

    assert jumps(HANDS_BY_DETECTION) < 0.5 * jumps(HANDS)


def test_settings_go_through_plain_values():
    chosen = ClipSettings(aspect=1.5, minimum_frames=3)
    assert ClipSettings(**chosen.as_plain()) == chosen == dataclasses.replace(chosen)
