"""A checkpoint -> one ONNX file that is sufficient in itself: network, glosses, skeleton, statistics, clip settings.

`python -m slr_lib.onnx_export [CHECKPOINT] [--output FILE]` writes it beside the checkpoint, where
`slr_lib.recogniser` finds it. With --int8 the linear layers' weights are 8-bit numbers, and what goes into them is
rounded to 8 bits as it comes: the file is a third as large and faster on a CPU, and logits are a few hundredths of
their spread off torch's. Such an export lies in `<name>.int8.onnx` and serves who names it.

The network takes any number of clips and frames, as `slr_lib.model.Recognition.forward` does: points float32
[batch, frames, P, 3] (normalised, zero where missing), mask bool [batch, frames, P], frames bool [batch, frames], times
float32 [batch, frames] -> logits float32 [batch, N]. The metadata's key `recogniser` holds the checkpoint's description
(slr_lib.checkpoint), `checkpoint_sha256` says of which file.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from slr_lib.batches import MULTIPLE, Batch
from slr_lib.checkpoint import KEY, Checkpoint, description, load_checkpoint
from slr_lib.engines import INPUTS, SOURCE, OnnxEngine, TorchEngine, export_path, seam_of, sha256
from slr_lib.errors import InputError, exit_status
from slr_lib.layers import FoldedMixer
from slr_lib.model import Recognition, pairs
from slr_lib.recogniser import newest_checkpoint

TOLERANCE = 1e-4  # of logits, absolute and relative, between the export and torch
INT8_TOLERANCE = 0.1  # the same of 8-bit weights: root mean square of the difference, in spreads of torch's logits
_TRACED = (2, 3 * MULTIPLE)  # clips and frames of the example that is traced
_PROBED = ((1, 5), (3, 2 * MULTIPLE), (2, 45))  # and of those that the export is compared on


class _Features(nn.Module):
    """The network's first half: pads to a multiple of MULTIPLE frames, as slr_lib.batches does, and makes the features
    of pairs.

    The trace of a network that merges neighbouring frames holds for such lengths alone.
    """

    def __init__(self, network: Recognition):
        super().__init__()
        self.features = network.features

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> tuple[Tensor, ...]:
        """Arguments as of the network -> what slr_lib.model.pairs gives."""
        pad, more = nn.functional.pad, -points.shape[1] % MULTIPLE
        times = pad(times, (0, more))
        rows, present = self.features(pad(points, (0, 0, 0, 0, 0, more)), pad(mask, (0, 0, 0, more)), times)
        rows, *others = pairs(rows, present, pad(frames, (0, more)), times)
        return *rows, *others


class _Network(nn.Module):
    """The other half: what `_Features` gives -> logits; the network's mixer is folded."""

    def __init__(self, network: Recognition):
        super().__init__()
        self.network = network
        if network.mixer.heads == 1:
            network.mixer = FoldedMixer(network.mixer)

    def forward(self, rows: list[Tensor], present: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Logits [B, N]."""
        return self.network.classify(*self.network.encode(rows, present, frames, times)).logits


def export_onnx(checkpoint: str | os.PathLike, output: str | os.PathLike | None = None, int8: bool = False) -> Path:
    """Write the export of a checkpoint file, whole or not at all, once its logits were found equal to torch's.

    Args:
        output: the file to write; by default the checkpoint's with the suffix .onnx, or .int8.onnx. int8: weights of
        8 bits, logits within INT8_TOLERANCE.

    Returns:
        The file written.

    Raises:
        InputError: the checkpoint is absent or damaged, or the output's suffix is not .onnx.
        RuntimeError: the export computes other logits than torch.
    """
    target = export_path(checkpoint, int8) if output is None else Path(output)
    if target.suffix != ".onnx":
        raise InputError(f"{target}: an export's name ends in .onnx; name another file by --output.")
    loaded = load_checkpoint(checkpoint)
    network = _traced(loaded.model(), int8)
    for key, value in ((KEY, description(loaded)), (SOURCE, sha256(checkpoint))):
        network.metadata_props.add(key=key, value=value)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.stem}.part.onnx")
    try:
        with draft.open("wb") as file:
            file.write(network.SerializeToString(deterministic=True))
            file.flush()
            os.fsync(file.fileno())
        _compare(OnnxEngine(draft), loaded, int8)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _traced(network: Recognition, int8: bool = False):
    """The network as onnx.ModelProto, its halves joined at engines.seam."""
    from onnx import compose

    example, seam = tuple(_made_up(*_TRACED, network.config.points, 0)[:4]), seam_of(network.config)
    halves = _Features(network), _Network(network)
    *rows, present, frames, times = halves[0](*example)
    first = _exported(halves[0], example, torch.export.Dim("frames"), INPUTS, seam)
    first = compose.add_prefix(first, "features/", rename_inputs=False, rename_outputs=False)
    second = _exported(halves[1], (rows, present, frames, times), MULTIPLE // 2 * torch.export.Dim("eights"), seam,
                       ("logits",))
    if int8:
        second = _quantised(second)
    return compose.merge_models(first, second, [(name, name) for name in seam])


def _exported(module: nn.Module, example: tuple, frames: object, inputs: Sequence[str], outputs: Sequence[str]):
    """A module as onnx.ModelProto, without the traces of this machine's files that the exporter leaves in it.

    example: tensors, and lists of them, of any number of clips and of `frames`, a torch.export.Dim.
    """
    axes = {0: torch.export.Dim("batch"), 1: frames}
    shapes = tuple([axes] * len(given) if isinstance(given, list) else axes for given in example)
    with _quiet():
        program = torch.onnx.export(
            module.eval(), example, input_names=list(inputs), output_names=list(outputs),
            dynamic_shapes=shapes, dynamo=True, verbose=False,
        )
    made = program.model_proto
    made.graph.ClearField("metadata_props")
    made.graph.ClearField("value_info")
    for node in made.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return made


def _quantised(network):
    """A network as onnx.ModelProto -> the same with linear layers in 8 bits, by ONNX Runtime's dynamic quantisation."""
    import onnx
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, folded, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "folded", "made"))
        onnx.save(network, plain)
        # folds what is constant, such as a hand's mirrored weights, which would be passed over
        quant_pre_process(plain, folded, skip_symbolic_shape=True)
        # reduce_range: processors without 8-bit instructions add in 16 bits, which the whole range would overflow
        quantize_dynamic(folded, made, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, reduce_range=True,
                         weight_type=QuantType.QInt8)
        found = onnx.load(made)
    found.ir_version = network.ir_version
    del found.opset_import[:]
    found.opset_import.extend(network.opset_import)
    return found


