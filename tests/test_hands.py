"""Which hands are believed, and where one is searched; and the labels that the benchmark of hands counts by."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slr_lib.hands import HAND_SLICES, POSE, choose_hand, crop_at_wrist, in_picture
from slr_lib.landmarks import HolisticSettings, detected, extract_landmarks, find_hands
from slr_lib.video import read_video

REAL = Path(os.environ.get("SLR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "real_clips"
spec = importlib.util.spec_from_file_location("hands_benchmark", Path(__file__).parents[1] / "benchmarks" / "hands.py")
benchmark = importlib.util.module_from_spec(spec)
spec.loader.exec_module(benchmark)
LABELS = Path(__file__).parent / "data" / "rsl_hands.csv"
WIDTH, HEIGHT = 400, 200
needs_rsl = pytest.mark.skipif(not (REAL / "rsl").is_dir(), reason=f"needs the real clips in {REAL / 'rsl'}")


def person(left_wrist=(0.7, 0.5), right_wrist=(0.3, 0.5)) -> np.ndarray:
    """A frame's points with shoulders 80 pixels apart, arms, and no hands."""
    points = np.full((543, 3), np.nan, np.float32)
    pose = points[POSE]
    pose[:] = 0.5
    pose[11, :2], pose[12, :2] = (0.6, 0.3), (0.4, 0.3)
    for side, wrist in enumerate((left_wrist, right_wrist)):
        pose[13 + side, :2] = wrist[0], wrist[1] + 0.2
        pose[[15 + side, 17 + side, 19 + side], :2] = wrist
    return points


def hand(wrist, length: float = 40.0) -> np.ndarray:
    """A hand that points upwards from its wrist; length in pixels from wrist to the tip of the middle finger."""
    joints = np.zeros((21, 3), np.float32)
    steps = np.linspace(0.5, 1, 4) * length / HEIGHT
    for finger in range(5):
        joints[1 + 4 * finger:5 + 4 * finger, 1] = -steps
        joints[1 + 4 * finger:5 + 4 * finger, 0] = (finger - 2) * 0.1 * length / WIDTH
    return joints + np.float32([*wrist, 0])


def chosen(hands, points: np.ndarray, side: int) -> int | None:
    return choose_hand(np.array(hands, np.float32).reshape(-1, 21, 3), points, side, WIDTH, HEIGHT)


def test_the_crop_holds_the_hand_and_ends_at_the_picture():
    left, top, right, bottom = crop_at_wrist(person(), 0, WIDTH, HEIGHT)
    assert left < 0.7 * WIDTH < right and top < 0.5 * HEIGHT < bottom
    assert 100 < right - left < 200 and right - left == pytest.approx(bottom - top, abs=2)
    left, top, right, bottom = crop_at_wrist(person(left_wrist=(0.99, 0.98)), 0, WIDTH, HEIGHT)
    assert (right, bottom) == (WIDTH, HEIGHT) and left < right and top < bottom


@pytest.mark.parametrize("wrist", [(1.01, 0.5), (0.5, 1.2), (-0.01, 0.5), (0.5, -0.3)])
def test_no_crop_where_the_pose_has_no_hand_in_the_picture(wrist):
    assert crop_at_wrist(person(left_wrist=wrist), 0, WIDTH, HEIGHT) is None
    assert crop_at_wrist(person(left_wrist=wrist), 1, WIDTH, HEIGHT) is not None


def test_no_crop_without_a_person_or_of_a_speck():
    assert crop_at_wrist(np.full((543, 3), np.nan, np.float32), 0, WIDTH, HEIGHT) is None
    assert crop_at_wrist(person(), 0, 16, 8) is None


def test_a_hand_belongs_to_the_wrist_at_which_it_sits():
    points, left, right = person(), hand((0.68, 0.52)), hand((0.31, 0.5))
    assert chosen([right, left], points, 0) == 1 and chosen([right, left], points, 1) == 0
    assert chosen([right], points, 0) is None and chosen([], points, 0) is None
    near, nearer = hand((0.66, 0.5)), hand((0.69, 0.5))
    assert chosen([near, nearer], points, 0) == 1


