"""The recogniser: masks, skeletons, modes, first loss."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_batches import PARTS, batch, tiny

from slr_lib.geometry import MOTION_UNIT, PartFeatures, RelativePlaces, differences, directions
from slr_lib.layers import (
    DepthwiseConvolution,
    FoldedMixer,
    PartMixer,
    QueryPooling,
    masked_max,
    rotary_tables,
    rotate,
)
from slr_lib.losses import focal_cross_entropy, recognition_loss
from slr_lib.model import ModelConfig, PartShape, Recognition, build, count_parameters, pairs
from slr_lib.skeleton import HANDS, HOLISTIC


def trained_looking(config: ModelConfig, seed: int = 0) -> Recognition:
    """A model whose heads are not zero, or every comparison of logits would hold."""
    model = build(config, seed)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed))
    return model.eval()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(2, 19), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 99))
def test_padding_changes_no_logit(lengths, padding, seed):
    model = trained_looking(tiny(local_blocks=3, global_blocks=2))
    clips = batch(lengths, seed=seed)
    with torch.inference_mode():
        plain = model(**clips)
        padded = model(**batch(lengths, seed=seed, padding=padding))
        alone = [model(**{k: v[i : i + 1, :n] for k, v in clips.items()}) for i, n in enumerate(lengths)]
    assert plain.std() > 0.1
    torch.testing.assert_close(padded, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat(alone), plain, rtol=1e-4, atol=1e-4)


def test_rubbish_in_the_padding_changes_no_logit():
    model = trained_looking(tiny())
    clips = batch([9, 4], padding=3)
    dirty = dict(clips)
    dirty["times"] = torch.where(clips["frames"], clips["times"], 77.0)
    dirty["points"] = torch.where(clips["mask"].unsqueeze(-1), clips["points"], 5.0)
    with torch.inference_mode():
        torch.testing.assert_close(model(**dirty), model(**clips), rtol=1e-4, atol=1e-4)


def test_padding_changes_no_gradient():
    model = trained_looking(tiny(dropout=0.0, drop_path=0.0, head_dropout=0.0)).train()
    labels = torch.tensor([1, 2])
    gradients = []
    for padding in (0, 5):
        model.zero_grad()
        recognition_loss(model.outputs(**batch([9, 6], padding=padding)), labels, 0.1, 0.0, 0.2).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_batch_order_changes_no_logit_and_evaluation_is_deterministic():
    model = trained_looking(tiny())
    clips = batch([5, 12, 8])
    order = torch.tensor([2, 0, 1])
    with torch.inference_mode():
        first, again = model(**clips), model(**clips)
        shuffled = model(**{k: v[order] for k, v in clips.items()})
    assert torch.equal(first, again)
    torch.testing.assert_close(shuffled, first[order], rtol=1e-4, atol=1e-5)


def test_the_mode_alone_decides():
    model = trained_looking(tiny())
    clips = batch([8, 8])
    assert model.outputs(**clips).auxiliaries == ()
    model.train()
    assert len(model.outputs(**clips).auxiliaries) == 2
    assert not torch.equal(model(**clips), model(**clips))  # dropout


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_first_loss_is_that_of_a_uniform_guess(gamma):
    signs = 7
    outputs = build(tiny(signs)).train().outputs(**batch([8, 5, 6]))
    labels = torch.tensor([0, 3, 6])
    expected = math.log(signs) * (1 - 1 / signs) ** gamma
    assert recognition_loss(outputs, labels, 0.1, gamma, 0.0).item() == pytest.approx(expected, abs=1e-5)
    assert recognition_loss(outputs, labels, 0.1, gamma, 0.2).item() == pytest.approx(1.2 * expected, abs=1e-5)


def test_focal_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    p = torch.sigmoid(torch.tensor([2.0, 1.0]))
    expected = (-(1 - p) ** 2 * p.log()).mean()
    torch.testing.assert_close(focal_cross_entropy(logits, torch.tensor([0, 1]), 0.0, 2.0), expected)


@pytest.mark.parametrize("skeleton", [HANDS, HOLISTIC.select()[0]], ids=lambda s: s.name)
def test_every_skeleton_is_served_within_the_size(skeleton):
    config = ModelConfig.for_skeleton(skeleton, signs=1000)
    model = trained_looking(config)
    assert count_parameters(model) < 4_000_000
    with torch.inference_mode():
        assert model(**batch([6, 9], points=len(skeleton.points))).shape == (2, 1000)
    assert ModelConfig.from_plain(config.as_plain()) == config


def test_a_body_without_hands_is_served():
    config = tiny()
    joints = ModelConfig(signs=3, points=20, parts=(PartShape("body", "body", tuple(range(20))),), width=config.width,
                         part_width=16, head_width=32)
    with torch.inference_mode():
        assert trained_looking(joints)(**batch([6], points=20)).isfinite().all()


def test_a_clip_with_nothing_seen_gives_finite_logits_and_gradients():
    clips = batch([6, 4])
    clips["mask"][:] = False
    clips["points"][:] = 0
    model = build(tiny()).train()
    outputs = model.outputs(**clips)
    recognition_loss(outputs, torch.tensor([0, 1]), 0.1, 0.0, 0.2).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_one_batch_can_be_overfitted():
    model = build(tiny(drop_path=0.0, dropout=0.0, head_dropout=0.0)).train()
    clips, labels = batch([9, 12, 7, 10, 8, 11, 9]), torch.arange(7)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        recognition_loss(model.outputs(**clips), labels, 0.0, 0.0, 0.2).backward()
        optimiser.step()
    model.eval()
    with torch.inference_mode():
        logits = model(**clips)
    assert torch.equal(logits.argmax(-1), labels)
    assert torch.nn.functional.cross_entropy(logits, labels) < 0.1


def test_motion_knows_the_time_and_the_gaps():
    times = torch.tensor([[0.0, 0.04, 0.12, 0.16]])
    points = (times * 3)[:, None, None].expand(1, 1, 3, 4)  # 3 units a second
    seen = torch.ones(1, 1, 4)
    speed, moving = differences(points, seen, times)
    torch.testing.assert_close(speed[0, 0, :, 1:], torch.full((3, 3), 3 * MOTION_UNIT))
    assert moving[0, 0].tolist() == [0, 1, 1, 1]
    seen[..., 1] = 0
    speed, moving = differences(points * seen[:, :, None], seen, times)
    assert moving[0, 0].tolist() == [0, 0, 0, 1]
    assert speed[..., :3].abs().max() == 0


def test_relative_coordinates_forget_place_and_size():
    points = torch.randn(2, 5, 3, 6, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(2, 5, 6)
    seen[0, 2, 0] = 0
    for root in (0, None):
        relative = RelativePlaces([0] * 5, [root])
        here, number = relative(points * seen[:, :, None], seen)
        moved, _ = relative((points * 2.5 + 4) * seen[:, :, None], seen)
        torch.testing.assert_close(moved, here, rtol=1e-4, atol=1e-4)
        assert number[0, 0, 0].item() == 4 and here[0, 2, :, 0].abs().max() == 0
        torch.testing.assert_close(here.square().sum((1, 2)) / seen.sum(1), torch.ones(2, 6))
        assert (here[:, 0].abs().max() < 1e-6) == (root == 0)
    bones = directions(points, seen, torch.tensor([0, 1]), torch.tensor([1, 2]))
    torch.testing.assert_close(bones.norm(dim=2)[1], torch.ones(2, 6))
    assert bones[0, 1, :, 0].abs().max() == 0


def test_parts_do_not_mix_in_their_features():
    config = tiny()
    features = PartFeatures([part.points for part in PARTS], [part.kind == "hand" for part in PARTS],
                            [edge for part in PARTS for edge in part.edges], 3)
    clips = batch([9])
    rows, present = features(clips["points"], clips["mask"], clips["times"])
    assert [row.shape[2] for row in rows] == [3 * count for count in features.rows] and config.points == 13
    clips["points"][:, :, 5:10] += 1.0  # the right hand elsewhere
    clips["points"] *= clips["mask"][..., None]
    moved, _ = features(clips["points"], clips["mask"], clips["times"])
    assert torch.equal(moved[0], rows[0]) and torch.equal(moved[2], rows[2])
    assert not torch.equal(moved[1], rows[1])
    assert not present[0, 1, 0] and present.any(2).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("skeleton", [HOLISTIC, HANDS], ids=lambda skeleton: skeleton.name)
def test_the_compiled_loop_makes_torchs_features(skeleton, threads, monkeypatch):
    selected = skeleton.select()[0]
    features = ModelConfig.for_skeleton(selected, signs=5).features()
    clips = batch([11, 8, 2, 5], points=len(selected.points), padding=2)
    clips["mask"][2], clips["mask"][0, 4] = False, False
    clips["points"] *= clips["mask"][..., None] * 9  # some motion reaches its limit
    given = clips["points"], clips["mask"], clips["times"]
    before, had = given[0].clone(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows, present = features(*given)
        halves, _ = features(*given, torch.bfloat16)
    finally:
        torch.set_num_threads(had)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # torch's own operations, as exports take them
    wanted, there = features(*given)
    assert torch.equal(present, there) and torch.equal(given[0], before) and present.any() and not present.all()
    for row, half, right in zip(rows, halves, wanted, strict=True):
        torch.testing.assert_close(row, right, rtol=1e-5, atol=1e-5)
        assert torch.equal(half, row.bfloat16()) and right.abs().max() > 1


@pytest.mark.parametrize("frames", [1, 16, 37])
def test_the_convolutions_own_gradients_are_torchs(frames):
    layer = DepthwiseConvolution(6, 17).double()
    x = torch.randn(3, frames, 6, dtype=torch.double, requires_grad=True)
    weights = layer.convolution.weight, layer.convolution.bias
    own = layer(x)
    plain = layer.convolution(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
    torch.testing.assert_close(own, plain)
    slope = torch.randn(own.shape, dtype=torch.double)
    for found, wanted in zip(*(torch.autograd.grad(y, (x, *weights), slope) for y in (own, plain)), strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_two_hands_are_read_by_one_table():
    model = build(ModelConfig.for_skeleton(HANDS, signs=5))
    assert model.config.twins == (0, 1)
    clips = batch([8, 6], points=42)
    twins = torch.tensor(HANDS.mirror)
    mirrored = clips["points"][:, :, twins] * torch.tensor([-1.0, 1.0, 1.0])
    with torch.inference_mode():
        here, other = (
            model.embedding(pairs(*model.features(points, mask, clips["times"]), clips["frames"], clips["times"])[0])
            for points, mask in ((clips["points"], clips["mask"]), (mirrored, clips["mask"][:, :, twins]))
        )
    torch.testing.assert_close(other, here.flip(2), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(here[:, :, 0], here[:, :, 1])


def test_hands_that_do_not_mirror_each_other_point_for_point_have_tables_of_their_own():
    backwards = replace(HANDS, parts=(HANDS.parts[0], replace(HANDS.parts[1], points=HANDS.parts[1].points[::-1])))
    without_a_bone = replace(HANDS, edges=HANDS.edges[1:])
    alone = replace(HANDS, parts=HANDS.parts[:1])
    for skeleton in (backwards, without_a_bone, alone):
        config = ModelConfig.for_skeleton(skeleton, signs=5)
        assert config.twins is None and len(build(config).embedding.tables) == len(config.parts)
        assert ModelConfig.from_plain(json.loads(json.dumps(config.as_plain()))) == config
    config = ModelConfig.for_skeleton(HANDS, signs=5)
    assert ModelConfig.from_plain(json.loads(json.dumps(config.as_plain()))) == config


def test_rotation_depends_on_the_distance_in_time_alone():
    q, k = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    scores = []
    for start in (0.0, 40.0):
        cos, sin = rotary_tables(torch.tensor([[start, start + 7.5]]), 8)
        scores.append((rotate(q, cos[:, :, :1], sin[:, :, :1]) * rotate(k, cos[:, :, 1:], sin[:, :, 1:])).sum())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_maximum_ignores_padding_also_below_zero():
    x = torch.tensor([[[-3.0], [-2.0], [9.0]]])
    assert masked_max(x, torch.tensor([[True, True, False]])).item() == -2.0


def test_the_query_prefers_frames_in_half_precision_whatever_it_is_given():
    # on a GPU the norm before it gives float32 in mixed precision, and the scores are bfloat16
    pooling, frames = QueryPooling(8, 2), torch.tensor([[True, True, False]])
    x = torch.randn(1, 3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooling(x, frames)
    torch.testing.assert_close(pooled.float(), pooling(x, frames), atol=0.02, rtol=0.02)


def test_a_folded_mixer_is_the_same_but_for_rounding():
    torch.manual_seed(0)
    mixer, x = PartMixer(24, heads=1), torch.randn(3, 7, 5, 24)
    for weights in mixer.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    with torch.inference_mode():
        wanted = mixer(x)
        assert (wanted - x).std() > 0.1  # else it would hold of any mixer
        torch.testing.assert_close(FoldedMixer(mixer)(x), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="one head"):
        FoldedMixer(PartMixer(24, heads=2))
