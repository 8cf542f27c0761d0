"""mediapipe >= 1.0 with a task file. docs/mediapipe.md: how to run what needs that release, and what is not tested."""

from __future__ import annotations

import os
import subprocess
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import PROJECT
from task_bundle import make_task_file

from slr_lib import landmarks
from slr_lib.errors import InputError
from slr_lib.landmarks import PARTS, HolisticSettings, detected, extract_landmarks, fingerprint
from slr_lib.video import read_video

PYTHON = os.environ.get("SLR_MEDIAPIPE1")
needs_1 = pytest.mark.skipif(not PYTHON, reason="SLR_MEDIAPIPE1 names no Python with mediapipe >= 1.0")
SIZES = {"face": 478, "left_hand": 21, "pose": 33, "right_hand": 21}


def with_task(path: str, **values) -> HolisticSettings:
    """Settings that a task file can follow."""
    return HolisticSettings(task_file=path, min_hand_confidence=0.5, second_look=False, **values)


def result(**sizes: int) -> SimpleNamespace:
    """In the form of a HolisticLandmarkerResult: lists of landmarks, empty where nothing was found."""
    lists = {name: [SimpleNamespace(x=number + place, y=-place, z=0.5) for place in range(count)]
             for number, (name, count) in enumerate((SIZES | sizes).items())}
    return SimpleNamespace(**{f"{name}_landmarks": points for name, points in lists.items()})


@pytest.mark.parametrize("faces", [468, 478])
def test_a_result_becomes_543_points_without_the_irises(faces):
    points = landmarks._points(landmarks._as_solution(result(face=faces)))
    assert points.shape == (543, 3) and not np.isnan(points).any()
    for number, where in enumerate(PARTS.values()):
        count = where.stop - where.start
        assert np.array_equal(points[where, 0], number + np.arange(count)) and points[where, 1].min() == 1 - count


@pytest.mark.parametrize("missing", list(SIZES))
def test_an_empty_part_is_missing_and_shifts_nothing(missing):
    points = landmarks._points(landmarks._as_solution(result(**{missing: 0})))
    found = {name: bool(values[0]) for name, values in detected(points[None]).items()}
    assert found == {name: name != missing for name in SIZES}


def test_another_number_of_points_is_no_landmark():
    for part, count in (("face", 470), ("pose", 39), ("left_hand", 20)):
        with pytest.raises(RuntimeError, match=f"{count} points of {part}"):
            landmarks._as_solution(result(**{part: count}))


def test_a_task_file_that_is_not_there_is_named_at_once(tmp_path):
    settings = with_task(str(tmp_path / "none.task"))
    for run in (lambda: extract_landmarks(np.zeros((1, 8, 8, 3), np.uint8), settings), lambda: fingerprint(settings)):
        with pytest.raises(InputError, match=r"none\.task: the task_file cannot be read .*docs/mediapipe\.md"):
            run()


def test_mediapipe_0_is_refused_with_a_task_file(tmp_path):
    path = tmp_path / "some.task"
    path.write_bytes(b"task")
    with pytest.raises(InputError, match=r"needs mediapipe 1\.0 or newer, and 0\.10\.21 is installed"):
        extract_landmarks(np.zeros((1, 8, 8, 3), np.uint8), with_task(str(path)))


def test_what_a_task_file_decides_itself_cannot_be_set():
    for wrong in ({"model_complexity": 2}, {"smooth_landmarks": False}):
        with pytest.raises(InputError, match="a task_file decides"):
            with_task("some.task", **wrong)
    with pytest.raises(InputError, match=r"set second_look to false and min_hand_confidence to 0\.5"):
        HolisticSettings(task_file="some.task")


def test_the_fingerprint_tells_both_apart_by_the_files_content(tmp_path, monkeypatch):
    one, same, other = (tmp_path / name for name in ("one.task", "same.task", "other.task"))
    for path, content in ((one, b"1"), (same, b"1"), (other, b"2")):
        path.write_bytes(content)
    prints = {path: fingerprint(with_task(str(path))) for path in (one, same, other)}
    assert prints[one] == prints[same] and len({*prints.values(), fingerprint()}) == 3
    monkeypatch.chdir(tmp_path)
    assert with_task("one.task").task_file == str(one), "workers may have another current folder"
    monkeypatch.setattr(landmarks.importlib.metadata, "version", {"mediapipe": "1.2", "av": "1"}.get)
    assert fingerprint(with_task(str(one))) not in prints.values()


