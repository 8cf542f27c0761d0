"""Landmarks that somebody else extracted: every documented format, its faults, and the stage that imports them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from slr_lib import exchange
from slr_lib.annotations import count_folds
from slr_lib.data_sets import load_data_set
from slr_lib.errors import InputError
from slr_lib.index import read_index
from slr_lib.landmark_store import LandmarkStore
from slr_lib.recordings import Unusable, to_points
from slr_lib.signs import read_signs
from slr_lib.skeleton import HOLISTIC
from slr_lib.splits import assign_parts

ROWS = [(clip, gloss, signer, split) for (clip, gloss), (signer, split) in zip(
    [("a", "hello"), ("b", "hello"), ("c", "bye"), ("d", "bye")], [("u1", "train"), ("u2", "test")] * 2)]
THREE = {"points": ["left", "middle", "right"], "mirror": [["left", "right"]],
         "parts": {"body": {"points": ["left", "middle", "right"], "kind": "body"}}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data_sets").mkdir()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "three.yaml").write_text(yaml.safe_dump(THREE))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def describe(project: Path, given: dict, **keys):
    """Write the YAML of the data set `mine`; returns it loaded."""
    content = {"title": "mine", "kind": "landmarks", "path": "theirs", "class_counts": [2], "skeleton": "three.yaml"}
    (project / "data_sets" / "mine.yaml").write_text(yaml.safe_dump(content | keys | {"import": given}))
    return load_data_set("mine")


def write_index(project: Path, rows=ROWS, columns=("clip", "gloss", "signer", "split"), name="index.csv", **more):
    table = pd.DataFrame(rows, columns=list(columns)).assign(**more)
    table.to_csv(project / "theirs" / name, index=False)


def write_arrays(project: Path, shape=(5, 3, 2), clips="abcd") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {clip: rng.random(shape, np.float32) for clip in clips}
    for clip, array in arrays.items():
        np.save(project / "theirs" / f"{clip}.npy", array)
    return arrays


def run(capsys) -> str:
    status = exchange.main(["--dataset", "mine"])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


def test_numpy_arrays_come_in_with_assumed_times(project, capsys):
    mine = describe(project, {"format": "npy"}, fps=25)
    write_index(project, mood="gay")
    arrays = write_arrays(project)
    assert "4 clips of 2 signs by 2 signers, 0 rejects" in run(capsys)
    store = LandmarkStore(mine.landmarks)
    assert store.clips() == ["a", "b", "c", "d"]
    stored = store.read("b")
    assert np.array_equal(stored.points[..., :2], arrays["b"]) and (stored.points[..., 2] == 0).all()
    assert np.allclose(stored.times, np.arange(5) / 25)
    index = read_index(mine)
    assert list(index["frames"]) == [5] * 4 and list(index["split"]) == ["train", "test"] * 2
    assert set(index["path"]) == {""}
    metrics = json.loads((mine.reports("import_landmarks") / "metrics.json").read_text())
    assert metrics["frames"] == 20 and metrics["points"] == 3 and metrics["extra_columns"] == ["mood"]
    assert read_signs(mine) == ["hello", "bye"]


def test_the_public_form_of_two_hands_with_minus_one_for_missing(project, capsys):
    mine = describe(project, {"format": "npy", "missing": -1}, skeleton="hands_by_detection")
    write_index(project)
    arrays = {clip: np.random.default_rng(1).random((4, 2, 21, 3)) for clip in "abcd"}
    arrays["c"][1:, 1] = -1
    arrays["c"][0] = -1
    for clip, array in arrays.items():
        np.save(project / "theirs" / f"{clip}.npy", array)
    run(capsys)
    points = LandmarkStore(mine.landmarks).read("c").points
    assert points.shape == (4, 42, 3)
    assert np.isnan(points[0]).all() and np.isnan(points[1:, 21:]).all()
    assert np.array_equal(points[1:, :21], arrays["c"][1:, 0].astype(np.float32))


def gislr(frames: int, first: int = 0, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    points = np.random.default_rng(seed).random((frames, 543, 3)).astype(np.float32)
    points[0, 468:489] = np.nan
    types = np.repeat(["face", "left_hand", "pose", "right_hand"], [468, 21, 33, 21])
    places = np.concatenate([np.arange(number) for number in (468, 21, 33, 21)])
    frame = np.repeat(np.arange(first, first + frames), 543)
    table = pd.DataFrame({"frame": frame.astype(np.int16), "type": np.tile(types, frames),
                          "landmark_index": np.tile(places, frames).astype(np.int16)})
    names = zip(table["frame"], table["type"], table["landmark_index"])
    table.insert(1, "row_id", [f"{frame}-{kind}-{place}" for frame, kind, place in names])
    for axis, name in enumerate("xyz"):
        table[name] = points[..., axis].ravel()
    return table, points


def test_a_folder_in_kaggles_own_convention(project, capsys):
    columns = {"clip": "sequence_id", "gloss": "sign", "signer": "participant_id"}
    mine = describe(project, {"format": "gislr", "index": "train.csv", "columns": columns}, skeleton="holistic",
                    split={"test_signers": [2]}, fps=20)
    rows = [(f"files/{clip}.parquet", signer, clip, gloss) for clip, gloss, signer in
            [("100", "tv", "1"), ("101", "tv", "2"), ("102", "owl", "1"), ("103", "owl", "2")]]
    write_index(project, rows, ("path", "participant_id", "sequence_id", "sign"), "train.csv")
    (project / "theirs" / "files").mkdir()
    for number, clip in enumerate(["100", "101", "102", "103"]):
        table = gislr(3, first=17, seed=number)[0]
        table = table.sample(frac=1, random_state=0) if clip == "101" else table  # the rows' order says nothing
        if clip == "102":
            table = table[table["type"] != "face"]  # never looked for
        if clip == "103":
            table["frame"] = table["frame"].replace(19, 21)  # two frames were dropped
        table.to_parquet(project / "theirs" / "files" / f"{clip}.parquet")
    assert "4 clips of 2 signs by 2 signers, 0 rejects" in run(capsys)
    store = LandmarkStore(mine.landmarks)
    assert np.array_equal(store.read("101").points, gislr(3, seed=1)[1], equal_nan=True)
    assert np.isnan(store.read("102").points[:, :468]).all() and not np.isnan(store.read("102").points[1:, 468:]).any()
    assert np.allclose(store.read("103").times, [0, 1 / 20, 4 / 20])
    index = read_index(mine)
    assert list(assign_parts(index, mine, validation_share=0)) == ["train", "test", "train", "test"]


def test_a_skeleton_of_some_of_holistics_points_reads_gislr(project, capsys):
    names = ["pose_nose", "left_hand_wrist", "right_hand_wrist"]
    chosen = {"points": names, "mirror": [names[1:]], "parts": {"all": {"points": names, "kind": "body"}}}
    (project / "three.yaml").write_text(yaml.safe_dump(chosen))
    mine = describe(project, {"format": "gislr"})
    write_index(project)
    for clip in "abcd":
        gislr(2)[0].to_parquet(project / "theirs" / f"{clip}.parquet")
    run(capsys)
    points, whole = LandmarkStore(mine.landmarks).read("a").points, gislr(2)[1]
    places = [HOLISTIC.index(name) for name in names]
    assert np.array_equal(points, whole[:, places], equal_nan=True)
    (project / "three.yaml").write_text(yaml.safe_dump(THREE))
    with pytest.raises(InputError, match="left, which"):
        exchange.import_landmarks(mine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.iloc[:-1], "each of right_hand's 21 points once"),
        (lambda table: pd.concat([table, table.iloc[:1]]), "each of face's 468 points once"),
        (lambda table: table.assign(landmark_index=500), "row 1 is no landmark: type face, landmark_index 500"),
        (lambda table: table.replace({"type": {"pose": "body"}}), "type body"),
        (lambda table: table.drop(columns=["type", "x"]), "lacks the column type, x"),
        (lambda table: table.assign(x="left"), "holds something else"),
        (lambda table: table.iloc[:0], "no frame"),
        (lambda table: table.assign(x=np.nan), "no point is detected"),
        (None, "no parquet file"),
    ],
)
def test_a_bad_parquet_is_a_reject_that_says_why(project, capsys, change, words):
    mine = describe(project, {"format": "gislr"}, skeleton="holistic")
    write_index(project)
    for clip in "abc":
        gislr(2)[0].to_parquet(project / "theirs" / f"{clip}.parquet")
    bad = project / "theirs" / "d.parquet"
    bad.write_text("no parquet") if change is None else change(gislr(2)[0]).to_parquet(bad)
    assert "3 clips of 2 signs by 2 signers, 1 rejects" in run(capsys)
    rejects = pd.read_csv(mine.reports("import_landmarks") / "rejects.csv")
    assert list(rejects["clip"]) == ["d"]
    assert words in rejects["reason"][0] and "d.parquet" in rejects["reason"][0]


def write_packed(project: Path, name="all.npz", clips=(("a", 2), ("b", 3), ("c", 4), ("d", 1)), **arrays):
    offsets = np.cumsum([0, *(frames for _, frames in clips)])
    rng = np.random.default_rng(0)
    content = {"name": np.array([clip for clip, _ in clips]), "frame_offset": offsets,
               "pair": rng.random((offsets[-1], 1, 2, 3), np.float32),
               "centre": rng.random((offsets[-1], 2), np.float32)}
    content |= arrays
    np.savez(project / "theirs" / name, **{key: value for key, value in content.items() if value is not None})
    return content


PACKED = {"format": "npz", "files": ["all.npz"], "arrays": ["pair", "centre"]}


def test_packed_arrays_are_joined_point_by_point(project, capsys):
    content = write_packed(project, when=np.array([0, 0.5, 7, 8, 9.5, 0, 1, 2, 3, 4]))
    mine = describe(project, PACKED | {"times": "when", "y_up": True})
    write_index(project)
    run(capsys)
    stored = LandmarkStore(mine.landmarks).read("b")
    assert np.array_equal(stored.points[:, :2, 0], content["pair"][2:5, 0, :, 0])
    assert np.array_equal(stored.points[:, :2, 1], -content["pair"][2:5, 0, :, 1])
    assert np.array_equal(stored.points[:, 2, 0], content["centre"][2:5, 0]) and (stored.points[:, 2, 2] == 0).all()
    assert np.allclose(stored.times, [0, 1, 2.5])


def test_byte_planes_of_the_valid_slots(project, capsys):
    valid = np.array([[True, False], [True, True], [False, False], [True, False]])
    floats = np.random.default_rng(0).random((4, 2, 3), np.float32)  # [valid slots, points, C]
    planes = np.ascontiguousarray(floats.transpose(2, 1, 0)).reshape(-1).view(np.uint8).reshape(-1, 4).T
    write_packed(project, clips=(("a", 1), ("b", 1), ("c", 1), ("d", 1)), pair=None, centre=None, planes=planes,
                 shape=np.array([3, 2, 4]), valid=valid)
    four = THREE | {"points": ["left", "middle", "right", "more"]}
    (project / "three.yaml").write_text(yaml.safe_dump(four))
    packed = {"bytes": "planes", "shape": "shape", "valid": "valid"}
    mine = describe(project, PACKED | {"arrays": [packed]})
    write_index(project)
    assert "1 rejects" in run(capsys), "c has no valid slot"
    store = LandmarkStore(mine.landmarks)
    assert np.array_equal(store.read("b").points[0], floats[1:3].reshape(4, 3))
    assert np.array_equal(store.read("d").points[0, :2], floats[3]) and np.isnan(store.read("d").points[0, 2:]).all()


@pytest.mark.parametrize(
    ("given", "arrays", "words"),
    [
        ({"files": ["other.npz"]}, {}, ("other.npz", "no such file", "import.files")),
        ({"arrays": ["pair"]}, {}, ("2 points a frame", "three has 3")),
        ({"arrays": ["hands"]}, {}, ("no array `hands`", "it has name, frame_offset")),
        ({"names": "ids"}, {}, ("no array `ids`", "import.names")),
        ({}, {"frame_offset": np.array([0, 2, 5, 9])}, ("frame_offset", "4 clips")),
        ({}, {"frame_offset": np.array([0, 2, 1, 9, 10])}, ("frame_offset", "rising")),
        ({}, {"centre": np.zeros((9, 2))}, ("`centre` has the shape [9, 2]", "10 frames")),
        ({"times": "when"}, {"when": np.zeros(3)}, ("`when`", "10 frames")),
        ({"arrays": [{"bytes": "pair", "shape": "frame_offset", "valid": "centre"}]}, {}, ("do not fit",)),
    ],
)
def test_a_packed_file_that_is_not_as_described_is_one_sentence(project, capsys, given, arrays, words):
    describe(project, PACKED | given)
    write_index(project)
    write_packed(project, **arrays)
    assert exchange.main(["--dataset", "mine"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and all(word in said.err for word in words), said.err


def test_a_packed_file_cut_short_is_one_sentence(project, capsys):
    describe(project, PACKED)
    write_index(project)
    write_packed(project)
    path = project / "theirs" / "all.npz"
    path.write_bytes(path.read_bytes()[:300])
    assert exchange.main(["--dataset", "mine"]) == 1
    assert "all.npz is no file of NumPy arrays" in capsys.readouterr().err


def test_bad_clips_are_rejects_and_the_others_come_in(project, capsys):
    mine = describe(project, {"format": "npy", "missing": -1}, class_counts=[3])
    bad = {
        "gone": None, "text": b"no array", "object": np.array([None, 1]), "flat": np.zeros(7),
        "none": np.zeros((0, 3, 2)), "four": np.zeros((5, 4, 2)), "wide": np.zeros((5, 3, 5)),
        "inf": np.full((5, 3, 2), np.inf), "lost": -np.ones((5, 3, 2)),
    }
    write_index(project, [*ROWS, *((clip, "bye", "u1", "train") for clip in bad), ("e", "", "u1", "train"),
                          ("a", "bye", "u1", "train"), ("f", "hello", "u1", "exam"), ("g", "rest", "u1", "train")])
    write_arrays(project, clips="abcdefg")
    for clip, content in bad.items():
        path = project / "theirs" / f"{clip}.npy"
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            np.save(path, content, allow_pickle=True)
    run(capsys)
    rejects = pd.read_csv(mine.reports("import_landmarks") / "rejects.csv")
    reasons = dict(zip(rejects["clip"], rejects["reason"]))
    assert set(reasons) == {*bad, "a", "e", "f"} and len(rejects) == len(bad) + 4
    expected = {"gone": "cannot be read", "text": "no NumPy array", "object": "no NumPy array", "flat": "shape [7]",
                "none": "no frame", "four": "4 points a frame", "wide": "shape [5, 3, 5]", "inf": "infinite",
                "lost": "no point is detected", "a": "rows 1, 15", "e": "gloss is empty", "f": "split is `exam`"}
    assert not [clip for clip, words in expected.items() if words not in reasons[clip]], reasons
    assert LandmarkStore(mine.landmarks).clips() == ["b", "c", "d", "g"]


def test_only_what_the_tasks_need_is_imported_unless_told(project, capsys):
    rows = [*ROWS, ("x", "more", "u1", "train"), ("y", "more", "u3", "test"), ("z", "none", "u1", "train")]
    write_index(project, rows)
    write_arrays(project, clips="abcdxyz")
    mine = describe(project, {"format": "npy"}, no_event="none")
    run(capsys)
    assert LandmarkStore(mine.landmarks).clips() == ["a", "b", "c", "d", "z"] and read_signs(mine) == ["hello", "bye"]
    mine = describe(project, {"format": "npy"}, split="leave_one_signer_out")
    assert count_folds(mine) == 2, "u3 makes no sign that is needed"
    mine = describe(project, {"format": "npy", "signs": "all"}, no_event="none")
    run(capsys)
    assert len(LandmarkStore(mine.landmarks).clips()) == 7 and read_signs(mine) == ["hello", "bye", "more"]
    mine = describe(project, {"format": "npy", "where": {"signer": ["u1", "u2"]}, "signs": "all"})
    run(capsys)
    assert LandmarkStore(mine.landmarks).clips() == ["a", "b", "c", "d", "x", "z"], "y has left the index"


def test_a_second_run_writes_nothing_and_a_changed_source_only_itself(project, capsys):
    mine = describe(project, {"format": "npy"})
    write_index(project)
    write_arrays(project)
    first = run(capsys)
    files = sorted(path for path in mine.data.rglob("*") if path.is_file())
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.suffix == ".npz"]
    reports = [path.read_bytes() for path in sorted(mine.reports("import_landmarks").iterdir())]
    assert run(capsys) == first
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.suffix == ".npz"] == before
    assert [path.read_bytes() for path in sorted(mine.reports("import_landmarks").iterdir())] == reports
    np.save(project / "theirs" / "c.npy", np.ones((2, 3, 2), np.float32))
    store = LandmarkStore(mine.landmarks)
    store.path("d").write_bytes(b"damaged")
    run(capsys)
    after = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files if path.suffix == ".npz"]
    assert [one == other for one, other in zip(before, after)] == [True, True, False, False]
    assert len(store.read("c").points) == 2 and after[3][1] == before[3][1], "a damaged file of the store is mended"
    np.save(project / "theirs" / "c.npy", np.ones((2, 4, 2), np.float32))
    assert "1 rejects" in run(capsys)
    assert "c" not in store, "landmarks whose source is broken now"


@pytest.mark.parametrize(
    ("keys", "given", "words"),
    [
        ({"path": "nowhere"}, {}, ("nowhere: no such folder", "index.csv", "docs/import.md")),
        ({}, {"index": "other.csv"}, ("other.csv", "import.index")),
        ({}, {"columns": {"gloss": "word"}}, ("no column `word`", "import.columns.gloss", "clip, gloss")),
        ({}, {"columns": {"signer": "who"}}, ("`who`", "null where there is none")),
        ({}, {"columns": {"split": None}}, ("split: official", "import.columns.split")),
        ({}, {"where": {"colour": ["red"]}}, ("no column `colour`", "import.where")),
        ({}, {"where": {"signer": ["u9"]}}, ("no row", "import.where")),
        ({}, {"clip_path": "{clip}-{take}.npy"}, ("import.clip_path", "'take'", "row 1")),
        ({}, {"clip_path": "{clip}.npz"}, ("none of its 4 clips", "a.npz cannot be read")),
        ({"skeleton": "hands"}, {}, ("none of its 4 clips", "3 points a frame", "skeleton has 42")),
        ({"class_counts": [3]}, {}, ("3 signs", "2 at most")),
    ],
)
def test_a_set_that_is_not_as_described_is_one_sentence(project, capsys, keys, given, words):
    describe(project, {"format": "npy"} | given, **keys)
    write_index(project)
    write_arrays(project)
    assert exchange.main(["--dataset", "mine"]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and all(word in said.err for word in words), said.err


def test_to_points_takes_two_axes_and_keeps_a_missing_depth():
    flat = np.arange(12, dtype=np.int64).reshape(2, 6)
    assert to_points(flat, 3)[1].tolist() == [[6, 7, 0], [8, 9, 0], [10, 11, 0]]
    array = np.zeros((1, 3, 3))
    array[0, 0, 2], array[0, 1, 0] = np.nan, np.nan
    points = to_points(array, 3)
    assert points[0, 0].tolist() == [0, 0, 0] and np.isnan(points[0, 1]).all(), "x decides, a lost z does not"
    with pytest.raises(Unusable):
        to_points(np.array(["a"]), 3)


def need(shared: Path, name: str) -> None:
    if not (shared / name).is_dir():
        pytest.skip(f"the real data are not at {shared}; SLR_SHARED names their folder")


@pytest.fixture
def real(project, shared, monkeypatch):
    (project / "data_sets").rmdir()
    (project / "data_sets").symlink_to(Path(__file__).resolve().parents[1] / "data_sets")
    monkeypatch.setenv("SLR_SHARED", str(shared.parent))
    return project


def test_wlasl_hands_agree_with_their_own_recipe(real, shared, capsys):
    need(shared, "wlasl_hands")
    wlasl = load_data_set("wlasl_hands")
    wlasl = wlasl.model_copy(update={"class_counts": [100]})
    assert "1013 clips of 100 signs" in exchange.import_landmarks(wlasl)
    index = read_index(wlasl)
    assert index["split"].value_counts().to_dict() == {"train": 748, "val": 165, "test": 100}
    labels = dict(zip(index["gloss"], index["label"].astype(int)))
    assert read_signs(wlasl) == sorted(labels, key=labels.get) and set(labels.values()) == set(range(100))
    with np.load(shared / "wlasl_hands" / "wlasl_hands_tier100.npz") as z:
        offsets, valid, names = z["frame_offset"], z["hand_valid"], z["video_id"]
        floats = np.ascontiguousarray(z["xyz_bytes"].T).view("<f4").reshape(z["xyz_shape"]).transpose(2, 1, 0)
    full = np.full((offsets[-1], 2, 21, 3), np.nan, "f4")
    full[valid] = floats
    store = LandmarkStore(wlasl.landmarks)
    for number in (0, 500, 1012):
        stored = store.read(str(names[number]))
        theirs = full[offsets[number] : offsets[number + 1]].reshape(-1, 42, 3)
        assert np.array_equal(stored.points, theirs, equal_nan=True)
        assert np.allclose(np.diff(stored.times), 1 / 30)


def test_dgs30_and_isl_kinect30_come_in_by_their_yaml_alone(real, shared):
    need(shared, "isl_kinect30")
    for name, clips, points, folds in (("dgs30_mediapipe", 1755, 43, 5), ("isl_kinect30", 2700, 20, 10)):
        chosen = load_data_set(name)
        assert f"{clips} clips of 30 signs" in exchange.import_landmarks(chosen)
        index = read_index(chosen)
        stored = LandmarkStore(chosen.landmarks).read(index["clip"][7]).points
        assert stored.shape == (index["frames"][7], points, 3)
        assert count_folds(chosen) == folds
    head, foot = stored[:, [0, 18], 1].mean(0)
    assert head < foot, "y grows downwards"
