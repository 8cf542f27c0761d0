"""MediaPipe's answer as an array: order, NaN, repeatability; and the fingerprint that tells when to extract again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from slr_lib import landmarks
from slr_lib.errors import InputError
from slr_lib.landmarks import PARTS, HolisticSettings, LandmarkExtractor, detected, extract_landmarks, fingerprint
from slr_lib.skeleton import HOLISTIC
from slr_lib.video import read_video

REAL = Path(os.environ.get("SLR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "real_clips"
OFFICIAL = REAL / "slovo_official" / "train" / "f17a6060-6ced-4bd1-9886-8578cfbb864f.mp4"
needs_official = pytest.mark.skipif(not OFFICIAL.is_file(), reason=f"needs Slovo's example {OFFICIAL}")


def frames(count: int):
    return (picture for _time, picture in islice(read_video(OFFICIAL), count))


def part(count: int, value: float):
    """A protobuf-like list of landmarks, told apart by their values."""
    return SimpleNamespace(landmark=[SimpleNamespace(x=value, y=value + i, z=-value) for i in range(count)])


def test_parts_are_those_of_the_skeleton():
    assert sum(where.stop - where.start for where in PARTS.values()) == landmarks.POINTS == len(HOLISTIC.points)
    for name, where in PARTS.items():
        names = HOLISTIC.points[where]
        assert all(point.startswith(name) for point in names), (name, names[:2])


def test_a_missing_part_shifts_nothing():
    sizes = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}
    for missing in sizes:
        result = SimpleNamespace(**{f"{name}_landmarks": None if name == missing else part(size, float(size))
                                    for name, size in sizes.items()})
        points = landmarks._points(result)
        assert points.shape == (543, 3) and points.dtype == np.float32
        for name, where in PARTS.items():
            if name == missing:
                assert np.isnan(points[where]).all()
            else:
                assert (points[where, 0] == sizes[name]).all()
                assert np.array_equal(points[where, 1], sizes[name] + np.arange(sizes[name], dtype=np.float32))
        found = detected(points[None])
        assert {name: bool(values[0]) for name, values in found.items()} == {name: name != missing for name in sizes}


@needs_official
def test_pictures_read_where_they_lie_give_the_bytes_of_copied_ones():
    pictures = [np.ascontiguousarray(picture[:-3, :-5]) for picture in frames(6)]  # rows of no round number of bytes
    copied = extract_landmarks(pictures)
    for picture in pictures:
        picture.flags.writeable = False
    assert detected(copied)["pose"].all()
    assert extract_landmarks(pictures).tobytes() == copied.tobytes()


@needs_official
def test_same_frames_same_bytes_whatever_came_before():
    first = extract_landmarks(frames(12))
    with LandmarkExtractor() as extractor:
        extractor.extract(picture[:, ::-1].copy() for picture in frames(5))
        kept = extractor._holistic
        assert extractor.extract(frames(12)).tobytes() == first.tobytes()
        assert extractor.extract(frames(12)).tobytes() == first.tobytes()  # the same person where they were left
        with pytest.raises(ZeroDivisionError):
            extractor.extract(picture if number < 3 else 1 / 0 for number, picture in enumerate(frames(12)))
        assert extractor.extract(frames(12)).tobytes() == first.tobytes()
        assert extractor._holistic is kept
    assert extract_landmarks(frames(12)).tobytes() == first.tobytes()
    assert first.shape == (12, 543, 3) and first.dtype == np.float32
    assert detected(first)["pose"].all() and detected(first)["face"].all()
    nose, hips = first[:, 489], first[:, [489 + 23, 489 + 24]].mean(axis=1)
    assert ((nose[:, :2] > 0) & (nose[:, :2] < 1)).all() and (nose[:, 1] < hips[:, 1]).all()


@needs_official
def test_a_holistic_that_does_not_forget_or_fails_is_not_used_again():
    sees_people_in_nothing = HolisticSettings(min_detection_confidence=0, min_tracking_confidence=0)
    first = extract_landmarks(frames(4), sees_people_in_nothing)
    with LandmarkExtractor(sees_people_in_nothing) as extractor:
        extractor.extract(picture[:, ::-1].copy() for picture in frames(3))
        kept = extractor._holistic
        assert extractor.extract(frames(4)).tobytes() == first.tobytes()
        assert extractor._holistic is not kept
        with pytest.raises(IndexError):
            extractor.extract([np.zeros(3, np.uint8)])
        assert extractor._holistic is None
        assert extractor.extract(frames(4)).tobytes() == first.tobytes()
    assert extractor._holistic is None


@needs_official
def test_a_long_day_changes_nothing():
    """MediaPipe counts time through all videos; after 100,000 clips of 60 frames it must still give the same bytes."""
    with LandmarkExtractor() as extractor:
        extractor.extract(np.zeros((1, 64, 64, 3), np.uint8))
        extractor._holistic._simulated_timestamp = 100_000 * 60 * 33_333
        assert extractor.extract(frames(12)).tobytes() == extract_landmarks(frames(12)).tobytes()


@needs_official
def test_with_holistics_own_values_the_graph_gives_what_mediapipes_class_gives():
    from mediapipe.python.solutions.holistic import Holistic

    with Holistic() as holistic:
        theirs = np.stack([landmarks._points(holistic.process(picture)) for picture in frames(8)])
    own = HolisticSettings(min_hand_confidence=0.5, second_look=False)
    assert extract_landmarks(frames(8), own).tobytes() == theirs.tobytes()


@needs_official
def test_blank_frames_are_missing_and_the_rest_is_found():
    blank = np.zeros((1280, 720, 3), np.uint8)
    found = detected(extract_landmarks([blank, blank, *frames(3)]))
    assert found["pose"].tolist() == found["face"].tolist() == [False, False, True, True, True]


def test_no_person_and_no_frame():
    points = extract_landmarks(np.full((2, 120, 160, 3), 90, np.uint8))
    assert points.shape == (2, 543, 3) and np.isnan(points).all()
    assert extract_landmarks([]).shape == (0, 543, 3)


def test_settings_are_checked():
    for wrong in ({"model_complexity": 3}, {"min_detection_confidence": 1.5}, {"min_tracking_confidence": -0.1},
                  {"min_hand_confidence": 2}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            HolisticSettings(**wrong)


def test_the_pipeline_extracts_as_the_recogniser_does():
    """A recogniser of single videos takes the defaults, so params.yaml must not say anything else."""
    params = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
    assert HolisticSettings(**params["extract_landmarks"]) == HolisticSettings()


def test_mediapipe_without_solutions_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", SimpleNamespace())
    with pytest.raises(InputError, match=r"0\.10\.21"):
        extract_landmarks(np.zeros((1, 8, 8, 3), np.uint8))


def test_importing_the_module_does_not_import_mediapipe():
    code = "import sys, slr_lib.landmarks; assert 'mediapipe' not in sys.modules and 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_is_written_to_standard_error():
    code = ("import numpy as np; from slr_lib.landmarks import extract_landmarks; "
            "extract_landmarks(np.zeros((2, 64, 64, 3), np.uint8)); import sys; print('said', file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "said\n" and done.stdout == ""


def test_fingerprint_heeds_code_and_settings_but_no_comments(tmp_path, monkeypatch):
    assert re.fullmatch("[0-9a-f]{16}", fingerprint())
    assert fingerprint() == fingerprint(HolisticSettings())
    assert fingerprint(HolisticSettings(min_tracking_confidence=0.4)) != fingerprint()
    source = Path(landmarks.__file__).parent
    for name in landmarks._MODULES:
        (tmp_path / name).write_text((source / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(landmarks, "__file__", str(tmp_path / "landmarks.py"))
    before = fingerprint()
    text = (tmp_path / "video.py").read_text(encoding="utf-8")
    (tmp_path / "video.py").write_text(text.replace('"""A video file', '"""Some file') + "\n\n# a remark\n")
    assert fingerprint() == before
    (tmp_path / "video.py").write_text(text.replace("FALLBACK_FPS = 30", "FALLBACK_FPS = 25"))
    assert fingerprint() != before
    (tmp_path / "video.py").write_text(text)
    monkeypatch.setattr(landmarks.importlib.metadata, "version", lambda _name: "0")
    assert fingerprint() != before
