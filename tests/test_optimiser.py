"""The optimiser: which weights Muon moves and which AdamW, what decays, how far a step goes; saved and loaded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from slr_lib.model import ModelConfig, build
from slr_lib.optimiser import ITERATIONS, Muon, make_optimiser, parameter_groups
from slr_lib.skeleton import HANDS


@pytest.fixture
def model():
    return build(ModelConfig.for_skeleton(HANDS, 5, width=32, part_width=16, head_width=48))


def stepped(model, optimiser, steps: int = 1, seed: int = 0) -> None:
    """Steps with random gradients."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


def test_hidden_matrices_are_muons_and_norms_biases_and_embeddings_do_not_decay(model):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, decaying, free = ([names[id(parameter)] for parameter in group] for group in parameter_groups(model))
    assert sorted(matrices + decaying + free) == sorted(names.values())
    assert {"join.weight", "pooled.0.weight", "globals.0.qkv.weight", "mixer.out.weight"} <= set(matrices)
    assert not any("head" in name.split(".")[0] for name in matrices)
    assert {"head.weight", "auxiliary_heads.1.weight", "locals.0.convolution.convolution.weight"} <= set(decaying)
    assert {"missing", "part_places", "last_norm.weight", "head.bias"} <= set(free)
    assert not any("norm" in name or "bias" in name for name in matrices + decaying)
    rates = {id(p): group for group in make_optimiser(model, "muon", 1e-3, 0.05).param_groups for p in group["params"]}
    assert {names[place]: group["weight_decay"] for place, group in rates.items()} == {
        name: 0.0 if name in free else 0.05 for name in names.values()}


def test_a_step_of_muon_turns_all_directions_alike_and_is_as_long_as_adamws(model):
    weight = model.globals[0].contract.weight
    before = weight.detach().clone()
    stepped(model, make_optimiser(model, "muon", 1e-3, 0.0))
    way = before - weight.detach()
    ratio = torch.linalg.svdvals(way)
    torch.manual_seed(0)
    plain = torch.linalg.svdvals(torch.randn_like(way))
    assert ratio[0] / ratio[-1] < plain[0] / plain[-1] / 2
    assert 0.5e-4 < way.square().mean().sqrt() < 4e-4  # AdamW's steps are about 0.2 to 0.4 of the learning rate long


@pytest.mark.parametrize("emulated", [False, True], ids=["bf16", "float32"])
def test_muon_steps_as_torchs_bit_for_bit_in_bf16_and_to_its_rounding_in_float32(monkeypatch, emulated):
    monkeypatch.setattr("slr_lib.optimiser.computes_bf16", lambda device: not emulated)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator) for shape in ((24, 60), (48, 24), (4, 32))]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in drawn] for _ in range(2))
    steps = (Muon(ours, 0.01, 0.05),
             torch.optim.Muon(theirs, lr=0.01, weight_decay=0.05, ns_steps=ITERATIONS, adjust_lr_fn="match_rms_adamw"))
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for step in steps:
            step.step()
    apart = max((one - other).abs().max().item() for one, other in zip(ours, theirs, strict=True))
    assert 0 < apart < 2e-4 if emulated else apart == 0


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_an_optimiser_goes_on_from_its_state(model, name):
    other = copy.deepcopy(model)
    first, second = (make_optimiser(one, name, 1e-3, 0.05) for one in (model, other))
    schedule = LambdaLR(first, lambda step: 1 / (1 + step))
    stepped(model, first, 3)
    schedule.step()
    state = copy.deepcopy(first.state_dict())
    other.load_state_dict(model.state_dict())
    second.load_state_dict(state)
    assert {group["lr"] for group in second.param_groups} == {5e-4}
    for one, optimiser in ((model, first), (other, second)):
        stepped(one, optimiser, 2, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    second.param_groups[-1]["lr"] = 0.0  # the groups of a loaded state are those that step
    frozen = [parameter.detach().clone() for parameter in second.param_groups[-1]["params"]]
    stepped(other, second)
    assert all(torch.equal(a, b) for a, b in zip(frozen, second.param_groups[-1]["params"], strict=True))


def test_a_closures_loss_is_returned(model):
    optimiser = make_optimiser(model, "muon", 1e-3, 0.0)
    assert optimiser.step(lambda: 1.5) == 1.5