def run(code: str, *arguments: Path) -> subprocess.CompletedProcess:
    """Run code with MediaPipe 1.x, the library on the path."""
    return subprocess.run([PYTHON, "-c", code, *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(PROJECT)})


EXTRACT = """
import sys
import numpy as np
from slr_lib.errors import InputError
from slr_lib.landmarks import HolisticSettings, LandmarkExtractor
frames = np.load(sys.argv[2])
settings = HolisticSettings(task_file=sys.argv[1], min_hand_confidence=0.5, second_look=False)
extractor = LandmarkExtractor(settings)
try:
    points = extractor.extract(frames)
except InputError as error:
    sys.exit(str(error))
assert points.tobytes() == extractor.extract(frames).tobytes()
extractor.close()
np.save(sys.argv[3], points)
"""


@needs_1
def test_a_damaged_file_is_one_sentence(tmp_path):
    np.save(tmp_path / "frames.npy", np.zeros((1, 64, 64, 3), np.uint8))
    whole = tmp_path / "whole.task"
    make_task_file(whole)
    for name, content in (("empty", b""), ("text", b"no task"), ("cut", whole.read_bytes()[:-5000])):
        path = tmp_path / f"{name}.task"
        path.write_bytes(content)
        done = run(EXTRACT, path, tmp_path / "frames.npy", tmp_path / "points.npy")
        said = done.stderr.splitlines()[-1]
        assert done.returncode == 1 and f"{name}.task: MediaPipe 1." in said and "download" in said, done.stderr


@needs_1
def test_results_of_the_wheels_own_classes_are_converted():
    code = """
import numpy as np
from mediapipe.tasks.python.components.containers.landmark import NormalizedLandmark
from mediapipe.tasks.python.vision.holistic_landmarker import HolisticLandmarkerResult
from slr_lib.landmarks import PARTS, _as_solution, _points
def points(count, first):
    return [NormalizedLandmark(x=first + place, y=0.5, z=-0.5) for place in range(count)]
given = dict(face_landmarks=points(478, 0), pose_landmarks=points(33, 1000), pose_world_landmarks=[],
             left_hand_landmarks=points(21, 2000), left_hand_world_landmarks=[], right_hand_landmarks=[],
             right_hand_world_landmarks=[])
found = _points(_as_solution(HolisticLandmarkerResult(**given)))
firsts = dict(face=0, left_hand=2000, pose=1000)
for part, where in PARTS.items():
    if part == "right_hand":
        assert np.isnan(found[where]).all()
    else:
        assert np.array_equal(found[where, 0], firsts[part] + np.arange(where.stop - where.start)), part
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


@needs_1
def test_without_a_task_file_the_sentence_names_both_ways():
    done = run("from slr_lib.landmarks import extract_landmarks\nimport numpy as np\n"
               "extract_landmarks(np.zeros((1, 8, 8, 3), np.uint8))")
    said = done.stderr.splitlines()[-1]
    assert "0.10.21" in said and "task_file" in said and "docs/mediapipe.md" in said


@needs_1
def test_pose_and_hands_of_a_real_clip_agree_with_0_10(tmp_path, shared):
    clip = next((shared / "real_clips" / "slovo_official" / "train").glob("*.mp4"), None)
    if clip is None:
        pytest.skip(f"Slovo's example is not at {shared}")
    frames = np.stack([picture for _time, picture in islice(read_video(clip), 12)])
    frames = np.concatenate([np.zeros_like(frames[:2]), frames])  # nobody at first
    np.save(tmp_path / "frames.npy", frames)
    make_task_file(tmp_path / "made.task")
    done = run(EXTRACT, tmp_path / "made.task", tmp_path / "frames.npy", tmp_path / "points.npy")
    assert done.returncode == 0, done.stderr
    bare = HolisticSettings(min_hand_confidence=0.5, second_look=False)
    ours, theirs = extract_landmarks(frames, bare), np.load(tmp_path / "points.npy")
    assert theirs.shape == ours.shape and theirs.dtype == np.float32 and np.isnan(theirs[:2]).all()
    pixels = np.linalg.norm((ours - theirs)[..., :2] * (frames.shape[2], frames.shape[1]), axis=-1)
    for part in ("pose", "left_hand", "right_hand"):
        assert np.array_equal(detected(ours)[part], detected(theirs)[part])
        assert np.nanmedian(pixels[:, PARTS[part]]) < 2, part
