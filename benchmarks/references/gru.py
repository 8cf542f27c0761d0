"""A bidirectional GRU (Cho et al. 2014) of two layers over landmarks: the recurrent recogniser one would try first.

Shapes: B batch, T frames, P points, N signs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slr_lib.geometry import differences
from slr_lib.layers import masked_max, masked_mean
from slr_lib.model import Outputs
from slr_lib.skeleton import Skeleton

WIDTH, DROP = 256, 0.3


class TwoWayGru(nn.Module):
    """A bidirectional layer that sees no padding. On a CPU a packed sequence would do the same in 1.6 times the time:
    each frame's gradient is laid into zeros as long as all frames.

    Args:
        width: of its input; its output is twice WIDTH.
    """

    def __init__(self, width: int):
        super().__init__()
        self.ahead, self.back = (nn.GRU(width, WIDTH, batch_first=True) for _ in range(2))

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D], frames [B, T] -> [B, T, 2 x WIDTH]."""
        place = torch.arange(x.shape[1], device=x.device)
        turned = torch.where(frames, frames.sum(1, keepdim=True) - 1 - place, place).unsqueeze(-1)  # padding stays last
        y = self.back(x.take_along_dim(turned, 1))[0].take_along_dim(turned, 1)
        return torch.cat([self.ahead(x)[0], y], -1)


class Gru(nn.Module):
    """Coordinates, their motion and what was seen -> a layer -> two bidirectional GRU layers -> mean and maximum.

    Args:
        skeleton: of the batches' points; signs: N.
    """

    def __init__(self, skeleton: Skeleton, signs: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(7 * len(skeleton.points), WIDTH), nn.LayerNorm(WIDTH), nn.SiLU())
        self.gru, self.dropout, self.second_gru = TwoWayGru(WIDTH), nn.Dropout(DROP), TwoWayGru(2 * WIDTH)
        self.head_dropout = nn.Dropout(0.4)
        self.head = nn.Linear(4 * WIDTH, signs)

    def outputs(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Outputs:
        """Logits [B, N] of points [B, T, P, 3], mask [B, T, P], frames [B, T], times [B, T] in seconds."""
        seen = mask.to(points.dtype).transpose(1, 2)
        place = points.permute(0, 2, 3, 1) * seen.unsqueeze(2)  # B, P, C, T
        motion, _ = differences(place, seen, times)
        x = self.stem(torch.cat([place.flatten(1, 2), motion.flatten(1, 2), seen], 1).transpose(1, 2))
        x = self.second_gru(self.dropout(self.gru(x, frames)), frames)
        pooled = torch.cat([masked_mean(x, frames), masked_max(x, frames)], -1)
        return Outputs(self.head(self.head_dropout(pooled)), ())

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Logits [B, N]; arguments as in `outputs`."""
        return self.outputs(points, mask, frames, times).logits
