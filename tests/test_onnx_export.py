"""The export of a checkpoint: torch's logits, self-sufficient, found by the recogniser, faults named."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from synthetic_batches import batch
from test_recogniser import landmarks, write

from slr_lib.batches import Batch
from slr_lib.checkpoint import load_checkpoint, save_checkpoint
from slr_lib.engines import OnnxEngine, TorchEngine, export_of
from slr_lib.errors import InputError
from slr_lib.model import build
from slr_lib.onnx_export import export_onnx, main
from slr_lib.recogniser import Recogniser
from slr_lib.skeleton import HANDS, HOLISTIC, Part, Skeleton

JOINTS = Skeleton("joints", tuple(f"joint_{i}" for i in range(20)), (Part("body", tuple(range(20)), None, "body"),),
                  tuple(range(20)), tuple((i, i + 1) for i in range(19)), origin=(0, 1), unit=(0, 1))
LENGTHS = ([1], [2, 1], [7], [64], [40, 128], [13, 5, 31])


@pytest.fixture(scope="module")
def exported(request, tmp_path_factory):
    """A checkpoint of a skeleton and its export beside it."""
    path = write(tmp_path_factory.mktemp(request.param.name) / "m.safetensors", request.param)
    assert export_onnx(path) == path.with_suffix(".onnx")
    return path


def clips_of(lengths: list[int], points: int, padding: int = 0) -> Batch:
    """Random clips in which points, a hand, and now and then everything is missing."""
    longest = max(lengths)
    made = batch(lengths if longest > 1 else [2], points, seed=longest, padding=padding)
    if longest == 1:
        made = {name: value[:, :1] for name, value in made.items()}
    made["mask"][:, ::5] = False
    made["points"] *= made["mask"][..., None]
    return Batch(labels=torch.zeros(len(lengths), dtype=torch.long), **made)


@pytest.mark.parametrize("exported", [
    pytest.param(HANDS, id="hands"), pytest.param(HOLISTIC, id="holistic", marks=pytest.mark.slow),
    pytest.param(JOINTS, id="joints", marks=pytest.mark.slow),
], indirect=True)
def test_an_export_computes_torchs_logits(exported):
    checkpoint = load_checkpoint(exported)
    engine, reference = OnnxEngine(exported.with_suffix(".onnx")), TorchEngine(checkpoint)
    for lengths in LENGTHS:
        clips = clips_of(lengths, checkpoint.config.points)
        wanted = reference.logits(clips)
        assert np.abs(engine.logits(clips) - wanted).max() < 1e-4
        padded = clips_of(lengths, checkpoint.config.points, padding=3)
        assert max(lengths) == 1 or np.abs(engine.logits(padded) - wanted).max() < 1e-4
    assert wanted.std() > 0.1
    onnx.checker.check_model(str(exported.with_suffix(".onnx")), full_check=True)
    assert engine.checkpoint == replace(checkpoint, weights={})


def test_an_export_of_two_coordinates_and_two_heads_across_parts_computes_torchs_logits(tmp_path):
    path = write(tmp_path / "m.safetensors", HANDS)
    made = load_checkpoint(path)
    config = replace(made.config, coordinates=2, part_heads=2)  # features by torch, nothing folded
    model = build(config)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    save_checkpoint(path, replace(made, config=config, weights=model.state_dict()))
    engine, reference = OnnxEngine(export_onnx(path)), TorchEngine(load_checkpoint(path))
    for lengths in ([7], [40, 128]):
        clips = clips_of(lengths, config.points)
        wanted = reference.logits(clips)
        assert np.abs(engine.logits(clips) - wanted).max() < 1e-4 and wanted.std() > 0.1


@pytest.mark.parametrize("exported", [
    pytest.param(HANDS, id="hands"), pytest.param(HOLISTIC, id="holistic", marks=pytest.mark.slow),
], indirect=True)
def test_weights_of_8_bits_make_a_small_export_of_nearly_the_same_logits(exported):
    path = export_onnx(exported, int8=True)
    assert path == exported.with_suffix(".int8.onnx")
    assert path.stat().st_size < 0.7 * exported.with_suffix(".onnx").stat().st_size
    onnx.checker.check_model(str(path), full_check=True)
    network = onnx.load(path)
    products = sum(node.op_type == "MatMulInteger" for node in network.graph.node)
    modules = load_checkpoint(exported).model().named_modules()
    linear = sum(isinstance(module, torch.nn.Linear) for name, module in modules if "auxiliary" not in name)
    assert products == linear + 1  # the hands share a table, which each reads in its own way
    checkpoint = load_checkpoint(exported)
    engine, reference = OnnxEngine(path), TorchEngine(checkpoint)
    for lengths in LENGTHS:
        clips = clips_of(lengths, checkpoint.config.points)
        found, wanted = engine.logits(clips), reference.logits(clips)
        off = np.square(found - wanted).mean() ** 0.5 / wanted.std()
        assert 0 < off < 0.1
    assert engine.source == OnnxEngine(exported.with_suffix(".onnx")).source
    path.unlink()


@pytest.mark.parametrize("exported", [pytest.param(HANDS, id="hands")], indirect=True)
class TestRecogniser:
    """The recogniser with an export; what else an export must stand."""

    def test_the_recogniser_takes_an_export_and_finds_it_beside_its_checkpoint(self, exported, tmp_path, capsys):
        alone = shutil.copy(exported, tmp_path / "m.safetensors")
        clip = landmarks(HANDS, 30)
        by_torch = Recogniser.load(alone)
        assert by_torch.engine.name == "torch"
        wanted = by_torch.recognise_landmarks(clip)
        for path in (exported, exported.with_suffix(".onnx")):
            found = Recogniser.load(path)
            assert found.engine.name == "onnxruntime" and found.glosses == by_torch.glosses
            guesses = found.recognise_landmarks(clip)
            assert [guess.gloss for guess in guesses] == [guess.gloss for guess in wanted]
            assert [guess.share for guess in guesses] == pytest.approx([guess.share for guess in wanted], abs=1e-4)

    def test_an_export_of_other_weights_is_passed_over(self, exported, tmp_path):
        other = write(tmp_path / "m.safetensors", HANDS, epoch=7)
        shutil.copy(exported.with_suffix(".onnx"), tmp_path / "m.onnx")
        assert export_of(other) is None
        assert Recogniser.load(other).engine.name == "torch"

    def test_no_path_of_this_machine_is_in_an_export(self, exported):
        whole = exported.with_suffix(".onnx").read_bytes()
        assert os.fsencode(exported.parent) not in whole and b"slr_lib" not in whole and b"site-packages" not in whole

    def test_faulty_files_are_named(self, exported, tmp_path, capsys):
        damaged = tmp_path / "m.onnx"
        with pytest.raises(InputError, match=r"m\.onnx: no such export"):
            Recogniser.load(damaged)
        whole = exported.with_suffix(".onnx").read_bytes()
        for content in (b"", b"no network", whole[:200], whole[:-5000]):
            damaged.write_bytes(content)
            with pytest.raises(InputError, match=r"m\.onnx: (the export is damaged|a network without)"):
                Recogniser.load(damaged)
        foreign = onnx.load_model_from_string(whole)
        foreign.ClearField("metadata_props")
        onnx.save(foreign, damaged)
        with pytest.raises(InputError, match=r"m\.onnx: a network without a description"):
            Recogniser.load(damaged)
        assert main([str(tmp_path / "absent.safetensors")]) == 1
        assert main([str(exported), "--int8", "--output", str(tmp_path / "m.bin")]) == 1
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 2 and "absent.safetensors" in errors[0] and "m.bin" in errors[1]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx"]


def test_an_export_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    path = write(tmp_path / "m.safetensors", HANDS)
    monkeypatch.setattr("slr_lib.onnx_export.OnnxEngine", lambda draft: TorchEngine(
        load_checkpoint(write(tmp_path / "other" / "o.safetensors", HANDS, epoch=1, seed=1))))
    monkeypatch.setattr("slr_lib.onnx_export._traced", lambda *_: onnx.ModelProto())
    for int8 in (False, True):
        with pytest.raises(RuntimeError, match="off torch's"):
            export_onnx(path, int8=int8)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["m.safetensors"]
