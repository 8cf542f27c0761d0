"""Checkpoints: whole round trip, equal bytes, damage named, heads re-made for other signs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from synthetic_batches import PARTS, batch, tiny

from slr_lib.checkpoint import KEY, Checkpoint, carry_weights, load_checkpoint, save_checkpoint
from slr_lib.errors import InputError
from slr_lib.model import build
from slr_lib.skeleton import HOLISTIC, Part, Skeleton

SKELETON = Skeleton("thirteen", tuple(f"p{i}" for i in range(13)),
                    tuple(Part(p.name, p.points, None, p.kind) for p in PARTS), tuple(range(13)), ((0, 1),),
                    origin=(10,), unit=(11, 12))


def made_up(signs: int = 7, seed: int = 0, **values) -> Checkpoint:
    model = build(tiny(signs), seed)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(seed))
    given = {"statistics": {"mean": [0.5, -1.25], "std": [1e-3, 2.0]}, "clips": {"longest": 128}, "data_set": "demo",
             "epoch": 4, "metrics": {"top1": 50.0}, "training": {"seed": 0}}
    return Checkpoint(model.state_dict(), model.config, tuple(f"жест {i}" for i in range(signs)), SKELETON,
                      **{**given, **values})


def test_a_checkpoint_comes_back_whole(tmp_path):
    written = made_up()
    save_checkpoint(tmp_path / "a" / "base.safetensors", written)
    read = load_checkpoint(tmp_path / "a" / "base.safetensors")
    assert replace(read, weights={}) == replace(written, weights={})
    clips = batch([6, 9])
    with torch.inference_mode():
        assert torch.equal(read.model()(**clips), written.model()(**clips))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["base.safetensors"]


def test_the_holistic_skeleton_comes_back(tmp_path):
    save_checkpoint(tmp_path / "m.safetensors", made_up(signs=7).__class__(**{**vars(made_up()), "skeleton": HOLISTIC}))
    assert load_checkpoint(tmp_path / "m.safetensors").skeleton == HOLISTIC


def test_equal_content_equal_bytes(tmp_path):
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, made_up())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_absent_cut_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "base.safetensors"
    with pytest.raises(InputError, match=r"base\.safetensors.*train"):
        load_checkpoint(path)
    save_checkpoint(path, made_up())
    whole = path.read_bytes()
    for damaged in (b"", whole[:4], whole[:200], whole[:-100], b"\x80\x04" + whole):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"base\.safetensors.*damaged"):
            load_checkpoint(path)
    save_file({"w": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="without a description"):
        load_checkpoint(path)
    save_file({"w": torch.zeros(1)}, path, metadata={KEY: json.dumps({"format": 1})})
    with pytest.raises(InputError, match="does not fit"):
        load_checkpoint(path)
    save_checkpoint(path, replace(made_up(), glosses=("one",)))
    with pytest.raises(InputError, match="1 glosses for 7 signs"):
        load_checkpoint(path)


def test_heads_keep_the_rows_of_common_glosses():
    start = made_up(signs=3, seed=1)
    glosses = ("жест 2", "new", "жест 0", "жест 1")
    model = build(tiny(4), seed=2)
    assert carry_weights(start, model, glosses, "base.safetensors") == 3
    head = model.state_dict()["head.weight"]
    assert torch.equal(head[[2, 3, 0]], start.weights["head.weight"])
    assert head[1].abs().max() == 0
    assert torch.equal(model.state_dict()["join.weight"], start.weights["join.weight"])
    with pytest.raises(InputError, match=r"base\.safetensors.*another shape"):
        carry_weights(start, build(tiny(3, width=64), 0), glosses[:3], "base.safetensors")
