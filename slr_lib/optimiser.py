"""Muon (Jordan et al. 2024) for the hidden layers' matrices and AdamW for all else, as one optimiser on one schedule.

Muon makes a step of a matrix's momentum brought near to an orthogonal matrix, so that all its directions are learnt at
one pace. Its steps are scaled to be as long as AdamW's (Liu et al. 2025), so that both take the same learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from slr_lib.layers import Head
from slr_lib.precision import computes_bf16

ITERATIONS = 3  # of Newton and Schulz towards the orthogonal matrix; Muon's usual five learn no better and cost more
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # of an iteration (Jordan et al. 2024): the steepest at 0, none that converges
MOMENTUM = 0.95
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
    return _Several(adamw, Muon(matrices, learning_rate, weight_decay))


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


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix near to the orthogonal one that is nearest to `matrix` [M, N], in the precision that is fast there.

    ITERATIONS of Newton and Schulz leave singular values between about 0.7 and 1.2, and smaller those below a sixtieth
    of the matrix's norm. In bf16 where the hardware computes in it, bit for bit as torch.optim.Muon; else in float32,
    for emulated bf16, which that has everywhere, takes 29 times as long.
    """
    a, b, c = POLYNOMIAL
    wide = matrix.mT if len(matrix) > matrix.shape[1] else matrix
    x = wide.to(torch.bfloat16 if computes_bf16(matrix.device.type) else torch.float32)
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if wide is not matrix else x


class Muon(Optimizer):
    """Steps of matrices along `orthogonal` of their Nesterov momentum, with decoupled weight decay.

    Args:
        matrices: [M, N] each; learning_rate: as for AdamW; weight_decay.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], learning_rate: float, weight_decay: float):
        super().__init__(matrices, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step of each matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                momentum = state["momentum"].lerp_(matrix.grad, 1 - MOMENTUM)
                way = orthogonal(matrix.grad.lerp(momentum, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(way, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


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
