"""The measurement of detection's noise finds what was put in, and augmentation puts in what it found."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from noise import SKELETON, Errors, measure, track
from slr_lib.augment import NOISE, Batch, scatter

CLIPS, FRAMES, RATE = 24, 120, 15


@pytest.fixture(scope="module")
def clips() -> list[Errors]:
    """What augmentation adds to clips, as errors of an extraction; one point of each is always wrong by as much."""
    shape = (CLIPS, FRAMES, len(SKELETON.points))
    times = (torch.arange(FRAMES) / RATE).expand(shape[:2])
    still = Batch(torch.zeros(*shape, 3), torch.ones(shape, dtype=torch.bool), torch.ones(shape[:2], dtype=torch.bool),
                  times, torch.zeros(CLIPS).long())
    added = [scatter(still, SKELETON, 1.0, torch.Generator().manual_seed(seed)).points.numpy() for seed in range(4)]
    added = np.concatenate(added)
    added[:, :, 0] += 0.1
    seen = np.ones(added.shape[1:3], bool)
    return [Errors(points, seen, times[0].numpy()) for points in added]


@pytest.mark.parametrize("kind", NOISE)
def test_augmentation_adds_the_noise_that_was_measured(clips, kind):
    parts = [part for part in SKELETON.parts if part.kind == kind]
    found = measure([[track(clip, part) for clip in clips] for part in parts])
    points = np.mean([len(part.points) for part in parts])
    expected = NOISE[kind]
    assert found["frames"] == len(parts) * len(clips) * FRAMES
    assert found["shared"] == pytest.approx((expected.shared**2 + expected.own**2 / points) ** 0.5, rel=0.15)
    assert found["own"] == pytest.approx(expected.own, rel=0.1)
    for name in ("shared_seconds", "own_seconds"):
        assert found[name] == pytest.approx(expected.seconds, rel=0.35), name
    first = SKELETON.parts[0].kind == kind and 0 in SKELETON.parts[0].points
    assert (found["always"] > 0.005) == first


def test_a_hand_found_on_something_else_does_not_count(clips):
    part = SKELETON.hands[0]
    points = clips[0].points.copy()
    points[:30, list(part.points)] += 1.0
    seen = clips[0].seen.copy()
    seen[30:40, part.points[3]] = False
    assert track(Errors(points, seen, clips[0].times), part).seen.tolist() == [False] * 40 + [True] * (FRAMES - 40)