def test_no_hand_of_another_size_or_beyond_the_edge():
    points = person()
    assert chosen([hand((0.7, 0.5))], points, 0) == 0
    assert chosen([hand((0.7, 0.5), length=8)], points, 0) is None
    assert chosen([hand((0.7, 0.5), length=120)], points, 0) is None
    top = person(left_wrist=(0.7, 0.02))
    assert not in_picture(hand((0.7, 0.02))) and chosen([hand((0.7, 0.02))], top, 0) is None


def test_a_hand_is_not_found_twice():
    points = person(left_wrist=(0.52, 0.5), right_wrist=(0.48, 0.5))
    points[HAND_SLICES[1]] = hand((0.5, 0.5))
    assert chosen([hand((0.505, 0.5))], points, 0) is None
    points[HAND_SLICES[1]] = hand((0.42, 0.5))
    assert chosen([hand((0.505, 0.5))], points, 0) == 0


def test_jitter_is_none_of_a_steady_movement_and_misses_where_a_frame_does():
    track = np.zeros((6, 2, 21, 2))
    track[..., 0] = np.arange(6)[:, None, None]
    track[3, 0, :, 1] = 0.5
    jitter = benchmark.jitter(track)
    assert np.isnan(jitter[[0, 5]]).all() and (jitter[1:5, 1] == 0).all()
    assert jitter[1:5, 0].tolist() == [0, 0.5, 1, 0.5]
    track[4, 1] = np.nan
    assert np.isnan(benchmark.jitter(track)[3:, 1]).all()


def test_the_error_of_a_picture_is_in_hand_lengths_and_of_the_nearest_hand(tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "picture.png")
    real = hand((0.5, 0.9), length=80)
    given = pd.DataFrame({"point_index": range(21), "x": real[:, 0] * WIDTH, "y": real[:, 1] * HEIGHT, "visible": 1})
    shifted, far = real + np.float32([20 / WIDTH, 0, 0]), real + np.float32([1, 0, 0])

    def error(*hands: np.ndarray) -> float:
        return benchmark.picture_error(tmp_path / "picture.png", given,
                                       lambda _: np.array(hands, np.float32).reshape(-1, 21, 3))

    assert error(far, shifted) == pytest.approx(20 / 80, abs=0.01)
    assert error(far) > benchmark.NEAR and error() == np.inf


def test_an_empty_picture_has_no_hands():
    assert find_hands(np.full((64, 64, 3), 90, np.uint8)).shape == (0, 21, 3)


def test_labels_are_every_fifth_frame_of_twelve_clips():
    labels = pd.read_csv(LABELS, comment="#")
    assert list(labels) == ["clip", "frame", "left", "right"] and labels["clip"].nunique() == 12
    assert set(labels["left"]) | set(labels["right"]) == {"yes", "no", "part"}
    for _, rows in labels.groupby("clip"):
        assert rows["frame"].tolist() == list(range(0, 5 * len(rows), 5))


@needs_rsl
def test_labels_fit_the_clips():
    labels = pd.read_csv(LABELS, comment="#").groupby("clip")["frame"].max()
    frames = pd.read_csv(REAL / "rsl" / "index.csv").set_index("attachment_id")["frames"]
    assert ((frames[labels.index] - 1) // 5 * 5 == labels).all()


@needs_rsl
def test_looking_harder_adds_hands_in_their_own_slots_and_repeats():
    """Thirty frames in which a signer's hands stand thumbs up, blurred and pale; Holistic misses the right one."""
    clip = "f08773c8-a6e5-5489-b5d7-4831d457c4c7"
    pictures = [picture for _, picture in read_video(REAL / "rsl" / "train" / f"{clip}.mp4")][15:45]
    bare = extract_landmarks(pictures, HolisticSettings(min_hand_confidence=0.5, second_look=False))
    harder = HolisticSettings(min_hand_confidence=0.1, second_look=True)
    points = extract_landmarks(pictures, harder)
    assert points.tobytes() == extract_landmarks(pictures, harder).tobytes()
    before, after = detected(bare), detected(points)
    assert after["right_hand"].sum() > before["right_hand"].sum() and after["left_hand"].sum() > 0
    assert np.array_equal(bare[:, POSE], points[:, POSE], equal_nan=True)
    both = after["left_hand"] & after["right_hand"]
    left, right = (points[both][:, where.start, 0] for where in HAND_SLICES)  # wrists; the left one is at the right
    assert both.any() and (left > right).all()
