"""Batches: every clip once an epoch, decided by seed and epoch alone, padded without a trace."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from wlasl_slice import wlasl_clips

from slr_lib.augment import AugmentSettings, augmentation
from slr_lib.batches import ClipBatches, collate_landmarks
from slr_lib.errors import InputError
from slr_lib.landmark_store import ClipLandmarks, LandmarkStore
from slr_lib.packed_clips import PackedClips, Statistics, pack_clips, statistics
from slr_lib.skeleton import HANDS, HANDS_BY_DETECTION, HOLISTIC

PLAIN = Statistics(np.zeros((42, 3), np.float32), np.ones((42, 3), np.float32))
SKELETON = HOLISTIC.select()[0]


def packed(lengths, points: int = 42, seed: int = 0):
    """Clips in memory as PackedClips serves them; x of every point is the clip's number, y the frame's."""
    lengths = np.array(lengths, np.int64)
    total = int(lengths.sum())
    random = np.random.default_rng(seed)
    first = np.cumsum(lengths) - lengths
    frame = np.arange(total) - np.repeat(first, lengths)
    values = random.normal(0, 1, (total, points, 3)).astype(np.float16)
    values[..., 0], values[..., 1] = np.repeat(np.arange(len(lengths)), lengths)[:, None], frame[:, None]
    mask = np.ones((total, points), bool)
    mask[random.random(total) < 0.3, : points // 2] = False
    values[~mask] = 0
    return SimpleNamespace(points=values, mask=mask, times=(frame / 30).astype(np.float32), first=first, frames=lengths,
                           folder="clips", table=pd.DataFrame({"clip": range(len(lengths))}))


def batches(lengths=(30,) * 50, labels=None, points: int = 42, skeleton=HANDS, chosen=PLAIN, batch_size: int = 8,
            **values) -> ClipBatches:
    clips = packed(lengths, points)
    labels = np.arange(len(lengths)) % 5 if labels is None else labels
    return ClipBatches(clips, range(len(lengths)), labels, chosen, skeleton, batch_size, **values)


def numbers(made) -> list[list[int]]:
    """The clips' numbers in every batch."""
    return [batch.points[..., 0].amax((1, 2)).int().tolist() for batch in made]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 20), st.booleans(), st.integers(0, 5))
def test_every_clip_comes_once_an_epoch_whole_and_in_order(lengths, size, shuffle, epoch):
    loader = batches(lengths, labels=np.arange(len(lengths)), batch_size=size, shuffle=shuffle, max_frames=128)
    made = list(loader.of_epoch(epoch))
    assert len(made) == len(loader) == -(-len(lengths) // size)
    labels = torch.cat([batch.labels for batch in made])
    assert sorted(labels.tolist()) == list(range(len(lengths)))
    for batch in made:
        b, t = batch.frames.shape
        assert t % 8 == 0 and t <= 128 and batch.points.shape == (b, t, 42, 3) and batch.mask.shape == (b, t, 42)
        assert (batch.points[~batch.mask] == 0).all() and not batch.mask[~batch.frames].any()
        for i, label in enumerate(batch.labels.tolist()):
            count = int(batch.frames[i].sum())
            assert count == min(lengths[label], 128) and batch.frames[i, :count].all()
            seen = batch.mask[i, :count, 30]
            place = batch.points[i, :count, 30, 1]
            if lengths[label] <= 128:
                assert torch.equal(place[seen], torch.arange(count)[seen].float())
            else:  # thinned out evenly, with both ends
                assert place[0] == 0 and place[-1] == lengths[label] - 1 and place.diff().max() <= 2


def test_seed_and_epoch_alone_decide():
    chosen = augmentation("strong")
    first = list(batches(augmentation=chosen, seed=3).of_epoch(4))
    loader = batches(augmentation=chosen, seed=3)
    next(loader.of_epoch(2))
    torch.manual_seed(99)
    again = list(loader.of_epoch(4))
    for one, two in zip(first, again, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))
    resumed = list(batches(augmentation=chosen, seed=3).of_epoch(4, start=5))
    assert len(resumed) == len(first) - 5 and torch.equal(resumed[0].points, first[5].points)
    plain = {"shuffle": True}
    assert numbers(batches(seed=3, **plain).of_epoch(4)) == numbers(loader_of(4, 3))
    assert numbers(loader_of(4, 3)) != numbers(loader_of(5, 3)) and numbers(loader_of(4, 3)) != numbers(loader_of(4, 2))


def loader_of(epoch: int, seed: int):
    return batches(seed=seed, shuffle=True).of_epoch(epoch)


def test_iterating_runs_over_the_epoch_set_and_workers_change_nothing():
    loader = batches(augmentation=augmentation("weak"))
    loader.set_epoch(7)
    expected = list(loader.of_epoch(7))
    for made in (list(loader), list(DataLoader(loader, batch_size=None, num_workers=2))):
        assert all(torch.equal(a.points, b.points) for a, b in zip(made, expected, strict=True))
    with pytest.raises(IndexError):
        loader[len(loader)]


@pytest.mark.parametrize("count", [64, 50, 49])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_the_steps_of_one_process_with_larger_batches(count, shuffle):
    lengths, chosen = np.random.default_rng(0).integers(10, 60, count), {"labels": np.arange(count), "shuffle": shuffle}
    whole = [batch.labels.tolist() for batch in batches(lengths, batch_size=16, **chosen)]
    shares = [list(batches(lengths, batch_size=8, rank=rank, ranks=2, **chosen)) for rank in (0, 1)]
    for step, (one, two) in enumerate(zip(*shares, strict=True)):
        clips = [[label for label in share.labels.tolist() if label >= 0] for share in (one, two)]
        assert sorted(clips[0] + clips[1]) == sorted(whole[step])
        assert len(clips[0]) - len(clips[1]) in (0, 1)
    assert len(whole) == len(shares[0]) == len(batches(lengths, batch_size=8, ranks=2, **chosen))
    fillers = [int((batch.labels == -1).sum()) for batch in shares[1]]
    assert sum(fillers) == (count == 49)  # its last clip is alone in its step


