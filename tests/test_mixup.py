"""MixUp: linear where both clips see a point, a real clip's mask and length, both labels in the loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_batches import Batch, MadeUpClips, batch, tiny
from torch.nn import functional

from slr_lib.checkpoint import load_checkpoint
from slr_lib.fitting import TrainSettings
from slr_lib.losses import focal_cross_entropy, recognition_loss
from slr_lib.mixup import draw_pairs, mix
from slr_lib.model import Outputs
from slr_lib.training import train


def made(lengths, seed: int = 0, padding: int = 3) -> Batch:
    """Clips of these lengths; the label is the clip's place."""
    return Batch(labels=torch.arange(len(lengths)), **batch([max(2, n) for n in lengths], seed=seed, padding=padding))


lists = st.lists(st.integers(2, 14), min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(lists, st.integers(0, 99))
def test_a_share_of_one_is_the_clip_and_of_none_its_partner(lengths, seed):
    clips, random = made(lengths, seed), np.random.default_rng(seed)
    partners, _ = draw_pairs(len(lengths), 1.0, random)
    share = torch.from_numpy(random.integers(0, 2, len(lengths))).float()
    mixed, others, larger = mix(clips, partners, share)
    places = torch.where(share == 1, torch.arange(len(lengths)), partners)
    for found, before in zip(mixed, clips, strict=True):
        assert torch.equal(found, before[places])
    assert (larger == 1).all()
    assert torch.equal(others, torch.where(share == 1, partners, torch.arange(len(lengths))))


@settings(max_examples=30, deadline=None)
@given(lists, st.integers(0, 99), st.floats(0.2, 5))
def test_nothing_is_seen_in_padding_or_where_the_larger_share_sees_nothing(lengths, seed, strength):
    clips = made(lengths, seed)
    partners, share = draw_pairs(len(lengths), strength, np.random.default_rng(seed))
    mixed, others, larger = mix(clips, partners, share)
    assert [value.shape for value in mixed] == [value.shape for value in clips]
    assert (mixed.points[~mixed.mask] == 0).all() and not mixed.mask[~mixed.frames].any()
    assert (mixed.times[~mixed.frames] == 0).all() and torch.isfinite(mixed.points).all()
    lender = mixed.labels
    for name in ("mask", "frames", "times"):
        assert torch.equal(getattr(mixed, name), getattr(clips, name)[lender])
    assert ((larger >= 0.5) & (larger <= 1)).all()
    # both labels of each pair, and the clip's own share beside its own label
    place = torch.arange(len(lengths))
    assert torch.equal(torch.where(lender == place, others, lender), partners)
    torch.testing.assert_close(torch.where(share >= 0.5, larger, 1 - larger), share)


def test_points_that_both_see_are_mixed_and_others_stay():
    frames, ones = torch.ones(2, 4, dtype=torch.bool), torch.ones(2, 4, 1, 3)
    points = ones * torch.tensor([1.0, 5.0])[:, None, None, None]
    mask = torch.ones(2, 4, 1, dtype=torch.bool)
    mask[0, 1] = mask[1, 2] = False
    clips = Batch(points * mask[..., None], mask, frames, torch.arange(4).expand(2, 4) / 30, torch.tensor([7, 8]))
    mixed, others, share = mix(clips, torch.tensor([1, 0]), torch.tensor([0.75, 0.75]))
    assert mixed.points[:, :, 0, 0].tolist() == [[2, 0, 1, 2], [4, 5, 0, 4]]
    assert (mixed.labels.tolist(), others.tolist(), share.tolist()) == ([7, 8], [8, 7], [0.75, 0.75])


def test_the_other_clip_is_resampled_to_the_length_of_the_first():
    steps = torch.arange(9.0)
    frames = steps < torch.tensor([[9], [5]])
    points = torch.stack((torch.zeros(9), steps))[:, :, None, None].expand(2, 9, 1, 3) * frames[..., None, None]
    clips = Batch(points, frames[..., None], frames, steps * frames / 30, torch.tensor([0, 1]))
    mixed, _, _ = mix(clips, torch.tensor([1, 0]), torch.tensor([0.5, 0.75]))
    torch.testing.assert_close(mixed.points[0, :, 0, 0], steps / 2 * 0.5)  # 0, 1/2, ... 4: its five places, on nine
    torch.testing.assert_close(mixed.points[1, :, 0, 0], steps * frames[1] * 0.75)


def test_pairs_are_seeded_and_shares_follow_the_setting():
    first, again = (draw_pairs(500, 0.4, np.random.default_rng(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert sorted(first[0].tolist()) == list(range(500))
    far = [(draw_pairs(500, strength, np.random.default_rng(0))[1] - 0.5).abs().mean() for strength in (0.1, 1.0, 10.0)]
    assert far[0] > far[1] > far[2]


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_loss_is_the_weighted_sum_for_both_labels(gamma):
    torch.manual_seed(0)
    logits, auxiliary = torch.randn(2, 6, 5)
    labels, others, share = torch.randint(5, (6,)), torch.randint(5, (6,)), torch.rand(6)
    outputs = Outputs(logits, (auxiliary,))
    found = sum(recognition_loss(outputs, target, 0.1, gamma, 0.2, weight)
                for target, weight in ((labels, share), (others, 1 - share)))
    expected = 0.0
    for value, factor in ((logits, 1.0), (auxiliary, 0.2)):
        for i in range(6):
            for target, weight in ((labels[i], share[i]), (others[i], 1 - share[i])):
                one = functional.cross_entropy(value[i], target, label_smoothing=0.1)
                expected += factor * weight * one * (1 - value[i].softmax(0)[target]) ** gamma / 6
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(focal_cross_entropy(logits, labels, 0.1, gamma, torch.ones(6)),
                               focal_cross_entropy(logits, labels, 0.1, gamma))


def test_training_with_mixup_learns_and_is_decided_by_the_seed(tmp_path):
    plain = TrainSettings(epochs=8, learning_rate=3e-3, warmup_share=0.25, mixup=0.4, precision="32")
    found = {}
    for name, chosen in (("a", plain), ("b", plain), ("off", replace(plain, mixup=0.0))):
        trained = train(MadeUpClips(), chosen, tmp_path / name, config=tiny(4), progress=False)
        found[name] = (tmp_path / name).read_bytes()
    assert found["a"] == found["b"] != found["off"]
    assert load_checkpoint(tmp_path / "a").training["settings"]["mixup"] == 0.4
    assert load_checkpoint(tmp_path / "a").metrics["val_mean_accuracy"] > 50 < trained.metrics["val_mean_accuracy"]
