"""A bidirectional GRU (Cho et al. 2014) of two layers over landmarks: the recurrent recogniser one would try first.

Shapes: B batch, T frames, P points, N signs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from slr_lib.geometry import differences
from slr_lib.layers import masked_max, masked_mean
from slr_lib.model import Outputs
from slr_lib.skeleton import Skeleton

WIDTH, DROP = 256, 0.3


class Gru(nn.Module):
    """Coordinates, their motion and what was seen -> a layer -> two bidirectional GRU layers -> mean and maximum.

    Args:
        skeleton: of the batches' points; signs: N.
    """

    def __init__(self, skeleton: Skeleton, signs: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(7 * len(skeleton.points), WIDTH), nn.LayerNorm(WIDTH), nn.SiLU())
        self.gru = nn.GRU(WIDTH, WIDTH, num_layers=2, batch_first=True, dropout=DROP, bidirectional=True)
        self.head_dropout = nn.Dropout(0.4)
        self.head = nn.Linear(4 * WIDTH, signs)

    def outputs(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Outputs:
        """Logits [B, N] of points [B, T, P, 3], mask [B, T, P], frames [B, T], times [B, T] in seconds."""
        seen = mask.to(points.dtype).transpose(1, 2)
        place = points.permute(0, 2, 3, 1) * seen.unsqueeze(2)  # B, P, C, T
        motion, _ = differences(place, seen, times)
        x = self.stem(torch.cat([place.flatten(1, 2), motion.flatten(1, 2), seen], 1).transpose(1, 2))
        # packed, so that neither direction sees padding
        packed = pack_padded_sequence(x, frames.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        pooled = torch.cat([masked_mean(x, frames), masked_max(x, frames)], -1)
        return Outputs(self.head(self.head_dropout(pooled)), ())

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Logits [B, N]; arguments as in `outputs`."""
        return self.outputs(points, mask, frames, times).logits
