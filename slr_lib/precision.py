"""Which numbers to compute with: bf16 halves the time where the hardware has it, and takes up to 30 times as long where
it is only emulated."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch


@cache
def computes_bf16(device: str) -> bool:
    """Whether the hardware of torch's device type `device` (`cpu`, `cuda`) multiplies matrices in bf16."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


def lightning_precision(wanted: Literal["auto", "bf16", "32"]) -> str:
    """Lightning's name; `auto` is bf16 where the device that will train computes in it."""
    if wanted == "auto":
        wanted = "bf16" if computes_bf16("cuda" if torch.cuda.is_available() else "cpu") else "32"
    return {"bf16": "bf16-mixed", "32": "32-true"}[wanted]
