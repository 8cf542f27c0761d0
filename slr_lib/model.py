"""The recogniser: landmarks of a clip -> logits of N signs. One code for every skeleton, by configuration.

Each part (hand, lips, body) of two neighbouring frames is embedded from what `geometry` says of it; parts look at each
other; frames are convolved locally at half rate, merged in pairs again and joined by global attention at a quarter; a
learned query, the mean and the maximum of both rates are pooled into the head.

Shapes: B batch, T frames, P points, K parts, D model width, N signs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from slr_lib.geometry import PartFeatures
from slr_lib.layers import (
    GlobalBlock,
    Head,
    LocalBlock,
    PairMerging,
    PartEmbedding,
    PartMixer,
    QueryPooling,
    masked_max,
    masked_mean,
    rotary_tables,
)

FRAMES_OF_A_VECTOR = 4  # at the body's end: two mergings of pairs
FRAME_RATE = 30.0  # positions of the rotary embedding are counted in frames of this rate


@dataclass(frozen=True)
class PartShape:
    """A part as the model needs it.

    name: for messages; kind: `hand` (its first point is the wrist), `face` or `body`; points: indices into the batch's
    points; edges: bones, pairs of indices into the batch's points.
    """

    name: str
    kind: str
    points: tuple[int, ...]
    edges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class ModelConfig:
    """All that shapes a model. Plain values only: it is written into the checkpoint as JSON.

    signs: N; points: P of a batch; parts: at least one; twins: places in `parts` of a left and a right hand that are
    each other's mirror image point for point, so that one table of weights reads both, or None; coordinates: 2 for x
    and y, 3 for z too; width, part_width: of a frame's and a part's vector; heads, part_heads: of attention; kernel:
    frames (odd, at half rate) that a local block sees; expansion: hidden width / width; local_blocks at half rate,
    global_blocks at a quarter; head_width: of the layer before the logits; dropout, drop_path (the last block's, rising
    from 0), head_dropout: training's shares.
    """

    signs: int
    points: int
    parts: tuple[PartShape, ...]
    twins: tuple[int, int] | None = None
    coordinates: int = 3
    width: int = 192
    part_width: int = 96
    heads: int = 4
    part_heads: int = 1
    kernel: int = 17
    expansion: int = 2
    local_blocks: int = 3
    global_blocks: int = 2
    head_width: int = 384
    dropout: float = 0.1
    drop_path: float = 0.2
    head_dropout: float = 0.4

    @classmethod
    def for_skeleton(cls, skeleton, signs: int, **values) -> ModelConfig:
        """A model for the clips of a `slr_lib.skeleton.Skeleton`; `values` override the defaults above."""
        parts = tuple(
            PartShape(part.name, part.kind, tuple(part.points),
                      tuple((a, b) for a, b in skeleton.edges if a in part.points and b in part.points))
            for part in skeleton.parts
        )
        values = {"twins": _twins(skeleton, parts), **values}
        return cls(signs=signs, points=len(skeleton.points), parts=parts, **values)

    def as_plain(self) -> dict:
        """Dictionaries, lists, strings and numbers only; `from_plain` reads it."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict) -> ModelConfig:
        """The inverse of `as_plain`, also after a way through JSON.

        Raises:
            KeyError, TypeError: a key is unknown or missing.
        """
        parts = tuple(
            PartShape(p["name"], p["kind"], tuple(p["points"]), tuple((int(a), int(b)) for a, b in p["edges"]))
            for p in plain["parts"]
        )
        twins = plain["twins"] and tuple(plain["twins"])
        return cls(**{**plain, "parts": parts, "twins": twins})

    def features(self) -> PartFeatures:
        """What makes features of the parts' points."""
        edges = [edge for part in self.parts for edge in part.edges]
        return PartFeatures([part.points for part in self.parts], [part.kind == "hand" for part in self.parts], edges,
                            self.coordinates)

    def same_body(self, other: ModelConfig) -> bool:
        """Whether the two differ in nothing but the number of signs and the shares of dropout."""
        free = ("signs", "dropout", "drop_path", "head_dropout")
        return all(getattr(self, f.name) == getattr(other, f.name) for f in fields(self) if f.name not in free)


def _twins(skeleton, parts: tuple[PartShape, ...]) -> tuple[int, int] | None:
    """Where the left and the right hand are among the parts, if their points and bones mirror one another in order."""
    hands = {part.side: number for number, part in enumerate(skeleton.parts) if part.kind == "hand"}
    if not {"left", "right"} <= set(hands):
        return None
    left, right = parts[hands["left"]], parts[hands["right"]]
    mirror = skeleton.mirror
    alike = (right.points == tuple(mirror[point] for point in left.points)
             and right.edges == tuple((mirror[a], mirror[b]) for a, b in left.edges))
    return (hands["left"], hands["right"]) if alike else None


class Outputs(NamedTuple):
    """logits [B, N]; auxiliaries: further logits [B, N] of the auxiliary heads, empty at evaluation."""

    logits: Tensor
    auxiliaries: tuple[Tensor, ...]


