"""The rehearsal at Slovo's size, on a table of a few clips: it makes and measures what it says, and can be resumed."""

import importlib.util
import json
import random
import sys

import pytest
from conftest import PROJECT

from slr_lib.annotations import read_annotations
from slr_lib.landmark_store import LandmarkStore

spec = importlib.util.spec_from_file_location("rehearsal", PROJECT / "benchmarks" / "rehearsal.py")
rehearsal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rehearsal)


def write_table(path, signs=2, clips=8, no_event=6):
    """A table like Slovo's: a sign's last clips are the test part, every signer signs everything."""
    draw = random.Random(0)
    rows = ["attachment_id\ttext\tuser_id\theight\twidth\tlength\ttrain"]
    for gloss, count in [*((f"жест {i}", clips) for i in range(signs)), ("no_event", no_event)]:
        for i in range(count):
            rows.append(f"{gloss}-{i}\t{gloss}\tsigner {i % 4}\t1920\t1080\t{draw.randint(17, 40)}.0\t{i < count - 2}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_every_step_is_made_measured_and_resumed(tmp_path, capfd):
    table, folder = write_table(tmp_path / "annotations.csv"), tmp_path / "work"
    command = ["--table", str(table), "--clips", "22", "--folder", str(folder), "--keep"]
    assert rehearsal.main(command) == 0
    report = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert "synthetic" in report["landmarks"]
    assert list(report["steps"]) == ["corpus", "landmarks", "clips", "parts", "train_2"]
    assert report["steps"]["train_2"]["classes"] == 3 and report["steps"]["train_2"]["epochs"] == 1
    listed = read_annotations(table)
    assert (report["clips"], report["frames"]) == (len(listed), sum(listed["frames"]))

    store = LandmarkStore(folder / "data" / "rehearsal" / "landmarks")
    for clip, frames in zip(listed["clip"], listed["frames"]):
        landmarks = store.read(clip)
        assert landmarks.points.shape == (frames, 543, 3) and landmarks.info["synthetic"]
    size = sum(frames * (543 * 12 + 8) for frames in listed["frames"])
    assert size < report["steps"]["landmarks"]["bytes_on_disk"] < report["bytes_on_disk"]
    assert all(step["peak_memory_bytes"] > 20e6 and step["seconds"] > 0 for step in report["steps"].values())
    assert (folder / "data" / "rehearsal" / "models" / "2-0" / "base.safetensors").is_file()

    # as a kill leaves it: a clip is missing, the step is not finished
    lost = listed["clip"][3]
    before = store.path(lost).read_bytes()
    store.remove(lost)
    (folder / "steps" / "landmarks.json").unlink()
    assert rehearsal.main(command) == 0
    again = json.loads(capfd.readouterr().out.splitlines()[-1])["steps"]
    assert again["landmarks"]["clips"] == 1 and again["landmarks"]["clips_of_earlier_runs"] == len(listed) - 1
    assert [name for name, step in again.items() if "of_an_earlier_run" not in step] == ["landmarks"]
    assert store.path(lost).read_bytes() == before

    assert rehearsal.main(command[:-1]) == 0
    assert not folder.exists()


def test_thinning_out_keeps_whole_signs(tmp_path):
    listed = read_annotations(write_table(tmp_path / "annotations.csv", signs=10, clips=20, no_event=40))
    rows = rehearsal.thin_out(listed, 100, "no_event")
    sizes = rows["gloss"].value_counts()
    assert sizes.pop("no_event") == 17
    assert list(sizes.index) == [f"жест {i}" for i in range(4)] and set(sizes) == {20}
    nothing = rows[rows["gloss"] == "no_event"]
    assert set(nothing["split"]) == {"train", "test"}
    assert len(rehearsal.thin_out(listed, len(listed), "no_event")) == len(listed)


def test_memory_of_a_step_includes_its_children(tmp_path):
    holds = "import time; held = bytearray(b'x') * {}; time.sleep(1)"
    child = holds.format(100_000_000)
    parent = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}]); " + holds.format(
        80_000_000
    )
    status, cost = rehearsal.measure([sys.executable, "-c", parent + "; p.wait()"], tmp_path)
    assert status == 0 and cost["seconds"] > 1
    assert 180e6 < cost["peak_memory_bytes"] < 260e6


@pytest.mark.parametrize("case", ["no table", "foreign folder", "other settings"])
def test_bad_input_is_one_sentence(tmp_path, capsys, case):
    table, folder = write_table(tmp_path / "annotations.csv"), tmp_path / "work"
    if case == "no table":
        table = tmp_path / "absent.csv"
    elif case == "foreign folder":
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    else:
        rehearsal.make_workspace(folder, table, 10)
    assert rehearsal.main(["--table", str(table), "--folder", str(folder)]) == 1
    said = capsys.readouterr().err.strip()
    expected = {"no table": str(table), "foreign folder": "other files", "other settings": "other settings"}[case]
    assert expected in said and "\n" not in said
    assert case != "foreign folder" or (folder / "thesis.txt").read_text() == "mine"
