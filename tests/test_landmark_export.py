"""Export to GISLR parquet and .pose: the peers' own readers agree with the store, and all comes back by the import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import PROJECT

from slr_lib import exchange, landmark_export
from slr_lib.data_sets import load_data_set
from slr_lib.index import COLUMNS, read_index, write_index
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.signs import read_signs
from slr_lib.skeleton import HOLISTIC, load_skeleton

CLIPS = {"a": "дом", "b": "дом", "c/%ü 1".replace("/", "-"): "вода", "d": "вода"}
SIZES = {"a": (720, 1280), "b": (640, 480)}  # the others' are not known
THREE = {"points": ["left", "middle", "right"], "mirror": [["left", "right"]], "edges": [["left", "middle"]],
         "parts": {"body": {"points": ["left", "middle", "right"], "kind": "body"}}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data_sets").mkdir()
    (tmp_path / "three.yaml").write_text(yaml.safe_dump(THREE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(project: Path, skeleton: str = "holistic", even: bool = False, **keys):
    """A data set `mine` of four clips with a filled store; one has uneven times, and parts are missing."""
    content = {"title": "mine", "kind": "landmarks", "path": "theirs", "class_counts": [2], "skeleton": skeleton,
               "import": {"format": "npy"}, "aspect": 0.5} | keys
    (project / "data_sets" / "mine.yaml").write_text(yaml.safe_dump(content))
    mine = load_data_set("mine")
    count = len(load_skeleton(mine.skeleton_source).points)
    store, rng = LandmarkStore(mine.landmarks), np.random.default_rng(0)
    rows = []
    for number, (clip, gloss) in enumerate(CLIPS.items()):
        points = rng.normal(0.5, 0.3, (7 + number, count, 3)).astype(np.float32)
        points[2] = np.nan
        points[4, : count // 2] = np.nan
        times = np.arange(7 + number) / 25
        times[3] += 0 if even or clip != "b" else 0.013
        info = dict(zip(("width", "height"), SIZES.get(clip, ())))
        store.write(clip, ClipLandmarks(points, times, info))
        rows.append(dict.fromkeys(COLUMNS, "") | {"clip": clip, "gloss": gloss, "signer": f"u{number % 2}",
                    "split": ("train", "test")[number % 2], "frames": 7 + number, "mood": f"m{number}", "height": "9"})
    write_index(pd.DataFrame(rows), mine)
    (mine.data / "signs.csv").write_text("sign\nвода\nдом\n", encoding="utf-8")
    return mine, store


def export(capsys, form: str, folder: Path) -> str:
    status = landmark_export.main(["--dataset", "mine", "--format", form, "--to", str(folder)])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


def test_gislr_is_what_the_competitions_public_loader_expects(project, capsys):
    _, store = fill(project)
    assert "4 clips" in export(capsys, "gislr", project / "out")
    train = pd.read_csv(project / "out" / "train.csv", dtype=str, keep_default_na=False)
    assert list(train["sign"]) == list(CLIPS.values()) and list(train["sequence_id"]) == list(CLIPS)
    assert list(train["participant_id"]) == ["u0", "u1"] * 2 and list(train["mood"]) == ["m0", "m1", "m2", "m3"]
    peers: dict = {}
    text = (PROJECT / "docs" / "export.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], peers)
    for clip, path in zip(train["sequence_id"], train["path"]):
        stored = store.read(clip)
        theirs = peers["load_relevant_data_subset"](project / "out" / path)
        assert theirs.dtype == np.float32 and np.array_equal(theirs, stored.points, equal_nan=True)
        whole = pd.read_parquet(project / "out" / path)
        assert list(whole)[:7] == ["frame", "row_id", "type", "landmark_index", "x", "y", "z"]
        last = whole.iloc[-1]
        frames = len(stored.times)
        assert last["row_id"] == f"{frames - 1}-right_hand-20" and whole["row_id"].is_unique
        assert list(whole["type"][:543:1].drop_duplicates()) == ["face", "left_hand", "pose", "right_hand"]
        assert whole.dtypes[["frame", "landmark_index"]].eq("int16").all()


@pytest.mark.parametrize("skeleton", ["holistic", "hands_by_detection"])
def test_gislr_comes_back_bit_for_bit(project, capsys, skeleton):
    mine, store = fill(project, skeleton, no_mirror=["дом"])
    export(capsys, "gislr", project / "out")
    again = load_data_set(project / "out" / "mine_gislr.yaml")
    assert "4 clips of 2 signs by 2 signers, 0 rejects" in exchange.import_landmarks(again)
    back = LandmarkStore(again.landmarks)
    for clip in CLIPS:
        stored, returned = store.read(clip), back.read(clip)
        assert np.array_equal(returned.points, stored.points, equal_nan=True)
        assert np.array_equal(returned.times, stored.times)
        assert [returned.info.get(key) for key in ("width", "height")] == list(SIZES.get(clip, (None, None)))
    assert read_signs(again) == read_signs(mine) == ["вода", "дом"] and again.no_mirror == ["дом"]
    ours, theirs = read_index(mine), read_index(again)
    for name in ("clip", "gloss", "signer", "split", "frames", "mood"):
        assert list(ours[name]) == list(theirs[name])
    assert (again.aspect, again.split, again.class_counts) == (mine.aspect, mine.split, mine.class_counts)


def test_pose_is_what_pose_format_itself_makes_of_holistic(project, capsys):
    from pose_format import Pose
    from pose_format.utils.generic import detect_known_pose_format
    from pose_format.utils.holistic import holistic_components, mirror_horizontal

    _, store = fill(project)
    said = export(capsys, "pose", project / "out")
    assert "1 of the 4 written now had uneven times" in said
    index = pd.read_csv(project / "out" / "index.csv", dtype=str, keep_default_na=False)
    wanted = holistic_components()[:4]
    for clip, path in zip(index["clip"], index["path"]):
        stored = store.read(clip)
        pose = Pose.read((project / "out" / path).read_bytes())
        assert [(part.name, part.points, part.format) for part in pose.header.components] == [
            (part.name, part.points, part.format) for part in wanted]
        assert detect_known_pose_format(pose) == "holistic" and mirror_horizontal(pose)
        width, height = SIZES.get(clip, (1, 1))
        assert (pose.header.dimensions.width, pose.header.dimensions.height) == (width, height)
        assert pose.body.data.shape == (len(stored.times), 1, 543, 3)
        place = pose.header.get_point_index("LEFT_HAND_LANDMARKS", "MIDDLE_FINGER_TIP")
        ours = stored.points[:, HOLISTIC.index("left_hand_middle_tip")]
        theirs = pose.body.data[:, 0, place]
        assert np.array_equal(theirs.mask[:, 0], np.isnan(ours[:, 0]))
        assert np.array_equal(pose.body.confidence[:, 0, place] > 0, ~np.isnan(ours[:, 0]))
        seen = ~theirs.mask[:, 0]
        assert np.allclose(theirs.data[seen], ours[seen] * [width, height, 1], rtol=1e-6)
        assert pose.body.fps == pytest.approx((len(stored.times) - 1) / stored.times[-1])


@pytest.mark.parametrize("skeleton", ["holistic", "hands", "three.yaml"])
def test_pose_comes_back_within_its_precision(project, capsys, skeleton):
    mine, store = fill(project, skeleton, even=True)
    assert "uneven" not in export(capsys, "pose", project / "out")
    (project / "three.yaml").unlink()  # the described skeleton went with the export
    again = load_data_set(project / "out" / "mine_pose.yaml")
    assert "4 clips of 2 signs by 2 signers, 0 rejects" in exchange.import_landmarks(again)
    back = LandmarkStore(again.landmarks)
    for clip in CLIPS:
        stored, returned = store.read(clip), back.read(clip)
        if clip not in SIZES:  # written as they are
            assert np.array_equal(returned.points, stored.points, equal_nan=True)
        if skeleton != "three.yaml":  # MediaPipe's depth is written as it is
            assert np.array_equal(returned.points[..., 2], stored.points[..., 2], equal_nan=True)
        assert np.array_equal(np.isnan(returned.points), np.isnan(stored.points))
        assert np.nanmax(abs(returned.points / stored.points - 1)) <= 2**-22, "pixels cost the last bits"
        assert np.array_equal(returned.times, stored.times)
        assert [returned.info.get(key) for key in ("width", "height")] == list(SIZES.get(clip, (None, None)))
    assert read_signs(again) == read_signs(mine)


def test_a_second_run_writes_nothing_and_a_changed_clip_only_itself(project, capsys):
    _, store = fill(project)
    first = export(capsys, "gislr", project / "out")
    files = sorted(path for path in (project / "out").rglob("*") if path.is_file())
    before = {path: (path.stat().st_ctime_ns, path.read_bytes()) for path in files}
    assert export(capsys, "gislr", project / "out") == first
    after = {path: (path.stat().st_ctime_ns, path.read_bytes()) for path in files}
    landmarks = [path for path in files if path.suffix == ".parquet"]
    assert len(landmarks) == 4 and all(before[path] == after[path] for path in landmarks)
    assert all(before[path][1] == after[path][1] for path in files)
    clip = store.read("d")
    store.write("d", ClipLandmarks(clip.points[:5], clip.times[:5]))
    os.utime(store.path("d"), ns=(1, 1))  # even an older time is another
    landmarks[0].unlink()
    (landmarks[0].parent / f".{landmarks[0].name}.part").write_text("a killed run's")
    export(capsys, "gislr", project / "out")
    changed = [path for path in landmarks if path.stat().st_ctime_ns != after[path][0]]
    assert [path.stem for path in changed] == ["a", "d"]
    assert len(pd.read_parquet(changed[1])) == 5 * 543
    assert landmarks[0].read_bytes() == before[landmarks[0]][1], "equal landmarks, equal bytes"


def test_a_killed_run_leaves_whole_files_and_goes_on(project, capsys):
    fill(project)
    code = ("import os, sys\nfrom slr_lib import landmark_export\nwrite, left = landmark_export._write, [4]\n"
            "def dying(*given):\n    left[0] -= 1\n    if not left[0]:\n        os.kill(os.getpid(), 9)\n"
            "    write(*given)\nlandmark_export._write = dying\n"
            "landmark_export.main(['--dataset', 'mine', '--format', 'pose', '--to', 'out'])")
    assert subprocess.run([sys.executable, "-c", code], cwd=project).returncode == -9
    done = list((project / "out" / "landmarks").glob("*.pose"))
    assert len(done) == 2 and not (project / "out" / "index.csv").exists(), "the table comes last"
    kept = {path: path.stat().st_ino for path in done}
    assert "4 clips" in export(capsys, "pose", project / "out")
    assert all(path.stat().st_ino == inode for path, inode in kept.items())
    export(capsys, "pose", project / "other")
    for path in sorted((project / "other").rglob("*.pose")):
        assert (project / "out" / "landmarks" / path.name).read_bytes() == path.read_bytes()


def test_a_clip_that_cannot_be_read_is_left_out_with_its_reason(project, capsys):
    _, store = fill(project)
    store.path("a").write_bytes(b"damaged")
    store.remove("d")
    assert "2 clips" in export(capsys, "pose", project / "out")
    rejects = pd.read_csv(project / "out" / "rejects.csv").set_index("clip")["reason"]
    assert list(rejects.index) == ["d", "a"] and "damaged" in rejects["a"] and "no landmarks" in rejects["d"]
    assert set(pd.read_csv(project / "out" / "index.csv")["clip"]) == {"b", "c-%ü 1"}


@pytest.mark.parametrize(("keys", "form", "prepare", "words"), [
    ({"skeleton": "three.yaml"}, "gislr", lambda project, store: None, ("point left", "--format pose")),
    ({}, "pose", lambda project, store: (project / "out").write_text("mine"), ("out holds something else",)),
    ({}, "pose", lambda project, store: ((project / "out").mkdir(), (project / "out" / "index.csv").write_text("x")),
     ("out holds something else", "new folder")),
    ({}, "pose", lambda project, store: [store.remove(clip) for clip in CLIPS], ("none of the 4 clips", "make repro")),
    ({}, "gislr", lambda project, store: (project / "data" / "mine" / "index.csv").unlink(), ("index.csv is missing",)),
])
def test_what_cannot_be_exported_is_one_sentence(project, capsys, keys, form, prepare, words):
    _, store = fill(project, **keys)
    prepare(project, store)
    assert landmark_export.main(["--dataset", "mine", "--format", form, "--to", "out"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and all(word in said.err for word in words), said.err


def test_other_settings_never_mix_with_an_earlier_export(project, capsys):
    fill(project)
    export(capsys, "pose", project / "out")
    fill(project, fps=50)
    assert landmark_export.main(["--dataset", "mine", "--format", "pose", "--to", "out"]) == 1
    assert "other settings" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence_and_harms_nothing(project, capsys, monkeypatch):
    fill(project)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert landmark_export.main(["--dataset", "mine", "--format", "gislr", "--to", "out"]) == 1
    said = capsys.readouterr().err
    assert "No space left on device" in said and "run again" in said and said.count("\n") == 1
    monkeypatch.undo()
    monkeypatch.chdir(project)
    assert "4 clips" in export(capsys, "gislr", project / "out")
