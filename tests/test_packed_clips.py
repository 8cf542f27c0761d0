"""Packed clips and their statistics."""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wlasl_slice import wlasl_clips

from slr_lib.clips import prepare_clip
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.packed_clips import PackedClips, Statistics, pack_clips, statistics
from slr_lib.skeleton import HANDS


def landmarks(frames: int, seed: int, hidden: float = 0.3) -> ClipLandmarks:
    random = np.random.default_rng(seed)
    points = random.normal(0.5, 0.1, (frames, 42, 3)).astype(np.float32)
    points.reshape(frames, 2, 21, 3)[random.random((frames, 2)) < hidden] = np.nan
    points[:2, :21] = 0.5
    return ClipLandmarks(points, np.arange(frames) / 30, {"damaged": True} if seed == 1 else {"damaged": False})


def index_of(clips: list[str]) -> pd.DataFrame:
    columns = {"gloss": "да", "signer": "007", "split": "train", "duplicates": "", "path": "x.mp4"}
    return pd.DataFrame({"clip": clips, **columns})


@pytest.fixture
def store(tmp_path):
    """A store of clips a, b, c of 20, 31 and 12 frames, d without hands."""
    store = LandmarkStore(tmp_path / "landmarks")
    for number, (name, frames) in enumerate((("a", 20), ("b", 31), ("c", 12))):
        store.write(name, landmarks(frames, number))
    store.write("d", ClipLandmarks(np.full((9, 42, 3), np.nan), np.arange(9) / 30, {}))
    return store


def test_packed_clips_are_the_prepared_ones(store, tmp_path):
    rejects = pack_clips(index_of(["c", "d", "a", "gone", "b"]), store, HANDS, tmp_path / "clips", progress=False)
    assert rejects.to_dict("list") == {"clip": ["d", "gone"], "reason": [
        "no point in any of its 9 frames", "no landmarks: it was not extracted or imported"]}
    packed = PackedClips(tmp_path / "clips")
    assert list(packed.table["clip"]) == ["c", "a", "b"] and set(packed.table["signer"]) == {"007"}
    assert list(packed.table["damaged"]) == [0, 0, 1] and list(packed.table["source_frames"]) == [12, 20, 31]
    assert (packed.table["frames"] < packed.table["source_frames"]).any()
    for row, name in enumerate(packed.table["clip"]):
        expected, found = prepare_clip(store.read(name), HANDS), packed.clip(row)
        np.testing.assert_array_equal(found.mask, expected.mask)
        np.testing.assert_array_equal(found.times, expected.times)
        np.testing.assert_allclose(found.points, expected.points, rtol=1e-3, atol=1e-3)
    with pytest.raises(IndexError):
        packed.clip(3)
    # to another process it goes as its folder, not with all points
    assert packed.points.shape == ForkingPickler.loads(ForkingPickler.dumps(packed)).points.shape
    assert len(ForkingPickler.dumps(packed)) < 1000


def test_the_same_landmarks_give_the_same_bytes_and_leave_nothing_else(store, tmp_path):
    for name in ("one", "two"):
        pack_clips(index_of(["a", "b"]), store, HANDS, tmp_path / name, progress=False)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["clips.csv", "mask.npy", "points.npy", "times.npy"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_no_usable_clip_is_an_error_that_names_the_first_reason(store, tmp_path):
    with pytest.raises(InputError, match="none of the 1 clips can be used; d: no point"):
        pack_clips(index_of(["d"]), store, HANDS, tmp_path / "clips", progress=False)
    assert list((tmp_path / "clips").iterdir()) == []


def test_unfinished_or_mixed_folders_are_refused(store, tmp_path):
    with pytest.raises(InputError, match=r"clips\.csv: no such file; run"):
        PackedClips(tmp_path)
    pack_clips(index_of(["a", "b"]), store, HANDS, tmp_path / "one", progress=False)
    pack_clips(index_of(["a"]), store, HANDS, tmp_path / "two", progress=False)
    (tmp_path / "one" / "mask.npy").write_bytes((tmp_path / "two" / "mask.npy").read_bytes())
    with pytest.raises(InputError, match=r"mask\.npy does not fit"):
        PackedClips(tmp_path / "one")
    (tmp_path / "two" / "points.npy").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"points\.npy cannot be read"):
        PackedClips(tmp_path / "two")


