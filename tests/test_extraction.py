"""Many clips: the same bytes however they are run, nothing computed twice, and no clip that stops the others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster

from slr_lib import extraction, landmark_store
from slr_lib.errors import InputError
from slr_lib.extraction import detection_table, extract_clips, extraction_metrics
from slr_lib.landmark_store import LandmarkStore
from slr_lib.landmarks import HolisticSettings, LandmarkExtractor, fingerprint
from slr_lib.video import write_video

REAL = Path(os.environ.get("SLR_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "real_clips"
needs_real = pytest.mark.skipif(not (REAL / "rsl").is_dir(), reason=f"needs the real clips in {REAL}")
OFFICIAL = "f17a6060-6ced-4bd1-9886-8578cfbb864f"


@pytest.fixture(scope="module")
def scheduler():
    """Address of a scheduler with one worker, a thread of this process: quick to start, and open to monkeypatching."""
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://",
                      dashboard_address="127.0.0.1:0") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def store(tmp_path):
    return LandmarkStore(tmp_path / "landmarks")


def draw(path: Path, shade: int, frames: int = 2) -> str:
    """A clip of grey pictures: a person in none of them."""
    write_video(path, [np.full((64, 96, 3), shade, np.uint8)] * frames, 30)
    return str(path)


@pytest.fixture
def index(tmp_path):
    rows = [(f"clip/{i}", draw(tmp_path / f"{i}.mp4", 40 * i, i + 2), "", "", "") for i in range(3)]
    return pd.DataFrame(rows, columns=["clip", "path", "begin", "end", "frames"])


def contents(store: LandmarkStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.folder.iterdir())}


def written(store: LandmarkStore) -> dict[str, int]:
    """When each clip was written, in nanoseconds."""
    return {clip: store.path(clip).stat().st_mtime_ns for clip in store.clips()}


@needs_real
def test_real_clips_give_the_same_bytes_and_the_known_shares(tmp_path, scheduler):
    known = pd.read_csv(REAL / "rsl" / "detection.csv").sort_values(["frames", "attachment_id"])[:2]
    rows = [(row.attachment_id, str(REAL / "rsl" / row.path), "", "", row.frames) for row in known.itertuples()]
    rows.append((OFFICIAL, str(REAL / "slovo_official" / "train" / f"{OFFICIAL}.mp4"), 2, 65, 63))
    index = pd.DataFrame(rows, columns=["clip", "path", "begin", "end", "frames"])
    processes, thread = LandmarkStore(tmp_path / "processes"), LandmarkStore(tmp_path / "thread")
    assert extract_clips(index, processes, workers=2, progress=False).empty
    assert extract_clips(index[::-1], thread, HolisticSettings(), scheduler=scheduler, progress=False).empty
    assert contents(processes) == contents(thread)

    table = detection_table(processes, index["clip"])
    assert table["frames"].tolist() == [*known["frames"], 63]
    bare, own = LandmarkStore(tmp_path / "bare"), HolisticSettings(min_hand_confidence=0.5, second_look=False)
    assert extract_clips(index[:2], bare, own, scheduler=scheduler, progress=False).empty
    theirs = detection_table(bare, index["clip"][:2])  # the known shares are those of MediaPipe's own settings
    for part in ("pose", "face", "left_hand", "right_hand", "any_hand"):
        assert np.allclose(theirs[part], known[part], atol=5e-5), part
        assert (table[part][:2] >= theirs[part]).all(), part
    official = processes.read(OFFICIAL)
    assert official.points.shape == (63, 543, 3) and official.info["trimmed"]
    assert (official.info["width"], official.info["height"], official.info["fps"]) == (720, 1280, 30)
    assert official.info["detected"]["left_hand"] == (~np.isnan(official.points[:, 468, 0])).sum()
    assert np.allclose(official.times, np.arange(63) / 30, atol=1e-3)


@needs_real
def test_bad_files_become_rejects_and_a_broken_one_is_flagged(tmp_path, store, scheduler):
    names = ["made_empty.mp4", "person_mpeg4_12fps.mp4", "made_text_named.mp4", "decord_corrupted.mp4", "absent.mp4",
             "decord_rot90.mov", "lfs_pointer_not_a_video.mp4", "made_truncated_60pct.mp4"]
    index = pd.DataFrame({"clip": names, "path": [str(REAL / "odd_files" / name) for name in names]})
    rejects = extract_clips(index, store, scheduler=scheduler, progress=False)
    good = ["person_mpeg4_12fps.mp4", "decord_corrupted.mp4", "decord_rot90.mov"]
    assert rejects["clip"].tolist() == [name for name in names if name not in good]
    assert all(row.clip in row.reason and row.clip in row.path for row in rejects.itertuples())
    assert store.clips() == sorted(good)
    broken = store.info("decord_corrupted.mp4")
    assert broken["damaged"] and (broken["damage"]["decoded"], broken["damage"]["promised"]) == (28, 50)
    assert not store.info("person_mpeg4_12fps.mp4")["damaged"]
    turned = store.info("decord_rot90.mov")
    assert (turned["width"], turned["height"]) == (320, 568)
    table = detection_table(store, good)
    metrics = extraction_metrics(store, table, rejects)
    assert {key: metrics[key] for key in ("clips", "rejected", "damaged", "broken_off", "frames")} == {
        "clips": 3, "rejected": 5, "damaged": 1, "broken_off": 1, "frames": 32 + 28 + 3}
    assert metrics["found"]["pose"] == pytest.approx(100 * (table["pose"] * table["frames"]).sum() / 63, abs=0.01)


def test_a_clip_without_a_person_is_stored_as_missing(index, store, scheduler):
    assert extract_clips(index, store, scheduler=scheduler, progress=False).empty
    clip = store.read("clip/1")
    assert clip.points.shape == (3, 543, 3) and np.isnan(clip.points).all()
    assert clip.times == pytest.approx(np.arange(3) / 30)
    table = detection_table(store, index["clip"])
    assert table["frames"].tolist() == [2, 3, 4] and (table[["pose", "any_hand"]] == 0).all(axis=None)


def test_only_what_changed_is_extracted_again(index, store, scheduler, tmp_path):
    def run(table=index):
        before = written(store)
        rejects = extract_clips(table, store, scheduler=scheduler, progress=False)
        return {clip for clip, when in written(store).items() if before.get(clip) != when}, rejects

    assert run()[0] == {"clip/0", "clip/1", "clip/2"}
    first = contents(store)
    assert run()[0] == set()
    for path in index["path"]:
        os.utime(path)  # a copy of the data set has other dates
    assert run()[0] == set()

    store.path("clip/0").write_bytes(store.path("clip/0").read_bytes()[:5000])
    store.path("clip/1").write_bytes(b"")
    assert run()[0] == {"clip/0", "clip/1"} and contents(store) == first

    draw(tmp_path / "2.mp4", 200, 4)
    assert run()[0] == {"clip/2"}
    assert run(index.assign(begin=["", 0, ""], end=["", 3, ""]))[0] == {"clip/1"}
    changed, rejects = run(index[:2].assign(begin=["", 5], end=["", 90]))
    assert changed == set() and rejects["clip"].tolist() == ["clip/1"] and "fit neither" in rejects["reason"][0]
    assert store.clips() == ["clip/0"]  # neither the rejected one's old landmarks nor the clip that left the index
    other = HolisticSettings(min_tracking_confidence=0.4)
    extract_clips(index[:1], store, other, scheduler=scheduler, progress=False)
    assert store.info("clip/0")["extractor"] == fingerprint(other) != fingerprint()


def test_indexes_that_cannot_be_used_are_refused(index, store, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="column path"):
        extract_clips(index.drop(columns="path"), store)
    with pytest.raises(InputError, match="clip/0 twice"):
        extract_clips(pd.concat([index, index]), store)
    extraction.LandmarkStore(store.folder).prepare()
    with pytest.raises(InputError, match=r"none of the 3 video files.*disk"):
        extract_clips(index.assign(path="/nowhere/a.mp4"), store)
    monkeypatch.setattr(extraction, "PATIENCE", 1)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        extract_clips(index, store, scheduler="tcp://127.0.0.1:9", progress=False)
    with pytest.raises(InputError, match="GB are needed"):
        extract_clips(index.assign(frames=10**13), store)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        extract_clips(index, LandmarkStore(tmp_path / "file" / "landmarks"), progress=False)
    assert store.clips() == []


def test_a_disk_that_fills_stops_the_run_with_one_sentence(index, store, scheduler, monkeypatch):
    extract_clips(index[:1], store, scheduler=scheduler, progress=False)
    before = contents(store)

    def full(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(landmark_store.os, "fsync", full)
        with pytest.raises(InputError, match=r"No space left on device.*finished clips are kept"):
            extract_clips(index, store, scheduler=scheduler, progress=False)
    assert contents(store) == before
    assert extract_clips(index, store, scheduler=scheduler, progress=False).empty
    assert len(store.clips()) == 3


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system that takes no file from root either")
def test_a_folder_that_takes_no_file_is_refused_before_any_work(index):
    with pytest.raises(InputError, match=r"/sys/kernel/landmarks: cannot be written .*make the folder writable"):
        extract_clips(index, LandmarkStore("/sys/kernel/landmarks"), progress=False)


def test_a_clip_deleted_while_the_run_goes_on_is_rejected_alone(index, store, scheduler, tmp_path, monkeypatch):
    extract_clips(index, whole := LandmarkStore(tmp_path / "whole"), scheduler=scheduler, progress=False)
    longest, middle = Path(index["path"][2]), Path(index["path"][1])
    extract = LandmarkExtractor.extract

    def deleting(extractor, frames):
        longest.unlink(missing_ok=True)  # the one that is being read: an open file stays whole
        middle.unlink(missing_ok=True)  # and one whose turn comes
        return extract(extractor, frames)

    monkeypatch.setattr(LandmarkExtractor, "extract", deleting)
    rejects = extract_clips(index, store, scheduler=scheduler, progress=False)
    assert rejects["clip"].tolist() == ["clip/1"]
    assert rejects["reason"][0] == f"{middle}: no such file; check the path in the clips' table"
    assert store.clips() == ["clip/0", "clip/2"]
    assert contents(store).items() < contents(whole).items()


def test_a_worker_with_other_code_is_refused(index, store):
    task = extraction._tasks(index)[0]
    with pytest.raises(InputError, match="other code"):
        extraction.extract_clip(task, store, HolisticSettings(), "0123456789abcdef")


def test_a_clip_that_crashes_its_worker_is_rejected_alone(index, store, tmp_path):
    shutil.move(index["path"][1], tmp_path / "crash.mp4")
    index.loc[1, "path"] = str(tmp_path / "crash.mp4")
    preload = tmp_path / "crashing.py"
    preload.write_text("import os\nfrom slr_lib import extraction\nfrom slr_lib.video import read_video as read\n"
                       "extraction.read_video = lambda path, *rest: "
                       "os._exit(3) if path.endswith('crash.mp4') else read(path, *rest)\n")
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50, preload=[str(preload)],
    ) as cluster:
        rejects = extract_clips(index, store, scheduler=cluster.scheduler_address, progress=False)
    assert rejects["clip"].tolist() == ["clip/1"] and "died again and again" in rejects["reason"][0]
    assert store.clips() == ["clip/0", "clip/2"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system binds no process to a core")
def test_a_worker_for_every_core_stays_on_its_own_and_fewer_workers_on_none():
    def of_workers(count: int | None) -> list[set[int]]:
        with extraction._cluster(None, count, len(cores)) as client:
            return [client.submit(os.sched_getaffinity, 0, workers=[worker], pure=False).result()
                    for worker in client.scheduler_info(n_workers=-1)["workers"]]

    cores = sorted(os.sched_getaffinity(0))
    assert sorted(map(sorted, of_workers(None))) == [[core] for core in cores]
    if len(cores) > 1:
        assert of_workers(len(cores) - 1) == [set(cores)] * (len(cores) - 1)


@pytest.mark.skipif(sys.platform == "win32", reason="kills by signal")
def test_a_killed_run_resumes(index, store, tmp_path, scheduler):
    index.to_csv(tmp_path / "index.csv", index=False)
    script = tmp_path / "run.py"
    script.write_text(f"""
import pandas as pd
from slr_lib.extraction import extract_clips
from slr_lib.landmark_store import LandmarkStore
if __name__ == "__main__":
    index = pd.read_csv({str(tmp_path / "index.csv")!r})
    extract_clips(index, LandmarkStore({str(store.folder)!r}), workers=1)
""")
    process = subprocess.Popen([sys.executable, str(script)], cwd=Path(__file__).parents[1], start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])})
    deadline = time.monotonic() + 60
    while not store.clips() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = written(store)
    assert finished
    assert extract_clips(index, store, scheduler=scheduler, progress=False).empty
    assert finished.items() <= written(store).items()
    whole = LandmarkStore(tmp_path / "whole")
    extract_clips(index, whole, scheduler=scheduler, progress=False)
    assert contents(store) == contents(whole)
