"""`.pose` files that others made: by pose-format itself, of other skeletons, reduced, damaged."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pose_format import Pose, PoseHeader
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeaderComponent, PoseHeaderDimensions

from slr_lib.pose_files import read_pose, write_pose
from slr_lib.recordings import Unusable
from slr_lib.skeleton import HANDS, HOLISTIC, Part, Skeleton

THREE = ("BODY_25.Nose", "Neck", "left_hand_keypoints.0")


def skeleton(points) -> Skeleton:
    return Skeleton("three", tuple(points), (Part("all", tuple(range(len(points))), None, "body"),),
                    tuple(range(len(points))), ())


def file(components: dict[str, list[str]], form="XYC", people=1, size=(640, 480), fps=25.0, frames=4) -> bytes:
    parts = [PoseHeaderComponent(name, points, [], [(0, 0, 0)], form) for name, points in components.items()]
    count = sum(len(points) for points in components.values())
    data = np.arange(frames * people * count * (len(form) - 1), dtype=np.float32)
    data = data.reshape(frames, people, count, len(form) - 1)
    confidence = np.ones(data.shape[:3], np.float32)
    confidence[1, :, 0] = 0
    out = io.BytesIO()
    Pose(PoseHeader(0.2, PoseHeaderDimensions(*size), parts), NumPyPoseBody(fps, data, confidence)).write(out)
    return out.getvalue()


OPENPOSE = {"BODY_25": ["Nose", "Neck"], "left_hand_keypoints": ["0", "1"], "face": ["Nose", "0"]}


def test_other_skeletons_come_by_component_and_name():
    recording = read_pose(file(OPENPOSE, people=2), skeleton(THREE))
    assert recording.size == (640, 480) and recording.points.shape == (4, 3, 3)
    first = np.arange(12).reshape(6, 2)[[0, 1, 2]] / (640, 480)
    assert np.allclose(recording.points[0, :, :2], first), "the first of two persons, in fractions of the picture"
    assert np.isnan(recording.points[1, 0, :2]).all() and not np.isnan(recording.points[1, 1:, :2]).any()
    assert np.array_equal(recording.times, np.arange(4) / 25)


def test_depth_has_the_unit_of_x_but_for_mediapipes_own():
    other = read_pose(file({"A": ["p", "q"]}, form="XYZC"), skeleton(["p", "q"])).points[3, :1]
    assert np.allclose(other, [[18 / 640, 19 / 480, 20 / 640]])
    own = read_pose(file({"POSE_LANDMARKS": ["NOSE", "LEFT_EYE"]}, form="XYZC"), HOLISTIC).points[3, 489]
    assert np.allclose(own, [18 / 640, 19 / 480, 20])


def test_points_of_mediapipe_that_a_file_has_not_are_missing():
    points = read_pose(file({"FACE_LANDMARKS": ["0", "13"], "LEFT_HAND_LANDMARKS": ["WRIST"]}), HOLISTIC).points
    assert set(np.flatnonzero(~np.isnan(points[0, :, 0]))) == {0, 13, 468}


def test_no_size_and_no_rate_leave_all_as_it_is():
    recording = read_pose(file({"A": ["p"]}, size=(1, 1), fps=0), skeleton(["p"]))
    assert recording.size is None and recording.times is None and recording.points[3, 0, 0] == 6


@pytest.mark.parametrize(("points", "words"), [
    (("Neck", "Chin"), "no point Chin; its components are BODY_25, left_hand_keypoints, face"),
    (("Nose",), "2 points Nose (name one as COMPONENT.POINT)"),
    (("pose_nose",), "none of the points of the skeleton three"),
])
def test_a_skeleton_that_does_not_fit_is_said(points, words):
    with pytest.raises(Unusable) as fault:
        read_pose(file(OPENPOSE), skeleton(points))
    assert words in str(fault.value)


def test_nobody_is_said():
    with pytest.raises(Unusable, match="nobody"):
        read_pose(file(OPENPOSE, people=0), skeleton(THREE))


def test_a_file_damaged_at_any_place_is_refused_or_read_but_nothing_else_happens():
    points = np.random.default_rng(0).random((3, 42, 3)).astype(np.float32)
    out = io.BytesIO()
    write_pose(out, points, 30, (64, 48), HANDS)
    whole = out.getvalue()
    header = len(whole) - points.size // 3 * 4 * 4 - 10
    for end in (*range(0, header + 12, 7), *range(header, len(whole), 97)):
        with pytest.raises(Unusable):
            read_pose(whole[:end], HANDS)
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in rng.integers(0, header + 10, 3):
            damaged[place] = rng.integers(256)
        try:
            assert read_pose(bytes(damaged), HANDS).points.shape[1:] == (42, 3)
        except Unusable:
            refused += 1
    assert refused > 50
    with pytest.raises(Unusable):
        read_pose(b"no pose", HANDS)


def test_a_frame_count_beyond_the_file_is_refused_at_once():
    whole = file({"A": ["p"]}, frames=2)
    at = len(whole) - 2 * 3 * 4 - 2 - 4
    assert struct.unpack("<I", whole[at:at + 4]) == (2,)
    with pytest.raises(Unusable):
        read_pose(whole[:at] + struct.pack("<I", 2**32 - 1) + whole[at + 4:], skeleton(["p"]))
