"""What computes a recogniser's network: torch from a checkpoint, or ONNX Runtime from an export; same logits.

Each has a `name` and `logits(batch)`. B clips, N signs.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from slr_lib.batches import Batch, padded
from slr_lib.checkpoint import KEY, Checkpoint, read_description
from slr_lib.errors import InputError
from slr_lib.model import ModelConfig

INPUTS = ("points", "mask", "frames", "times")  # of an exported network, as of model.Recognition
SOURCE = "checkpoint_sha256"  # metadata key beside checkpoint.KEY
# with ONNX Runtime 1.31 what these make of two operations takes longer than both (of the network 3 per cent)
_SLOWER = ["SkipLayerNormFusion", "QuickGeluFusion"]


class TorchEngine:
    """A checkpoint's own network, the reference of all others."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint):
        self.model = checkpoint.model()

    @torch.inference_mode()
    def logits(self, batch: Batch) -> np.ndarray:
        """Float32 [B, N]."""
        return self.model(batch.points, batch.mask, batch.frames, batch.times).numpy()


class OnnxEngine:
    """An export of `slr_lib.onnx_export`, on one thread: a clip is too little work to be shared out.

    ONNX Runtime computes what comes after the features; these are made by the compiled loop that training uses, in half
    the time of the export's own operations, which are there for whoever has the file alone.

    Attributes: checkpoint: as in the checkpoint's file, without weights; source: that file's SHA-256.

    Raises:
        InputError: the file is absent, damaged, or no export of a recogniser.
    """

    name = "onnxruntime"

    def __init__(self, path: str | os.PathLike):
        # slow to import, and not needed where torch computes
        import onnx
        import onnxruntime
        from google.protobuf.message import DecodeError
        from onnx.utils import Extractor
        from onnxruntime.capi import onnxruntime_pybind11_state as faults

        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such export; make it with `python -m slr_lib.onnx_export CHECKPOINT`.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            model = onnx.load_model(path)
            described = {entry.key: entry.value for entry in model.metadata_props}
            if KEY not in described or SOURCE not in described:
                raise InputError(f"{path}: a network without a description; only exports of this project can be used.")
            self.checkpoint, self.source = read_description(described[KEY], {}, path), described[SOURCE]
            self.seam = seam_of(self.checkpoint.config)
            behind = Extractor(model).extract_model(list(self.seam), ["logits"])
            self.session = onnxruntime.InferenceSession(
                behind.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
            )
        except (DecodeError, KeyError, ValueError, faults.Fail, faults.InvalidArgument, faults.InvalidGraph,
                faults.InvalidProtobuf, faults.NotImplemented, faults.RuntimeException) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: the export is damaged ({reason}); export the checkpoint again.") from error
        self.features = self.checkpoint.config.features()

    def logits(self, batch: Batch) -> np.ndarray:
        """Float32 [B, N]."""
        points, mask, frames, times, _ = (tensor.numpy() for tensor in padded(batch))
        rows, present = self.features.of_arrays(points, mask, times)
        # as slr_lib.model.pairs
        rows = [row.reshape(len(row), -1, 2 * row.shape[2]) for row in rows]
        given = (*rows, present[:, ::2] | present[:, 1::2], frames[:, ::2], times[:, ::2])
        return self.session.run(None, dict(zip(self.seam, given, strict=True)))[0]


def seam_of(config: ModelConfig) -> tuple[str, ...]:
    """Names of what an export's features give to the rest: what slr_lib.model.pairs does."""
    return (*(f"features_{number}" for number in range(len(config.parts))), "presence", "pair_frames", "pair_times")


def export_of(checkpoint: str | os.PathLike) -> OnnxEngine | None:
    """The engine of a checkpoint's export beside it; None where there is none, or one of other weights.

    Raises:
        InputError: the export is damaged.
    """
    path = export_path(checkpoint)
    if not path.is_file():
        return None
    engine = OnnxEngine(path)
    return engine if engine.source == sha256(checkpoint) else None


def export_path(checkpoint: str | os.PathLike, int8: bool = False) -> Path:
    """Where a checkpoint's export lies, or that with weights of 8 bits."""
    return Path(checkpoint).with_suffix(".int8.onnx" if int8 else ".onnx")


def sha256(path: str | os.PathLike) -> str:
    """Of a file's bytes, in hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
