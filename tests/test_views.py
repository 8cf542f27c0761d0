"""Clips seen from several sides where their depth was measured, as they are elsewhere."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from synthetic_batches import MadeUpClips, batch

from slr_lib.batches import Batch
from slr_lib.model import ModelConfig, build
from slr_lib.skeleton import Skeleton
from slr_lib.views import MEASURED, denser, mean_logits, turned

SKELETON = MadeUpClips.skeleton
GUESSED = dataclasses.replace(SKELETON, depth_by_part=True)
MEAN, STD = torch.full((13, 3), 0.5), torch.full((13, 3), 2.0)


def made(lengths: list[int], **values) -> Batch:
    """Random clips, some points missing."""
    return Batch(**batch(lengths, **values), labels=torch.zeros(len(lengths), dtype=torch.long))


def normalised(clips: Batch) -> Batch:
    """Divided by the statistics."""
    return clips._replace(points=(clips.points - MEAN) / STD * clips.mask[..., None])


def seen(clips: Batch, skeleton: Skeleton) -> tuple[list[Batch], np.ndarray]:
    """The views shown to the network, in units of the body, and the outcome where each view's logits are its number."""
    shown = []

    def network(views: Batch) -> np.ndarray:
        points = (views.points * STD + MEAN) * views.mask[..., None]
        shown.extend(Batch(*view) for view in zip(*(value.split(len(clips.labels)) for value in
                                                    views._replace(points=points)), strict=True))
        return np.repeat(np.arange(len(shown), dtype=np.float32), len(clips.labels))[:, None]

    return shown, mean_logits(network, normalised(clips), skeleton, MEAN, STD, 128)


@pytest.mark.parametrize("clips, skeleton", [
    (made([20, 9]), GUESSED),
    (made([20, 9])._replace(points=made([20, 9]).points * torch.tensor([1.0, 1.0, 0.0])), SKELETON),
], ids=["guessed", "no depth"])
def test_clips_without_measured_depth_are_seen_as_they_are(clips, skeleton):
    shown, outcome = seen(clips, skeleton)
    assert len(shown) == 1 and outcome.shape == (2, 1) and (outcome == 0).all()
    assert all(torch.equal(getattr(shown[0], name), getattr(clips, name)) for name in ("mask", "frames", "times"))
    assert torch.allclose(shown[0].points, clips.points, atol=1e-5)


def test_views_differ_by_a_turn_about_the_vertical_and_their_mean_counts():
    clips = made([20, 9], padding=3)
    shown, outcome = seen(clips, SKELETON)
    assert len(shown) == len(MEASURED.turns) and outcome.shape == (2, 1) and (outcome == (len(shown) - 1) / 2).all()
    plain = denser(clips, MEASURED.frames, 128)
    x, y, z = plain.points.unbind(3)
    for degrees, view in zip(MEASURED.turns, shown, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(view[1:], plain[1:], strict=True))
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        expected = torch.stack((cosine * x + sine * z, y, cosine * z - sine * x), 3)
        assert torch.allclose(view.points, expected, atol=1e-5)


def test_frames_are_added_between_the_old_ones_in_the_same_time():
    clips = made([21, 9, 1])
    dense = denser(clips, 1.25, 128)
    assert dense.frames.sum(1).tolist() == [26, 11, 1] and dense.frames.shape[1] % 8 == 0
    for number, (old, new) in enumerate(((21, 26), (9, 11), (1, 1))):
        ends = clips.times[number, [0, old - 1]] - clips.times[number, 0]
        assert torch.allclose(dense.times[number, [0, new - 1]], ends, atol=1e-5)
        assert torch.equal(dense.points[number, [0, new - 1]], clips.points[number, [0, old - 1]])
    assert not dense.mask[~dense.frames].any() and not dense.points[~dense.mask].any()


@pytest.mark.parametrize("lengths, most, expected", [([100], 110, 110), ([60], 110, 75), ([100], 64, 100)])
def test_no_clip_gets_more_frames_than_a_batch_may_have_and_none_loses_any(lengths, most, expected):
    assert denser(made(lengths), 1.25, most).frames.sum() == expected


def test_a_turn_and_its_opposite_restore_the_clip():
    clips = made([12, 7])
    assert torch.allclose(turned(turned(clips, 33), -33).points, clips.points, atol=1e-5)
    assert torch.equal(turned(clips, 0).points, clips.points)


def test_padding_and_neighbours_change_no_logit():
    model = build(ModelConfig.for_skeleton(SKELETON, 5, width=32, part_width=16, head_width=32)).eval()
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def network(view: Batch) -> np.ndarray:
        return model(*view[:4]).numpy()

    clips, longer = made([30, 17]), made([30, 17], padding=9)
    together = mean_logits(network, normalised(clips), SKELETON, MEAN, STD, 128)
    assert mean_logits(network, normalised(longer), SKELETON, MEAN, STD, 128) == pytest.approx(together, abs=1e-5)
    alone = Batch(*(value[1:] for value in clips))
    assert mean_logits(network, normalised(alone), SKELETON, MEAN, STD, 128) == pytest.approx(together[1:], abs=1e-5)
    assert np.abs(together - network(normalised(clips))).max() > 1e-3
