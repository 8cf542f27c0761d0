"""The tables of a data set, its rejects, and the stage `corpus` on folders that are good, bad and worse."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from slr_lib import corpus
from slr_lib.annotations import count_folds, index_of_videos, list_clips, read_annotations
from slr_lib.data_sets import DataSet, load_data_set
from slr_lib.errors import InputError
from slr_lib.index import COLUMNS, read_index
from slr_lib.signs import read_signs

HEADER = "attachment_id\ttext\tuser_id\theight\twidth\tlength\ttrain\tbegin\tend"
ROWS = [
    "a\tпривет\tu1\t1920\t1080\t66.0\tTrue\t\t",
    "b\tпривет\tu2\t1920\t1080\t40\tFalse\t0\t40",
    "c\tдом родной\tu1\t1920\t1080\t12.0\ttrue\t2\t9",
    "d\tдом родной\tu2\t1920\t1080\t30\tfalse\t\t",
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data_sets").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


VIDEOS = ("train/a.mp4", "test/b.mp4", "train/c.mp4", "test/d.mp4")


def make_folder(root: Path, rows=ROWS, header=HEADER, videos=VIDEOS):
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    for name in videos:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"video")
    return root


def data_set(root: Path | str = "clips", **keys) -> DataSet:
    return DataSet(**{"name": "mine", "title": "mine", "kind": "videos", "path": str(root), "class_counts": [2]} | keys)


def test_a_good_folder_gives_the_index_in_the_order_of_the_table(project):
    make_folder(project / "clips")
    index, rejects = index_of_videos(data_set())
    assert tuple(index.columns[: len(COLUMNS)]) == COLUMNS
    assert list(index["clip"]) == ["a", "b", "c", "d"]
    assert list(index["path"]) == ["clips/train/a.mp4", "clips/test/b.mp4", "clips/train/c.mp4", "clips/test/d.mp4"]
    assert list(index["frames"]) == [66, 40, 12, 30]
    assert list(index["begin"]) == ["", 0, 2, ""] and list(index["end"]) == ["", 40, 9, ""]
    assert index["gloss"].iloc[2] == "дом родной" and list(index["split"]) == ["train", "test"] * 2
    assert rejects.empty and list(rejects.columns[:3]) == ["clip", "path", "reason"]


def test_begin_and_end_may_lack_and_further_columns_are_kept(project):
    header = "attachment_id\ttext\tuser_id\theight\twidth\tlength\ttrain\tmood\tpath"
    rows = ["a\tNA\tu1\t1\t2\t3.0\tTrue\tgay\told/a", "b\tNA\tu2\t1\t2\t3.0\tFalse\tsad\told/b"]
    make_folder(project / "clips", rows, header, ["train/a.mp4", "test/b.mp4"])
    index, _ = index_of_videos(data_set())
    assert list(index["mood"]) == ["gay", "sad"] and list(index["height"]) == ["1", "1"]
    assert list(index["table.path"]) == ["old/a", "old/b"] and index["path"].iloc[0] == "clips/train/a.mp4"
    assert list(index["gloss"]) == ["NA", "NA"], "a gloss that pandas takes for a missing value"
    assert list(index["begin"]) == ["", ""]


def test_other_formats_and_a_flat_folder_are_as_good(project):
    videos = ["train/a.webm", "b.MP4", "train/c.mp4", "train/c.avi", "test/d.mov"]
    make_folder(project / "clips", videos=videos)
    index, rejects = index_of_videos(data_set())
    assert [Path(path).name for path in index["path"]] == ["a.webm", "b.MP4", "c.mp4", "d.mov"]
    assert rejects.empty
    index, _ = index_of_videos(data_set(project / "clips" / "annotations.csv"))
    assert len(index) == 4


@pytest.mark.parametrize(
    ("row", "clip", "words"),
    [
        ("x\tкот\tu1\t1\t1\t5\tTrue\t\t", "x", ("row 5", "no video", "train/x.mp4")),
        ("x\t \tu1\t1\t1\t5\tTrue\t\t", "x", ("row 5 of annotations.csv", "gloss is empty")),
        ("\tкот\tu1\t1\t1\t5\tTrue\t\t", "", ("row 5", "clip id is empty")),
        ("../x\tкот\tu1\t1\t1\t5\tTrue\t\t", "../x", ("row 5", "no file name")),
        ("x\tкот\tu1\t1\t1\tlong\tTrue\t\t", "x", ("row 5", "length is `long`")),
        ("x\tкот\tu1\t1\t1\t5.5\tTrue\t\t", "x", ("row 5", "length is `5.5`")),
        ("x\tкот\tu1\t1\t1\tinf\tTrue\t\t", "x", ("row 5", "length is `inf`")),
        ("x\tкот\tu1\t1\t1\t5\tmaybe\t\t", "x", ("row 5", "train is `maybe`")),
        ("x\tкот\tu1\t1\t1\t5\tTrue\t4\t4", "x", ("row 5", "begin 4 is not before end 4")),
        ("x\tкот\tu1\t1\t1\t5\tTrue\t4\t", "x", ("row 5", "one of begin and end is empty")),
        ("x\tкот\tu1\t1\t1\t5\tTrue", "x", ("row 5", "7 fields, not 9")),
    ],
)
def test_a_bad_row_is_a_reject_that_says_why(project, row, clip, words):
    make_folder(project / "clips", [*ROWS, row])
    index, rejects = index_of_videos(data_set())
    assert len(index) == 4 and list(rejects["clip"]) == [clip]
    assert all(word in rejects["reason"].iloc[0] for word in words), rejects["reason"].iloc[0]


def test_videos_without_a_row_misplaced_and_empty_ones_are_rejects(project):
    root = make_folder(project / "clips", videos=["train/a.mp4", "test/b.mp4", "test/c.mp4", "train/lost.mp4"])
    (root / "test" / "d.mp4").touch()
    (root / "train" / "notes.txt").write_text("no video")
    index, rejects = index_of_videos(data_set())
    reasons = dict(zip(rejects["clip"], rejects["reason"]))
    assert list(index["clip"]) == ["a", "b"] and set(reasons) == {"c", "d", "lost"}
    assert "row 3" in reasons["c"] and "lies in test/" in reasons["c"]
    assert "empty file" in reasons["d"] and "no row of" in reasons["lost"]


def test_of_equal_rows_the_first_stays_and_of_contradicting_ones_none(project):
    other = ROWS[3].replace("дом родной", "кот")
    make_folder(project / "clips", [*ROWS, ROWS[0], other])
    index, rejects = index_of_videos(data_set())
    assert list(index["clip"]) == ["a", "b", "c"]
    reasons = list(zip(rejects["clip"], rejects["reason"]))
    assert [clip for clip, _ in reasons] == ["d", "a", "d"]
    assert "rows 1, 5" in reasons[1][1] and "the first is used" in reasons[1][1]
    assert "rows 4, 6" in reasons[0][1] and "none is used" in reasons[0][1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ("annotations.csv", "no such table", "make slovo")),
        (b"", ("no header line",)),
        (HEADER.encode(), ("lists no clip",)),
        (HEADER.replace("\tuser_id", "").encode() + b"\nx", ("lacks the column user_id",)),
        (HEADER.replace("\t", ",").encode() + b"\nx", ("attachment_id", "comma-separated")),
        (HEADER.encode() + b"\tlength\nx", ("the column length twice",)),
        ("привет".encode("cp1251"), ("UTF-8",)),
        (HEADER.encode() + b'\n"a\tb', ("malformed",)),
        (b"PK\0\0", ("zero bytes",)),
    ],
)
def test_a_missing_or_malformed_table_is_one_sentence(tmp_path, content, words):
    if content is not None:
        (tmp_path / "annotations.csv").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_annotations(tmp_path)
    assert str(tmp_path) in str(caught.value) and all(word in str(caught.value) for word in words), str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    text = "\r\n".join([HEADER, *ROWS, ""])
    (tmp_path / "annotations.csv").write_bytes(text.encode("utf-8-sig"))
    listed = read_annotations(tmp_path)
    assert list(listed["clip"]) == ["a", "b", "c", "d"] and set(listed["reason"]) == {""}


@pytest.mark.parametrize(
    ("rows", "videos", "words"),
    [
        (ROWS, (), ("none of its 4 clips", "row 1")),
        (ROWS, ("train/a.mp4", "train/c.mp4"), ("test part", "empty", "split")),
        ([ROWS[0], ROWS[2]], ("train/a.mp4", "train/c.mp4"), ("test part", "empty")),
        ([ROWS[1], ROWS[3]], ("test/b.mp4", "test/d.mp4"), ("training part", "empty")),
    ],
)
def test_nothing_usable_or_an_empty_part_is_one_sentence(project, rows, videos, words):
    make_folder(project / "clips", rows, videos=videos)
    with pytest.raises(InputError) as caught:
        index_of_videos(data_set())
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_test_signers_are_an_error_and_known_ones_a_split(project):
    make_folder(project / "clips")
    index, _ = index_of_videos(data_set(split={"test_signers": ["u2"]}))
    assert len(index) == 4
    with pytest.raises(InputError, match="u3"):
        index_of_videos(data_set(split={"test_signers": ["u2", "u3"]}))


def test_folds_are_counted_from_the_table(project):
    make_folder(project / "clips")
    assert count_folds(data_set()) == 1
    assert count_folds(data_set(split="stratified")) == 5
    assert count_folds(data_set(split="leave_one_signer_out")) == 2


def write_yaml(project: Path, **keys) -> None:
    content = {"title": "mine", "kind": "videos", "path": "clips", "class_counts": [2]} | keys
    (project / "data_sets" / "mine.yaml").write_text(json.dumps(content), encoding="utf-8")


def test_the_stage_writes_index_signs_rejects_and_counts_and_the_same_bytes_again(project, capsys):
    rows = [*ROWS, "e\tпривет\tu1\t1\t1\t5\tTrue\t\t"]
    rows = [f"{row}\tgay" for row in rows]
    videos = ["train/a.mp4", "test/b.mp4", "test/d.mp4", "test/lost.mp4"]
    make_folder(project / "clips", rows, f"{HEADER}\tmood", videos)
    write_yaml(project)
    assert corpus.main(["--dataset", "mine"]) == 0
    line = capsys.readouterr().out
    assert "3 clips of 2 signs by 2 signers, 3 rejects" in line and "дом родной" in line
    chosen = load_data_set("mine")
    index = read_index(chosen)
    assert list(index["clip"]) == ["a", "b", "d"] and Path(index["path"].iloc[0]).is_file()
    assert list(index["frames"]) == [66, 40, 30] and list(index["begin"]) == ["", 0, ""]
    assert read_signs(chosen) == ["привет", "дом родной"], "a sign that lost its training clips keeps its place"
    metrics = json.loads((chosen.reports("corpus") / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["extra_columns"] == ["mood"] and list(index["mood"]) == ["gay"] * 3
    assert metrics["clips"] == 3 and metrics["rejects"] == 3 and metrics["lost_signs"] == ["дом родной"]
    rejects = pd.read_csv(chosen.reports("corpus") / "rejects.csv")
    assert list(rejects["clip"]) == ["c", "e", "lost"]
    files = [chosen.index, chosen.data / "signs.csv", *sorted(chosen.reports("corpus").iterdir())]
    before = [file.read_bytes() for file in files]
    assert corpus.main(["--dataset", str(project / "data_sets" / "mine.yaml")]) == 0
    assert [file.read_bytes() for file in files] == before
    assert sorted(path.name for path in chosen.data.iterdir()) == ["index.csv", "signs.csv"], "a temporary file"


def test_the_stage_says_one_sentence_and_exits_with_1(project, capsys):
    write_yaml(project)
    assert corpus.main(["--dataset", "mine"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "no such table" in said.err
    assert corpus.main(["--dataset", "yours"]) == 1
    assert "choose one of mine" in capsys.readouterr().err


def test_an_index_is_asked_for_by_the_command_that_makes_it(project):
    with pytest.raises(InputError, match=r"slr_lib\.corpus --dataset mine"):
        read_index(data_set())
    with pytest.raises(InputError, match="make repro DATASET=mine"):
        read_signs(data_set())


def test_the_real_table_of_slovo(shared):
    if not (shared / "slovo_annotations").is_dir():
        pytest.skip(f"the real data are not at {shared}; SLR_SHARED names their folder")
    listed = read_annotations(shared / "slovo_annotations" / "annotations.csv")
    assert len(listed) == 20400 and set(listed["reason"]) == {""}
    assert listed["gloss"].nunique() == 1001 and listed["signer"].nunique() == 194
    assert (listed["split"] == "train").sum() == 15300 and sum(listed["frames"]) == 1026563


def test_the_real_clips_in_slovos_layout(shared):
    if not (shared / "real_clips").is_dir():
        pytest.skip(f"the real data are not at {shared}; SLR_SHARED names their folder")
    rsl = load_data_set(Path(__file__).parent / "data_sets" / "rsl.yaml")
    index, rejects = index_of_videos(rsl)
    assert len(index) == 74 and rejects.empty and index["gloss"].nunique() == 32
    assert all(Path(path).is_file() for path in index["path"])
    assert len(list_clips(rsl)) == 74
