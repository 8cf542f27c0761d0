"""MixUp (Zhang et al. 2018) for clips of different lengths with missing points: two clips give one between them.

The clip with the larger share lends length, times and mask; the other is resampled to its length. A point is mixed
where both clips see it; where the first alone does, it stays where the first has it; where the first does not, it is
missing, whatever the other sees. (The rule of augment.resample. A point seen only where both see it would hide hands
half of the time, which no clip does; one taken from whichever sees it would jump between two people.)

B clips, T frames, P points.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from slr_lib.augment import Batch, resample


def draw_pairs(count: int, strength: float, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """For each of `count` clips another (now and then itself), int64 [B], and its own share, float32 [B], by the
    distribution Beta(strength, strength)."""
    partners = torch.from_numpy(random.permutation(count))
    return partners, torch.from_numpy(random.beta(strength, strength, count).astype(np.float32))


def mix(batch: Batch, partners: Tensor, share: Tensor) -> tuple[Batch, Tensor, Tensor]:
    """Mix every clip with another of the batch, linearly.

    Args:
        batch: normalised or not. partners: int64 [B], places in the batch. share: [B] of the clip itself, 0 to 1; by 1
        it stays what it is, by 0 it becomes its partner.

    Returns:
        The batch, as long, with the label of the clip that has the larger share; the labels of the others, int64 [B];
        that larger share, [B]. Loss: share x loss of the first label + (1 - share) x loss of the second.
    """
    share, partners = share.to(batch.points.device), partners.to(batch.points.device)
    itself = torch.arange(len(partners), device=partners.device)
    own = share >= 0.5
    first = _chosen(batch, torch.where(own, itself, partners))
    second = _chosen(batch, torch.where(own, partners, itself))
    share = torch.where(own, share, 1 - share)
    frames, old = first.frames.sum(1), second.frames.sum(1)
    other = resample(second, torch.zeros_like(share), (old - 1).float(), frames, torch.ones_like(share))
    more = batch.frames.shape[1] - other.frames.shape[1]
    points = functional.pad(other.points, (0, 0, 0, 0, 0, more))
    both = first.mask & functional.pad(other.mask, (0, 0, 0, more))
    mixed = torch.lerp(points, first.points, share[:, None, None, None])
    return first._replace(points=torch.where(both[..., None], mixed, first.points)), second.labels, share


def _chosen(batch: Batch, places: Tensor) -> Batch:
    return batch._replace(**{name: getattr(batch, name)[places] for name in batch._fields})
