"""Slovo's own landmarks come in as its authors lay them out, clip by clip; anything else is refused with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PROJECT

from slr_lib import exchange
from slr_lib.data_sets import load_data_set
from slr_lib.index import read_index
from slr_lib.landmark_store import LandmarkStore

COLUMNS = ("attachment_id", "text", "user_id", "height", "width", "length", "train")
ROWS = [("c1", "дом", "u1", "1280", "720", "4.0", "True"), ("c2", "дом", "u2", "1080", "1920", "3.0", "False"),
        ("c3", "вода", "u1", "", "", "3.0", "True"), ("c4", "вода", "u2", "720", "720", "2.0", "False"),
        ("c5", "no_event", "u1", "720", "720", "5.0", "True")]


def hand(seed: int) -> list[dict]:
    return [dict(zip("xyz", map(float, point))) for point in np.random.default_rng(seed).random((21, 3))]


def clips() -> dict:
    return {"c2": [{"hand 1": hand(1), "hand 2": hand(2)}, {}, {"hand 2": hand(3)}],
            "other": [{"hand 1": hand(9)}],
            "c1": [{"hand 1": hand(4)}] * 4, "c4": [{"hand 1": hand(6)}] * 2, "c3": [{"hand 1": hand(5)}] * 3,
            "c5": [{}] * 5}


@pytest.fixture
def slovo(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "data" / "slovo_hands" / "source"
    source.mkdir(parents=True)
    pd.DataFrame(ROWS, columns=COLUMNS).to_csv(source / "annotations.csv", sep="\t", index=False)
    (source / "slovo_mediapipe.json").write_text(json.dumps(clips()))
    content = yaml.safe_load((PROJECT / "data_sets" / "slovo_hands.yaml").read_text(encoding="utf-8"))
    (tmp_path / "slovo_hands.yaml").write_text(yaml.safe_dump(content | {"class_counts": [2]}))
    return source


def run(capsys) -> tuple[int, str]:
    status = exchange.main(["--dataset", "slovo_hands.yaml"])
    said = capsys.readouterr()
    return status, said.out + said.err


def test_the_authors_file_comes_in_by_the_committed_yaml(slovo, capsys):
    status, said = run(capsys)
    assert status == 0 and "4 clips of 2 signs by 2 signers, 1 rejects" in said, said
    loaded = load_data_set("slovo_hands.yaml")
    store = LandmarkStore(loaded.landmarks)
    assert store.clips() == ["c1", "c2", "c3", "c4"]
    points = store.read("c2").points
    expected = np.array([[[joint[axis] for axis in "xyz"] for joint in hand(seed)] for seed in (1, 2, 3)], np.float32)
    assert np.array_equal(points[0], expected[:2].reshape(42, 3))
    assert np.isnan(points[1]).all() and np.isnan(points[2, :21]).all() and np.array_equal(points[2, 21:], expected[2])
    assert np.allclose(store.read("c2").times, [0, 1 / 30, 2 / 30])
    assert store.info("c2")["width"] == 1920 and store.info("c2")["height"] == 1080 and "width" not in store.info("c3")
    index = read_index(loaded).set_index("clip")
    assert index["split"].to_dict() == {"c1": "train", "c2": "test", "c3": "train", "c4": "test"}
    rejects = pd.read_csv(loaded.reports("import_landmarks") / "rejects.csv").set_index("clip")["reason"]
    assert "no point is detected" in rejects["c5"]
    before = {path: path.stat().st_mtime_ns for path in loaded.landmarks.iterdir()}
    assert run(capsys) == (0, said)
    assert before == {path: path.stat().st_mtime_ns for path in loaded.landmarks.iterdir()}, "nothing is written again"


@pytest.mark.parametrize(("content", "words"), [
    ([{"left": hand(1)}], "frame 0 has the entry `left`, not hand 1 or hand 2"),
    ([{}, {"hand 1": hand(1)[:20]}], "hand 1 of frame 1 is not 21 points"),
    ([{"hand 2": [{"x": 1.0, "y": 1.0}] * 21}], "hand 2 of frame 0 is not 21 points"),
    ([{"hand 1": [{"x": "1", "y": 1.0, "z": 0.0}] * 21}], "is not 21 points with numbers"),
    ([{"hand 1": [{"x": None, "y": 1.0, "z": 0.0}] * 21}], "is not 21 points with numbers"),
    ([{"hand 1": None}], "is not 21 points"),
    ([[]], "frame 0 is no object"),
    ({"frames": []}, "a list of frames was expected, not dict"),
    ("text", "a list of frames was expected, not str"),
    ([], "no frame"),
])
def test_a_clip_that_is_laid_out_otherwise_is_a_reject_that_says_where(slovo, capsys, content, words):
    (slovo / "slovo_mediapipe.json").write_text(json.dumps(clips() | {"c3": content, "c5": [{"hand 1": hand(1)}]}))
    pd.DataFrame([*ROWS, ("c6", "вода", "u1", "1", "1", "1.0", "True")], columns=COLUMNS).to_csv(
        slovo / "annotations.csv", sep="\t", index=False)
    status, said = run(capsys)
    assert status == 0 and "2 rejects" in said
    reports = load_data_set("slovo_hands.yaml").reports("import_landmarks")
    reasons = pd.read_csv(reports / "rejects.csv").set_index("clip")["reason"]
    assert words in reasons["c3"] and "none of the files" in reasons["c6"]


@pytest.mark.parametrize("damage", [
    lambda text: "[]", lambda text: json.dumps([json.loads(text)]), lambda text: "", lambda text: "no json",
    lambda text: text[:-1], lambda text: text.replace(":", "=", 1),
    lambda text: text.replace('"x": 0.', '"x": NaN', 1), lambda text: text[:3000] + "\0" + text[3000:],
    lambda text: text.replace('"x": 0.', '"x": ' + "9" * 40, 1),
])
def test_a_file_that_is_no_such_json_is_one_sentence(slovo, capsys, damage):
    path = slovo / "slovo_mediapipe.json"
    path.write_text(damage(path.read_text()))
    status, said = run(capsys)
    assert status == 1 and said.count("\n") == 1, said
    assert all(words in said for words in ("slovo_mediapipe.json", "attachment_id", "download it again"))


def test_what_came_before_a_break_stays_and_the_next_run_goes_on(slovo, capsys):
    path = slovo / "slovo_mediapipe.json"
    whole = path.read_text()
    path.write_text(whole[: whole.index('"c4"') + 99])
    assert run(capsys)[0] == 1
    store = LandmarkStore(load_data_set("slovo_hands.yaml").landmarks)
    kept = {clip: store.path(clip).stat().st_ino for clip in store.clips()}
    assert list(kept) == ["c1", "c2"]
    path.write_text(whole)
    assert run(capsys)[0] == 0 and store.clips() == ["c1", "c2", "c3", "c4"]
    assert all(store.path(clip).stat().st_ino == inode for clip, inode in kept.items())


def test_a_missing_file_or_another_skeleton_is_one_sentence(slovo, capsys):
    (slovo / "slovo_mediapipe.json").unlink()
    status, said = run(capsys)
    assert status == 1 and "no such file" in said and "docs/import.md" in said
    description = Path("slovo_hands.yaml")
    content = yaml.safe_load(description.read_text())
    description.write_text(yaml.safe_dump(content | {"skeleton": "holistic"}))
    assert "hands_by_detection" in run(capsys)[1]
    content["import"]["size"] = ["width", "high"]
    description.write_text(yaml.safe_dump(content))
    assert "no column `high`; correct `import.size`" in run(capsys)[1]


def test_a_size_that_is_no_number_is_a_reject(slovo, capsys):
    table = pd.DataFrame([*ROWS, ("c6", "дом", "u1", "9", "wide", "4.0", "True")], columns=COLUMNS)
    table.to_csv(slovo / "annotations.csv", sep="\t", index=False)
    (slovo / "slovo_mediapipe.json").write_text(json.dumps(clips() | {"c6": [{"hand 1": hand(1)}]}))
    assert "2 rejects" in run(capsys)[1]
    reports = load_data_set("slovo_hands.yaml").reports("import_landmarks")
    reasons = pd.read_csv(reports / "rejects.csv").set_index("clip")["reason"]
    assert reasons["c6"] == "its width and height are `wide` and `9`, not numbers of pixels"


def test_memory_stays_flat_however_long_the_file_is(tmp_path):
    path = tmp_path / "long.json"
    clip = json.dumps([{"hand 1": hand(1), "hand 2": hand(2)}] * 50)
    code = ("import re, sys\nfrom slr_lib.slovo_hands import read_hands\n"
            "class All:\n    def __contains__(self, clip):\n        return True\n"
            "with open(sys.argv[1], 'rb') as file:\n    count = sum(len(h) for _, h in read_hands(file, All()))\n"
            "print(count, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])")
    peaks = []
    for number in (4, 60):
        path.write_text("{" + ", ".join(f'"{place}": {clip}' for place in range(number)) + "}")
        done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
        frames, peak = map(int, done.stdout.split())
        assert frames == 50 * number
        peaks.append(peak)
    assert path.stat().st_size > 8e6 and peaks[1] - peaks[0] < 4000, f"kilobytes: {peaks}"


def test_of_a_clip_given_twice_the_first_counts(slovo, capsys):
    path = slovo / "slovo_mediapipe.json"
    path.write_text(path.read_text()[:-1] + ", " + json.dumps({"c1": [{"hand 1": hand(8)}]})[1:])
    assert run(capsys)[0] == 0
    points = LandmarkStore(load_data_set("slovo_hands.yaml").landmarks).read("c1").points
    assert len(points) == 4 and points[0, 0, 0] == np.float32(hand(4)[0]["x"])
