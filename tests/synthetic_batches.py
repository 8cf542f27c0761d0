"""Made-up batches in the shape that slr_lib.batches makes, for the tests of the recogniser."""

from __future__ import annotations

import torch

from slr_lib.model import ModelConfig, PartShape

HAND = tuple((i, i + 1) for i in range(4))
PARTS = (
    PartShape("left_hand", "hand", (0, 1, 2, 3, 4), HAND),
    PartShape("right_hand", "hand", (5, 6, 7, 8, 9), tuple((a + 5, b + 5) for a, b in HAND)),
    PartShape("body", "body", (10, 11, 12)),
)


def tiny(signs: int = 7, **values) -> ModelConfig:
    """A model of three parts that trains in seconds."""
    sizes = {"width": 32, "part_width": 16, "head_width": 32, "late_blocks": 1, "global_blocks": 1, "kernel": 5}
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
