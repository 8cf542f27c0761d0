"""Made-up batches in the shape that slr_lib.batches makes, for the tests of the recogniser."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from slr_lib.model import ModelConfig, PartShape
from slr_lib.skeleton import Part, Skeleton

HAND = tuple((i, i + 1) for i in range(4))
PARTS = (
    PartShape("left_hand", "hand", (0, 1, 2, 3, 4), HAND),
    PartShape("right_hand", "hand", (5, 6, 7, 8, 9), tuple((a + 5, b + 5) for a, b in HAND)),
    PartShape("body", "body", (10, 11, 12)),
)


def tiny(signs: int = 7, **values) -> ModelConfig:
    """A model of three parts that trains in seconds."""
    sizes = {"width": 32, "part_width": 16, "head_width": 32, "local_blocks": 2, "global_blocks": 1, "kernel": 5}
    return ModelConfig(signs=signs, points=13, parts=PARTS, **{**sizes, **values})


def batch(lengths: list[int], points: int = 13, seed: int = 0, padding: int = 0) -> dict[str, torch.Tensor]:
    """Random clips of the lengths given, hands missing here and there, padded to the longest and `padding` more."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    x = torch.randn(len(lengths), longest, points, 3, generator=generator)
    mask = torch.rand(len(lengths), longest, points, generator=generator) > 0.2
    mask[:, 1, :5] = False  # a frame without its first part
    gaps = 0.02 + 0.03 * torch.rand(len(lengths), longest, generator=generator)
    frames = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    mask &= frames[..., None]
    made = {"points": x * mask[..., None], "mask": mask, "frames": frames, "times": gaps.cumsum(1) * frames}
    return {key: torch.nn.functional.pad(value, (*[0, 0] * (value.dim() - 2), 0, padding))
            for key, value in made.items()}


class Batch(NamedTuple):
    """As slr_lib.batches makes it."""

    points: torch.Tensor
    mask: torch.Tensor
    frames: torch.Tensor
    times: torch.Tensor
    labels: torch.Tensor


class MadeUpClips:
    """Clips whose sign is where their points are; `train` takes them in place of slr_lib.batches.ClipBatches."""

    data_set, statistics, settings = "made_up", {"std": 1.0}, {"longest": 64}
    skeleton = Skeleton("thirteen", tuple(f"p{i}" for i in range(13)),
                        tuple(Part(p.name, p.points, None, p.kind) for p in PARTS), tuple(range(13)))
    source_skeleton = skeleton

    def __init__(self, signs: int = 4, steps: int = 5, validation: bool = True, seed: int = 0):
        self.glosses = tuple(f"жест {i}" for i in range(signs))
        self.steps, self.validation, self.seed = steps, validation, seed
        self.fingerprint = f"{signs} {steps} {validation} {seed}"

    def train_batches(self, epoch: int) -> list[Batch]:
        """`steps` batches that depend on the seed and the epoch alone."""
        return [self._batch(1000 * self.seed + 10 * epoch + step) for step in range(self.steps)]

    def val_batches(self) -> list[Batch] | None:
        """Two batches, always the same."""
        return [self._batch(-1), self._batch(-2)] if self.validation else None

    def _batch(self, seed: int) -> Batch:
        labels = torch.randint(0, len(self.glosses), (8,), generator=torch.Generator().manual_seed(seed))
        made = batch([12, 9, 7, 12, 8, 10, 5, 11], seed=seed)
        signal = torch.eye(13)[labels % 13][:, None, :, None] * 3  # B, 1, P, 1
        made["points"] = (made["points"] + signal) * made["mask"][..., None]
        return Batch(labels=labels, **made)


def files_of(folder: Path) -> dict[str, bytes]:
    """All files under a folder: relative path -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
