"""The store of landmarks: what is written is read, the same bytes each time, and every damage is named."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slr_lib import landmark_store
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore, StoreError, require_space


def landmarks(frames: int = 4, points: int = 5) -> ClipLandmarks:
    values = np.random.default_rng(frames).random((frames, points, 3), dtype=np.float32)
    values[0, 1] = np.nan
    return ClipLandmarks(values, np.arange(frames) / 30, {"skeleton": "holistic", "fps": 30.0, "name": "жест"})


@pytest.fixture
def store(tmp_path):
    return LandmarkStore(tmp_path / "landmarks")


def test_what_is_written_is_read(store):
    assert store.clips() == [] and "a" not in store
    store.write("a", landmarks())
    read = store.read("a")
    assert read.points.dtype == np.float32 and read.times.dtype == np.float64
    assert np.array_equal(read.points, landmarks().points, equal_nan=True)
    assert np.array_equal(read.times, landmarks().times)
    assert read.info == store.info("a") == {**landmarks().info, "clip": "a"}
    store.write("a", landmarks(7))
    assert len(store.read("a").times) == 7 and store.clips() == ["a"]
    store.remove("a")
    store.remove("a")
    assert store.clips() == [] and list(store.folder.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300), unique=True, max_size=5))
def test_any_text_is_an_id(tmp_path_factory, ids):
    store = LandmarkStore(tmp_path_factory.mktemp("ids"))
    for clip in ids:
        store.write(clip, landmarks())
    assert store.clips() == sorted(ids)
    assert all(store.info(clip)["clip"] == clip for clip in ids)
    assert all(path.parent == store.folder for path in map(store.path, ids))


@pytest.mark.parametrize("clip", ["../../up", "/etc/x", ".", "..", "C:\\x", "Ёлка №1/дубль 2", "ж" * 500, "a%2Fb"])
def test_awkward_ids_stay_in_the_folder(store, clip):
    store.write(clip, landmarks())
    assert store.clips() == [clip] and clip in store
    assert store.path(clip).parent == store.folder


def test_same_content_same_bytes(store, monkeypatch):
    store.write("a", landmarks())
    first = store.path("a").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    store.write("a", ClipLandmarks(landmarks().points, landmarks().times, dict(reversed(landmarks().info.items()))))
    assert store.path("a").read_bytes() == first
    with np.load(store.path("a")) as members:  # plain NumPy reads it
        assert sorted(members) == ["info", "points", "times"]


def test_any_damage_is_named_with_its_remedy(store):
    store.write("a", landmarks())
    path = store.path("a")
    whole = path.read_bytes()
    damaged = [whole[:size] for size in range(0, len(whole), 37)]
    for place in range(0, len(whole), 11):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1:])
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read = store.read("a")
        except InputError as error:
            assert "a.npz" in str(error) and "delete it" in str(error)
            refused += 1
        else:  # a flipped bit in a field that nobody needs, such as a date
            assert np.array_equal(read.points, landmarks().points, equal_nan=True) and read.info["name"] == "жест"
    assert refused > len(damaged) * 0.8


def test_absent_clip_is_named(store):
    for read in (store.read, store.info):
        with pytest.raises(InputError, match="no landmarks of clip b"):
            read("b")
    with pytest.raises(InputError, match="empty id"):
        store.path("")


@pytest.mark.parametrize(("points", "times"), [
    (np.zeros((0, 5, 3)), np.zeros(0)), (np.zeros((2, 5, 2)), np.zeros(2)), (np.zeros((2, 5, 3)), np.zeros(3)),
    (np.zeros((2, 5, 3)), np.array([0, np.nan])), (np.zeros((2, 5, 3)), np.array([1.0, 0.0])),
])
def test_landmarks_are_checked(points, times):
    with pytest.raises(InputError):
        ClipLandmarks(points, times)


def test_failed_write_keeps_the_old_file(store, monkeypatch):
    store.write("a", landmarks())
    before = store.path("a").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(landmark_store.os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*run again"):
        store.write("a", landmarks(9))
    assert store.path("a").read_bytes() == before
    assert [path.name for path in store.folder.iterdir()] == ["a.npz"]


def test_folder_that_cannot_be_made_or_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "landmarks"):
        store = LandmarkStore(folder)
        with pytest.raises(StoreError):
            store.prepare()
        with pytest.raises(StoreError):
            store.write("a", landmarks())
    assert (tmp_path / "file").read_text() == "in the way"


def test_partial_files_of_dead_processes_are_swept(store):
    store.write("a", landmarks())
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    host = socket.gethostname()
    dead = store.folder / f".b.npz.{host}.{process.pid}.part"
    living = store.folder / f".c.npz.{host}.{os.getppid()}.part"
    elsewhere = store.folder / ".d.npz.another-host.1.part"
    old = store.folder / ".e.npz.another-host.2.part"
    for part in (dead, living, elsewhere, old):
        part.write_bytes(b"half a clip")
    os.utime(old, (0, 0))
    assert store.clips() == ["a"]
    store.prepare()
    assert {path.name for path in store.folder.iterdir()} == {"a.npz", living.name, elsewhere.name}


def test_writer_killed_in_the_middle_leaves_no_clip(store):
    code = f"""
import os, numpy as np
from slr_lib import landmark_store as s
s.os.fsync = lambda _: os.kill(os.getpid(), 9)
s.LandmarkStore({str(store.folder)!r}).write("a", s.ClipLandmarks(np.zeros((2, 3, 3)), np.zeros(2)))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert store.clips() == [] and len(list(store.folder.iterdir())) == 1
    store.prepare()
    assert list(store.folder.iterdir()) == []


def test_space_is_checked_before_the_folder_exists(tmp_path):
    require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(InputError, match=r"not/yet.* free"):
        require_space(tmp_path / "not" / "yet", 10**18)
