"""Muon (Jordan et al. 2024) for the hidden layers' matrices and AdamW for all else, as one optimiser on one schedule.

Muon makes a step of a matrix's momentum brought near to an orthogonal matrix, so that all its directions are learnt at
one pace. Its steps are scaled to be as long as AdamW's (Liu et al. 2025), so that both take the same learning rate.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from slr_lib.layers import Head

ITERATIONS = 3  # of Newton and Schulz towards the orthogonal matrix; Muon's own five learn no better and cost more
BETAS = (0.9, 0.98)  # AdamW's


def make_optimiser(model: nn.Module, name: str, learning_rate: float, weight_decay: float) -> Optimizer:
    """The optimiser of a model's weights: name `muon` (with AdamW where it does not apply) or `adamw` for all."""
    matrices, decaying, others = parameter_groups(model)
    if name == "adamw":
        matrices, decaying = [], matrices + decaying
    adamw = AdamW([{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}],
                  lr=learning_rate, betas=BETAS, fused=True)
    if not matrices:
        return adamw
    return _Several(adamw, Muon(matrices, lr=learning_rate, weight_decay=weight_decay, ns_steps=ITERATIONS,
                                adjust_lr_fn="match_rms_adamw"))


def parameter_groups(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Weights of a model by what is done to them: matrices of hidden layers; heads and convolutions, which decay as
    those do; biases, norms, embeddings and gates, which do not.
    """
    hidden = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear) and not isinstance(m, Head)}
    decays = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    groups = [], [], []
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[0 if id(parameter) in hidden else 1 if id(parameter) in decays else 2].append(parameter)
    return groups


class _Several(Optimizer):
    """Optimisers of different weights that step together; a schedule sees all their groups."""

    def __init__(self, *parts: Optimizer):
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """A step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict:
        """That of each."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict) -> None:
        """The inverse of `state_dict`."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
