"""The predecessor's architecture (GitHub maksimlitvinov39kg/SLR_SLOVO), written anew with its faults repaired.

Patches of four points are embedded part by part; the hands look at each other, and so do lips and pose; eight
transformer blocks follow with convolutions in their middle, seven poolings and a narrowing head with auxiliary heads.

Repaired: masks hold everywhere (padding reached cross-attention and convolutions); a missing part is told by the mask,
not by a sum of zero; the four local blocks look at LOCAL frames to each side (they looked at all); the pooling query
is learned (it was drawn anew in every pass); the poolings at 1, 2, 4 and 8 segments of the clip's true length differ
(they were four equal means): each takes the maximum of its segments' means; a hand's patches are its wrist and its
fingers (fours of consecutive points straddled them); the pose is symmetric (it was the left half); `train()` and
`eval()` decide about training behaviour. Left out: the confidence head, which has no part in the logits. As it was:
sizes, x and y only, weights' spread. Learning rates go by the project's schedule.

Shapes: B batch, T frames, P points, Q patches, D width, N signs.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from slr_lib.layers import masked_max, masked_mean, rotary_tables, rotate
from slr_lib.model import Outputs
from slr_lib.skeleton import Part, Skeleton

WIDTH, HEADS, PATCH_HEADS, BLOCKS, PATCH, DROP = 512, 8, 4, 8, 4, 0.1
LOCAL = 8
LONGEST = 1000  # frames of the time embedding
SCALES = (1, 2, 4, 8)
POSE = ("pose_nose", "pose_left_elbow", "pose_right_elbow", "pose_left_wrist", "pose_right_wrist")


def chosen_parts(skeleton: Skeleton) -> list[Part]:
    """The parts that the model looks at, hands first: of Holistic lips, hands and five points of the pose (87 points);
    of any other skeleton all of them."""
    names = {part.name for part in skeleton.parts}
    parts = list(skeleton.parts)
    if {"lips", "pose"} <= names and set(POSE) <= set(skeleton.points):
        pose = tuple(skeleton.index(name) for name in POSE)
        parts = [Part("pose", pose, None, "body") if part.name == "pose" else part
                 for part in parts if part.name != "face"]
    return sorted(parts, key=lambda part: part.kind != "hand")


def patches(part: Part) -> list[list[int]]:
    """A part's points by fours, a hand's wrist apart, each patch filled with -1."""
    points = list(part.points)
    rows = [points[:1]] if part.kind == "hand" else []
    rest = points[len(rows):]
    rows += [rest[i : i + PATCH] for i in range(0, len(rest), PATCH)]
    return [row + [-1] * (PATCH - len(row)) for row in rows]


class RootNorm(nn.Module):
    """RMS norm. Written out: on CPU twice as fast as torch's, forward and backward."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight.to(x.dtype)