class Recognition(nn.Module):
    """The network. `train()` and `eval()` alone decide about dropout, drop-path and auxiliary heads."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = c = config
        k = len(c.parts)
        self.features = c.features()
        self.embedding = PartEmbedding(self.features.rows, c.coordinates, c.part_width, c.twins)
        self.part_norm = nn.LayerNorm(c.part_width)
        self.part_places = nn.Parameter(torch.randn(k, c.part_width) * 0.02)
        self.missing = nn.Parameter(torch.randn(k, c.part_width) * 0.02)
        self.mixer = PartMixer(c.part_width, c.part_heads)
        self.join = nn.Linear(k * c.part_width, c.width)
        # stochastic depth grows linearly with depth, as in its paper
        depth = c.local_blocks + c.global_blocks
        drops = [c.drop_path * (i + 1) / depth for i in range(depth)]
        self.locals = nn.ModuleList(LocalBlock(c.width, c.kernel, c.expansion, c.dropout, drop)
                                    for drop in drops[: c.local_blocks])
        self.merging = PairMerging(c.width, c.width)
        self.globals = nn.ModuleList(GlobalBlock(c.width, c.heads, c.expansion, c.dropout, drop)
                                     for drop in drops[c.local_blocks :])
        self.last_norm = nn.LayerNorm(c.width)
        self.query = QueryPooling(c.width, c.heads)
        self.pooled = nn.Sequential(nn.Linear(5 * c.width, c.head_width), nn.LayerNorm(c.head_width), nn.SiLU())
        self.head_dropout = nn.Dropout(c.head_dropout)
        self.head = Head(c.head_width, c.signs)
        self.auxiliary_heads = nn.ModuleList(Head(2 * c.width, c.signs) for _ in range(2))

    def embed(self, rows: list[Tensor], present: Tensor) -> Tensor:
        """Features of each part [B, T / 2, 2 x rows x C] and present [B, T / 2, K], of `pairs` -> the parts joined:
        [B, T / 2, D]."""
        tokens = self.part_norm(self.embedding(rows))  # B, T / 2, K, D'
        tokens = torch.where(present.unsqueeze(-1), tokens, self.missing.to(tokens.dtype))
        tokens = tokens + self.part_places.to(tokens.dtype)
        return self.join(self.mixer(tokens).flatten(2))

    def body(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What is pooled; arguments as of `outputs`, result as of `encode`."""
        if points.shape[1] % 2:
            points, mask, frames, times = _one_more(points, mask, frames, times)
        device = points.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else points.dtype
        with torch.autocast(device, enabled=False):  # differences of near numbers
            rows, present = self.features(points, mask, times, dtype)
        return self.encode(*pairs(rows, present, frames, times))

    def encode(self, rows: list[Tensor], present: Tensor, frames: Tensor,
               times: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """What is pooled, of `pairs` of frames.

        Returns:
            Vectors of four frames each [B, T / 4, D], T / 4 rounded up; which are no padding, bool [B, T / 4]; mean and
            maximum of the local blocks' vectors, [B, D] each.
        """
        x = self.embed(rows, present)
        for block in self.locals:
            x = block(x, frames)
        local = [masked_mean(x, frames), masked_max(x, frames)]
        x, frames, positions = self.merging(x, frames, times * FRAME_RATE)
        cos, sin = rotary_tables(positions, self.config.width // self.config.heads)
        for block in self.globals:
            x = block(x, frames, cos, sin)
        return self.last_norm(x), frames, local

    def outputs(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Outputs:
        """Logits, and in training those of the auxiliary heads.

        Args:
            points: [B, T, P, 3], zero where missing; mask: bool [B, T, P], point seen (False at padding);
            frames: bool [B, T], no padding, a clip's frames first; times: [B, T] seconds.
        """
        return self.classify(*self.body(points, mask, frames, times))

    def classify(self, x: Tensor, frames: Tensor, local: list[Tensor]) -> Outputs:
        """Logits of what `encode` gives."""
        whole = [masked_mean(x, frames), masked_max(x, frames)]
        pooled = self.pooled(torch.cat([*local, *whole, self.query(x, frames)], -1))
        auxiliaries = ()
        if self.training:
            pairs = zip(self.auxiliary_heads, (local, whole), strict=True)
            auxiliaries = tuple(head(torch.cat(pool, -1)) for head, pool in pairs)
        return Outputs(self.head(self.head_dropout(pooled)), auxiliaries)

    def forward(self, points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> Tensor:
        """Logits [B, N]; arguments as in `outputs`."""
        return self.outputs(points, mask, frames, times).logits


def pairs(rows: list[Tensor], present: Tensor, frames: Tensor,
          times: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """Neighbouring frames in pairs, as the model reads them.

    Args:
        rows: of each part its features [B, T, rows x C]; present: bool [B, T, K]; frames: bool [B, T]; times: [B, T];
        T even.

    Returns:
        Features of both frames [B, T / 2, 2 x rows x C], whether either shows the part [B, T / 2, K], and frames and
        times of the first [B, T / 2].
    """
    rows = [row.unflatten(1, (-1, 2)).flatten(2) for row in rows]
    return rows, present.unflatten(1, (-1, 2)).any(2), frames[:, ::2], times[:, ::2]


def _one_more(points: Tensor, mask: Tensor, frames: Tensor, times: Tensor) -> tuple[Tensor, ...]:
    """A frame of padding at the end."""
    pad = functional.pad
    return pad(points, (0, 0, 0, 0, 0, 1)), pad(mask, (0, 0, 0, 1)), pad(frames, (0, 1)), pad(times, (0, 1))


def build(config: ModelConfig, seed: int = 0) -> Recognition:
    """A model with fresh weights that depend on the seed alone; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Recognition(config)


def count_parameters(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in model.parameters())
