"""Precision: `auto` is bf16 where the hardware computes in it, whatever asks."""

from __future__ import annotations

import pytest
import torch

from slr_lib.precision import computes_bf16, lightning_precision


@pytest.fixture(autouse=True)
def asked_anew():
    computes_bf16.cache_clear()
    yield
    computes_bf16.cache_clear()


@pytest.mark.parametrize("able, auto", [
    ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "32-true"),
    ({"avx2": True, "avx512_bf16": True, "amx_bf16": False}, "bf16-mixed"),
    ({"neon": True, "bf16": True}, "bf16-mixed"),
])
def test_auto_goes_by_the_processor_where_there_is_no_gpu(monkeypatch, able, auto):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert lightning_precision("auto") == auto
    assert computes_bf16("cpu") == (auto == "bf16-mixed")
    assert [lightning_precision(wanted) for wanted in ("bf16", "32")] == ["bf16-mixed", "32-true"]


@pytest.mark.parametrize("emulated", [True, False])
def test_auto_goes_by_the_gpu_where_there_is_one(monkeypatch, emulated):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported",
                        lambda including_emulation: including_emulation or not emulated)
    assert lightning_precision("auto") == ("32-true" if emulated else "bf16-mixed")
