"""Masked modelling of landmarks: hide some from the model and let it predict where they were; no label is needed.

As masked autoencoders (He et al. 2022) and BERT do it, on the recogniser's own body: stretches of time and whole parts
are hidden, and only points that were seen and then hidden count. B batch, T frames, P points, C coordinates, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from slr_lib.fitting import Fitting
from slr_lib.model import FRAMES_OF_A_VECTOR, ModelConfig, build

STRETCH = 10  # frames that are hidden or shown together, a third of a second
HIDE_ALL, HIDE_PART = 0.3, 0.3  # chance of a stretch to be hidden as a whole; of each part in it


class MaskedModel(nn.Module):
    """The recogniser's body, and a decoder of two layers from its every frame to the points' coordinates.

    Args:
        config: of the recogniser; its heads stay as they are. seed: of all weights.
    """

    def __init__(self, config: ModelConfig, seed: int = 0):
        super().__init__()
        self.body = build(config, seed)
        self.shape = (config.points, config.coordinates)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = nn.Sequential(nn.Linear(config.width, 2 * config.width), nn.SiLU(),
                                         nn.Linear(2 * config.width, FRAMES_OF_A_VECTOR * math.prod(self.shape)))

    @property
    def head_dropout(self) -> nn.Dropout:
        """The recogniser's, as slr_lib.fitting asks for it; nothing here depends on it."""
        return self.body.head_dropout

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Coordinates of all points in all frames [B, T, P, C]; T must be a multiple of FRAMES_OF_A_VECTOR."""
        vectors, _, _ = self.body.body(points, mask, frames, times)
        return self.decoder(vectors).reshape(*points.shape[:2], *self.shape)


class MaskedFitting(Fitting):
    """Trains a MaskedModel; the batches' labels are not looked at."""

    def loss(self, batch) -> Tensor:
        """Of the points that were seen and are hidden now."""
        members = part_members(self.model.body.config).to(batch.mask.device)
        hidden = draw_hidden(batch.frames, members)
        shown = batch.mask & ~hidden
        predicted = self.model(batch.points * shown[..., None], shown, batch.frames, batch.times)
        return coordinate_loss(predicted, batch.points, batch.mask & hidden)


def part_members(config: ModelConfig) -> Tensor:
    """Bool [K, P]: which points are a part's."""
    members = torch.zeros(len(config.parts), config.points, dtype=torch.bool)
    for number, part in enumerate(config.parts):
        members[number, list(part.points)] = True
    return members


def draw_hidden(frames: Tensor, members: Tensor) -> Tensor:
    """Which points to hide, bool [B, T, P]: in stretches of STRETCH frames, of which a clip's first is cut anywhere,
    everything with the chance HIDE_ALL, and every part with the chance HIDE_PART. A lone part is not drawn twice.

    Args:
        frames: bool [B, T]; members: of `part_members`. Draws from torch's own random state.
    """
    count, longest = frames.shape
    device = frames.device
    parts = len(members) if len(members) > 1 else 0
    draws = torch.rand(count, longest // STRETCH + 2, 1 + parts, device=device)
    begins = torch.randint(STRETCH, (count, 1), device=device)
    stretch = (torch.arange(longest, device=device) + begins) // STRETCH  # B, T
    drawn = draws.gather(1, stretch[..., None].expand(-1, -1, 1 + parts))
    hidden = (drawn[..., :1] < HIDE_ALL).expand(-1, -1, members.shape[1])
    if parts:
        hidden = hidden | ((drawn[..., 1:] < HIDE_PART).float() @ members.float() > 0)
    return hidden & frames[..., None]


def coordinate_loss(predicted: Tensor, points: Tensor, counted: Tensor) -> Tensor:
    """Smooth L1 (Huber's, bend at 1) of the counted points' coordinates, their mean; 0 where none counts.

    predicted [B, T, P, C]; points [B, T, P, 3]; counted bool [B, T, P].
    """
    error = functional.smooth_l1_loss(predicted.float(), points[..., : predicted.shape[-1]], reduction="none").mean(-1)
    return (error * counted).sum() / counted.sum().clamp_min(1)
