"""The shape of Kaggle GISLR's first place (Hoyeol Sohn, 2023), after its write-up.

A stem; twice (three causal depthwise convolutions over 17 frames with channel attention, then a transformer block);
the mean over frames. x and y only, with first and second differences. Padding is left out everywhere, of batch norm
and the mean too. 1.84 M parameters with 118 points and 250 signs.

Differences from the original: coordinates are normalised as all of the project's clips are, not by the nose; its
adversarial weight perturbation is left out, and so are its masks over squares of the picture, for which the project's
augmentation has no word. Dropout before the logits is 0.4, not 0.8: with five clips a sign instead of 370 the model
forgot from the epoch on in which it began (WLASL1000, validation top-1 24 % before, 14 % twenty epochs later).

Shapes: B batch, T frames, P points, D width, N signs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from slr_lib.augment import AugmentSettings
from slr_lib.layers import ChannelAttention, DepthwiseConvolution, DropPath, masked_mean
from slr_lib.model import Outputs
from slr_lib.skeleton import Skeleton

WIDTH, KERNEL, HEADS, DROP = 192, 17, 4, 0.2
HEAD_DROPOUT = 0.4
LATE_EPOCH = 15  # from which the dropout before the logits is to act
AUGMENTATION = AugmentSettings(tempo=0.5, mirror=0.5, scale=0.2, shear=0.15, shift=0.1, rotation=30, hide_time=0.5,
                               hide_longest=0.4)


class LateDropout(nn.Dropout):
    """Dropout that does nothing in the first `start` steps of a training.

    Args:
        p: share dropped; start: optimiser steps.
    """

    def __init__(self, p: float, start: int = 0):
        super().__init__(p)
        self.start = start
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self.training:
            return x
        self.steps += 1
        return super().forward(x) if self.steps > self.start else x


class FrameNorm(nn.Module):
    """Batch norm over the frames that are no padding."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-3, momentum=0.05)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D], frames [B, T] -> [B, T, D], zero at padding."""
        y = torch.zeros_like(x)
        y[frames] = self.norm(x[frames]).to(x.dtype)
        return y


class CausalBlock(nn.Module):
    """Expand, depthwise convolution over the last KERNEL frames, norm, channel attention, contract; residual."""

    def __init__(self, width: int):
        super().__init__()
        hidden = 2 * width
        self.expand = nn.Linear(width, hidden)
        self.convolution = DepthwiseConvolution(hidden, KERNEL)  # its bias does nothing before a batch norm
        self.norm = FrameNorm(hidden)
        self.attention = ChannelAttention()
        self.contract = nn.Linear(hidden, width)
        self.drop_path = DropPath(DROP)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D], frames [B, T] -> [B, T, D]."""
        y = functional.silu(self.expand(x))
        # half a kernel later, so that it looks back alone; a clip's frames come first: none of them sees padding
        y = self.convolution(functional.pad(y, (0, 0, KERNEL // 2, 0)))[:, : -(KERNEL // 2)]
        y = self.attention(self.norm(y, frames), frames)
        return x + self.drop_path(self.contract(y))


class TransformerBlock(nn.Module):
    """Attention over all frames, then a feed-forward layer; batch norm before each, no biases, no positions."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.feed_norm = FrameNorm(width), FrameNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width, bias=False), nn.SiLU(), nn.Linear(2 * width, width, bias=False)
        )
        self.drop_path = DropPath(DROP)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D], frames [B, T] -> [B, T, D]."""
        b, t, d = x.shape
        q, key, value = self.qkv(self.norm(x, frames)).view(b, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(
            q, key, value, attn_mask=frames[:, None, None], dropout_p=DROP if self.training else 0.0
        )
        x = x + self.drop_path(self.out(y.transpose(1, 2).reshape(b, t, d)))
        return x + self.drop_path(self.feed(self.feed_norm(x, frames)))


class FirstPlace(nn.Module):
    """The network.

    Args:
        skeleton: of the batches' points; signs: N.
    """

    def __init__(self, skeleton: Skeleton, signs: int):
        super().__init__()
        self.stem = nn.Linear(6 * len(skeleton.points), WIDTH, bias=False)
        self.stem_norm = FrameNorm(WIDTH)
        self.blocks = nn.ModuleList(
            block for _ in range(2) for block in (*(CausalBlock(WIDTH) for _ in range(3)), TransformerBlock(WIDTH))
        )
        self.top = nn.Linear(WIDTH, 2 * WIDTH)
        self.head_dropout = LateDropout(HEAD_DROPOUT)
        self.head = nn.Linear(2 * WIDTH, signs)

    def outputs(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Outputs:
        """Logits [B, N] of points [B, T, P, 3], mask [B, T, P], frames [B, T]; times [B, T] are not used."""
        place = points[..., :2] * mask[..., None]
        speed, moving = change(place, mask)
        x = torch.cat([place, speed, change(speed, moving)[0]], -1).flatten(2)
        x = self.stem_norm(self.stem(x), frames)
        for block in self.blocks:
            x = block(x, frames)
        return Outputs(self.head(self.head_dropout(masked_mean(self.top(x), frames))), ())

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Logits [B, N]; arguments as in `outputs`."""
        return self.outputs(points, mask, frames, times).logits


def change(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Difference to the frame before where both are seen, else 0: [B, T, P, C], seen [B, T, P] -> the same two."""
    both = seen[:, 1:] & seen[:, :-1]
    difference = (x[:, 1:] - x[:, :-1]) * both[..., None]
    return functional.pad(difference, (0, 0, 0, 0, 1, 0)), functional.pad(both, (0, 0, 1, 0))