def _made_up(clips: int, frames: int, points: int, seed: int) -> Batch:
    """Random clips; every second one ends in padding, and points are missing here and there."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([frames if clip % 2 == 0 else max(frames // 2, 1) for clip in range(clips)])
    real = torch.arange(frames) < lengths[:, None]
    mask = (torch.rand(clips, frames, points, generator=random) > 0.2) & real[..., None]
    places = torch.randn(clips, frames, points, 3, generator=random) * mask[..., None]
    return Batch(places, mask, real, torch.arange(frames) / 30 * real, torch.full((clips,), -1))


def _compare(engine: OnnxEngine, checkpoint: Checkpoint, int8: bool) -> None:
    reference = TorchEngine(checkpoint)
    for seed, (clips, frames) in enumerate(_PROBED):
        batch = _made_up(clips, frames, checkpoint.config.points, seed)
        found, wanted = engine.logits(batch), reference.logits(batch)
        alike = (np.square(found - wanted).mean() ** 0.5 <= INT8_TOLERANCE * wanted.std() if int8 else
                 np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE))
        if not alike:
            raise RuntimeError(f"the export's logits of {clips} clips of {frames} frames are up to "
                               f"{np.abs(found - wanted).max():.2g} off torch's")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's notes on packages that are not installed and on its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m slr_lib.onnx_export", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", help="file to export; the newest under data/*/models by default")
    parser.add_argument("--output", help="file to write; the checkpoint's name with .onnx or .int8.onnx by default")
    parser.add_argument("--int8", action="store_true", help="weights of 8 bits: smaller, faster, not quite the same")
    options = parser.parse_args(arguments)
    return exit_status(lambda: export_onnx(options.checkpoint or newest_checkpoint(), options.output, options.int8))


if __name__ == "__main__":
    sys.exit(main())