def test_statistics_are_those_of_the_points_seen_in_the_chosen_clips(store, tmp_path):
    pack_clips(index_of(["a", "b", "c"]), store, HANDS, tmp_path / "clips", progress=False)
    packed = PackedClips(tmp_path / "clips")
    found = statistics(packed, [0, 2], HANDS)
    for part in HANDS.parts:
        chosen = list(part.points)
        clips = [packed.clip(row) for row in (0, 2)]
        seen = np.concatenate([clip.points[:, chosen][clip.mask[:, chosen]] for clip in clips])
        np.testing.assert_allclose(found.mean[chosen], np.tile(seen.mean(0), (21, 1)), atol=1e-5)
        plane = np.sqrt((seen[:, :2].var(0)).mean())
        np.testing.assert_allclose(found.std[chosen], np.tile([plane, plane, seen[:, 2].std()], (21, 1)), rtol=1e-4)
    assert not np.allclose(found.mean, statistics(packed, [1], HANDS).mean)
    again = Statistics.from_plain(found.as_plain())
    assert (again.mean == found.mean).all() and (again.std == found.std).all() and again.std.dtype == np.float32


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8))
def test_missing_points_do_not_count(tmp_path_factory, more):
    """Frames in which a hand is missing change nothing of that hand's statistics."""
    folder = tmp_path_factory.mktemp("packed")
    store = LandmarkStore(folder / "landmarks")
    store.write("a", landmarks(30, 0, hidden=0.0))
    pack_clips(index_of(["a"]), store, HANDS, folder / "a", progress=False)
    packed = PackedClips(folder / "a")
    before = statistics(packed, [0], HANDS)
    prepared = packed.clip(0)
    extra = np.zeros((more, 42, 3), np.float16)
    np.save(folder / "a" / "points.npy", np.concatenate([prepared.points, extra]).astype(np.float16))
    mask = np.concatenate([prepared.mask, np.tile([False] * 21 + [True] * 21, (more, 1))])
    np.save(folder / "a" / "mask.npy", mask)
    np.save(folder / "a" / "times.npy", np.arange(len(mask), dtype=np.float32))
    table = pd.read_csv(folder / "a" / "clips.csv").assign(frames=len(mask))
    table.to_csv(folder / "a" / "clips.csv", index=False)
    after = statistics(PackedClips(folder / "a"), [0], HANDS)
    np.testing.assert_array_equal(after.mean[:21], before.mean[:21])
    np.testing.assert_array_equal(after.std[:21], before.std[:21])
    assert not np.allclose(after.mean[21:], before.mean[21:])


def test_a_part_never_seen_has_mean_zero_and_spread_one(tmp_path):
    store = LandmarkStore(tmp_path / "landmarks")
    clip = landmarks(10, 0)
    clip.points[:, :21] = np.nan
    store.write("a", clip)
    pack_clips(index_of(["a"]), store, HANDS, tmp_path / "clips", progress=False)
    found = statistics(PackedClips(tmp_path / "clips"), [0], HANDS)
    assert (found.mean[:21] == 0).all() and (found.std[:21] == 1).all() and np.isfinite(found.std).all()


def test_normalised_points_are_of_order_one(shared, tmp_path):
    store = LandmarkStore(tmp_path / "landmarks")
    names = []
    for number, points in enumerate(wlasl_clips(shared, 20)):
        names.append(f"c{number}")
        store.write(names[-1], ClipLandmarks(points, np.arange(len(points)) / 30, {}))
    pack_clips(index_of(names), store, HANDS, tmp_path / "clips", progress=False)
    packed = PackedClips(tmp_path / "clips")
    found = statistics(packed, range(len(packed)), HANDS)
    mask = np.asarray(packed.mask)
    values = (np.asarray(packed.points, np.float32) - found.mean) / found.std
    np.testing.assert_allclose(values[mask].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(values[mask].std(0), 1, atol=0.2)