class Attention(nn.Module):
    """Attention of queries to keys and values, no biases; `tables` of rotary positions for both, or None."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Tensor, to: Tensor, mask: Tensor | None = None, tables: tuple | None = None) -> Tensor:
        """x [B, T, D], to [B, T', D], mask bool broadcast to [B, H, T, T'] or None -> [B, T, D]."""
        q, key, value = (layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                         for layer, source in ((self.query, x), (self.key, to), (self.value, to)))
        if tables is not None:
            q, key = rotate(q, *tables), rotate(key, *tables)
        if mask is None:  # a part's few patches: two small products are faster than the fused kernel
            y = (q @ key.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).to(value.dtype) @ value
        else:
            y = functional.scaled_dot_product_attention(q, key, value, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))


class PartEmbedding(nn.Module):
    """One part of every frame: patches, attention over them, their mean; a learned vector where the part is missing."""

    def __init__(self, part: Part):
        super().__init__()
        table = torch.tensor(patches(part))
        self.register_buffer("points", table.clamp_min(0), persistent=False)
        self.register_buffer("filled", table >= 0, persistent=False)
        self.linear = nn.Linear(2 * PATCH, WIDTH)
        self.places = nn.Parameter(torch.randn(len(table), WIDTH) * 0.02)
        self.norm = RootNorm(WIDTH)
        self.attention = Attention(PATCH_HEADS)
        self.dropout = nn.Dropout(DROP)
        self.missing = nn.Parameter(torch.randn(WIDTH) * 0.02)

    def forward(self, points: Tensor, mask: Tensor) -> Tensor:
        """points [B, T, P, 2], mask [B, T, P] -> [B, T, D]."""
        seen = mask[:, :, self.points] & self.filled  # B, T, Q, 4
        x = points[:, :, self.points] * seen[..., None]
        x = self.norm(self.linear(x.flatten(3)) + self.places)
        flat = x.flatten(0, 1)
        y = self.dropout(self.attention(flat, flat)).mean(1).view(*x.shape[:2], WIDTH)
        return torch.where(seen.any(-1).any(-1, keepdim=True), y, self.missing.to(y.dtype))


class CrossAttention(nn.Module):
    """Two parts look at each other over all frames, by the same weights."""

    def __init__(self):
        super().__init__()
        self.attention = Attention(HEADS)
        self.norm = RootNorm(WIDTH)
        self.dropout = nn.Dropout(DROP)

    def forward(self, a: Tensor, b: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """a, b [B, T, D], frames [B, T] -> both anew."""
        mask = frames[:, None, None]
        return tuple(self.norm(x + self.dropout(self.attention(x, y, mask))) for x, y in ((a, b), (b, a)))


class Block(nn.Module):
    """RMS norm, rotary attention, gated feed-forward layer; learned scales of both residual branches."""

    def __init__(self):
        super().__init__()
        self.norm, self.feed_norm = RootNorm(WIDTH), RootNorm(WIDTH)
        self.attention = Attention(HEADS)
        self.expand = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.contract = nn.Linear(WIDTH, WIDTH, bias=False)
        self.scales = nn.Parameter(torch.ones(2))
        self.dropout = nn.Dropout(DROP)

    def forward(self, x: Tensor, mask: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        """x [B, T, D], mask of its attention -> [B, T, D]."""
        y = self.norm(x)
        x = x + self.scales[0] * self.dropout(self.attention(y, y, mask, tables))
        gate, value = self.expand(self.feed_norm(x)).chunk(2, -1)
        return x + self.scales[1] * self.dropout(self.contract(functional.silu(gate) * value))


class Convolutions(nn.Module):
    """Over 3, 5 and 7 frames side by side, residual, RMS norm."""

    def __init__(self):
        super().__init__()
        widths = (WIDTH // 3, (WIDTH + 1) // 3, (WIDTH + 2) // 3)
        self.layers = nn.ModuleList(
            nn.Conv1d(WIDTH, width, kernel, padding=kernel // 2) for width, kernel in zip(widths, (3, 5, 7))
        )
        self.norm = RootNorm(WIDTH)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """x [B, T, D], frames [B, T] -> [B, T, D]."""
        y = (x * frames[..., None]).transpose(1, 2)
        return self.norm(x + torch.cat([layer(y) for layer in self.layers], 1).transpose(1, 2))


class Pooling(nn.Module):
    """Mean, maximum, one learned query's attention, and the clip in 1, 2, 4 and 8 segments: [B, T, D] -> [B, D]."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.02)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, dropout=DROP, batch_first=True)
        self.combine = nn.Sequential(nn.Linear((3 + len(SCALES)) * WIDTH, 2 * WIDTH), RootNorm(2 * WIDTH), nn.GELU(),
                                     nn.Dropout(DROP), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """x [B, T, D], frames [B, T] -> [B, D]."""
        attended, _ = self.attention(self.query.expand(len(x), 1, -1), x, x, key_padding_mask=~frames,
                                     need_weights=False)
        pooled = [masked_mean(x, frames), masked_max(x, frames), attended.squeeze(1),
                  *(segments(x, frames, scale) for scale in SCALES)]
        return self.combine(torch.cat(pooled, -1))


def segments(x: Tensor, frames: Tensor, count: int) -> Tensor:
    """Maximum over the means of a clip's `count` equal segments: x [B, T, D], frames [B, T] -> [B, D]."""
    place = torch.arange(x.shape[1], device=x.device) * count // frames.sum(1, keepdim=True)  # B, T
    inside = (place[:, None] == torch.arange(count, device=x.device)[:, None]) & frames[:, None]  # B, count, T
    size = inside.sum(-1, keepdim=True)
    means = inside.to(x.dtype) @ x / size.clamp_min(1)
    return means.masked_fill(size == 0, torch.finfo(means.dtype).min).amax(1)  # a clip may be shorter than `count`


class Predecessor(nn.Module):
    """The network. 30.3 M parameters with Holistic's 87 points and 1000 signs.

    Args:
        skeleton: of the batches' points; signs: N.
    """

    def __init__(self, skeleton: Skeleton, signs: int):
        super().__init__()
        parts = chosen_parts(skeleton)
        self.parts = nn.ModuleList(PartEmbedding(part) for part in parts)
        # two by two, the hands first: left and right hand, lips and pose
        self.crosses = nn.ModuleList(CrossAttention() for _ in range(len(parts) // 2))
        self.shares = nn.Parameter(torch.zeros(len(parts)))
        self.join = nn.Linear(len(parts) * WIDTH, WIDTH)
        self.times = nn.Embedding(LONGEST, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.convolutions = Convolutions()
        self.norm = RootNorm(WIDTH)
        self.pooling = Pooling()
        widths = (WIDTH, WIDTH // 2, WIDTH // 4)
        self.narrowing = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), RootNorm(b), nn.GELU()) for a, b in pairwise(widths)
        )
        self.dropout, self.head_dropout = nn.Dropout(DROP), nn.Dropout(DROP)
        self.head = nn.Linear(widths[-1], signs)
        self.auxiliary_heads = nn.ModuleList(nn.Linear(width, signs) for width in widths)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def embed(self, points: Tensor, mask: Tensor, frames: Tensor) -> Tensor:
        """points [B, T, P, 3], mask [B, T, P], frames [B, T] -> [B, T, D]."""
        found = [part(points[..., :2], mask) for part in self.parts]
        for number, cross in enumerate(self.crosses):
            found[2 * number : 2 * number + 2] = cross(*found[2 * number : 2 * number + 2], frames)
        fused = (torch.stack(found, -1) * self.shares.softmax(0)).sum(-1)
        return fused + self.join(torch.cat(found, -1)) + self.times.weight[: points.shape[1]]

    def outputs(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Outputs:
        """Logits [B, N] of points [B, T, P, 3], mask [B, T, P], frames [B, T]; times [B, T] are not used."""
        x = self.embed(points, mask, frames)
        place = torch.arange(x.shape[1], device=x.device)
        near = (place[:, None] - place).abs() <= LOCAL
        everywhere = frames[:, None, None]
        # at padding, where nothing is near that is no padding, the frame itself: a softmax over nothing is no number
        nearby = everywhere & near | torch.eye(len(place), dtype=torch.bool, device=x.device)
        tables = rotary_tables(place[None], WIDTH // HEADS, longest=10000)
        for number, block in enumerate(self.blocks):
            if number == BLOCKS // 2:
                x = self.convolutions(x, frames)
            x = block(x, nearby if number < BLOCKS // 2 else everywhere, tables)
        levels = [self.pooling(self.norm(x), frames)]
        for layer, dropout in zip(self.narrowing, (self.dropout, self.head_dropout)):
            levels.append(dropout(layer(levels[-1])))
        auxiliaries = ()
        if self.training:
            auxiliaries = tuple(head(level) for head, level in zip(self.auxiliary_heads, levels))
        return Outputs(self.head(levels[-1]), auxiliaries)

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Logits [B, N]; arguments as in `outputs`."""
        return self.outputs(points, mask, frames, times).logits