def test_clips_of_like_length_meet():
    lengths = np.random.default_rng(0).integers(10, 120, 640)
    loader = batches(lengths, batch_size=16, shuffle=True)
    padded = sum(len(places) * lengths[places].max() for places in loader.order(0))
    assert padded < 1.1 * lengths.sum()
    assert [list(places) for places in loader.order(0)] != [list(places) for places in loader.order(1)]


def test_signs_of_the_no_mirror_list_keep_their_sides():
    labels = np.arange(50) % 5
    loader = batches(labels=labels, augmentation=AugmentSettings(mirror=1.0), no_mirror=[2, 4])
    for batch in loader:
        sides = torch.sign(batch.points[..., 0].sum((1, 2)))
        clip = batch.points[..., 0].abs().amax((1, 2))
        for label, side, number in zip(batch.labels.tolist(), sides.tolist(), clip.tolist(), strict=True):
            assert number == 0 or side == (1 if label in (2, 4) else -1)


def test_exchange_takes_faces_from_clips_of_the_same_sign():
    labels = np.arange(40) % 4
    plain = Statistics(np.zeros((108, 3), np.float32), np.ones((108, 3), np.float32))
    loader = batches((20, 31) * 20, labels, 108, SKELETON, plain, augmentation=AugmentSettings(exchange=1.0))
    face, hand = SKELETON.index("face_300"), SKELETON.index("right_hand_wrist")
    foreign = 0
    for batch in loader:
        own = batch.points[:, :, hand, 0].amax(1).int()
        partner = batch.points[:, :, face, 0].amax(1).int()
        foreign += int((own != partner).sum())
        seen = batch.mask[:, :, face].any(1)
        assert (partner % 4 == batch.labels)[seen].all() and (own % 4 == batch.labels).all()
    assert foreign > 20


def test_landmarks_collate_to_what_training_sees(tmp_path):
    store, random = LandmarkStore(tmp_path / "landmarks"), np.random.default_rng(0)
    names = ("a", "b", "c")
    for name, frames in zip(names, (20, 150, 9), strict=True):
        points = random.uniform(0, 1, (frames, 42, 3)).astype(np.float32)
        points[random.random(frames) < 0.3] = np.nan
        store.write(name, ClipLandmarks(points, np.arange(frames) / 30, {}))
    index = pd.DataFrame({"clip": names, "gloss": "g", "signer": "", "split": "train", "duplicates": ""})
    pack_clips(index, store, HANDS, tmp_path / "clips", progress=False)
    made = Statistics(np.full((42, 3), 0.5, np.float32), np.full((42, 3), 2.0, np.float32))
    (expected,) = ClipBatches(PackedClips(tmp_path / "clips"), range(3), range(3), made, HANDS, 3, max_frames=64)
    shown = [store.read(names[label]) for label in expected.labels]
    found, reasons = collate_landmarks(shown, HANDS, None, made, 64)
    assert not reasons and found.labels.tolist() == [-1] * 3
    assert all(torch.equal(a, b) for a, b in zip(found[:4], expected[:4], strict=True))


def test_statistics_do_not_break_the_mirror():
    """Mirrored in the body's coordinates, then divided: not the other way round."""
    lopsided = Statistics(np.full((42, 3), 3.0, np.float32), np.full((42, 3), 2.0, np.float32))
    plain = batches((10,) * 3, augmentation=AugmentSettings(mirror=1.0), batch_size=3)
    divided = batches((10,) * 3, augmentation=AugmentSettings(mirror=1.0), batch_size=3, chosen=lopsided)
    for one, two in zip(plain, divided, strict=True):
        torch.testing.assert_close(two.points, (one.points - 3) / 2 * one.mask[..., None])


def test_no_clips_and_foreign_skeletons_are_refused():
    with pytest.raises(InputError, match="no clip for these batches"):
        batches(())
    with pytest.raises(InputError, match="42 points, the skeleton holistic_108 has 108"):
        batches(skeleton=SKELETON)


def test_real_clips_make_finite_batches(shared, tmp_path):
    store = LandmarkStore(tmp_path / "landmarks")
    names = [f"c{number}" for number in range(24)]
    for name, points in zip(names, wlasl_clips(shared, 24), strict=True):
        store.write(name, ClipLandmarks(points, np.arange(len(points)) / 30, {}))
    index = pd.DataFrame({"clip": names, "gloss": "g", "signer": "", "split": "train", "duplicates": ""})
    pack_clips(index, store, HANDS_BY_DETECTION, tmp_path / "clips", progress=False)
    clips = PackedClips(tmp_path / "clips")
    rows = range(len(clips))
    made = statistics(clips, rows, HANDS_BY_DETECTION)
    loader = ClipBatches(clips, rows, [0] * 24, made, HANDS_BY_DETECTION, 8, augmentation=augmentation("strong"))
    for batch in loader:
        assert torch.isfinite(batch.points).all() and batch.points[batch.mask].std() < 3
        assert batch.mask.any((1, 2)).all() and batch.times.amax() < 30


def test_batches_are_of_like_length_after_the_change_of_tempo():
    lengths = np.random.default_rng(0).integers(10, 60, 256)
    loader = batches(lengths, batch_size=16, augmentation=augmentation("none", tempo=0.5, crop=0.1))
    filled = [batch.frames.float().mean() for batch in loader.of_epoch(3)]
    assert np.mean(filled) > 0.8, "the rest is padding"
