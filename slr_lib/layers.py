"""The recogniser's layers. Each takes plain arguments and respects `frames`, the mask of frames that are no padding.

Shapes: B batch, T frames, K parts, D model width, H heads. `frames` is bool [B, T]. A layer's output at padding may be
anything; whatever mixes frames (convolution, attention, pooling, merging) sees zeros or nothing there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def masked_mean(x: Tensor, frames: Tensor) -> Tensor:
    """Mean over the frames that are no padding: [B, T, D] -> [B, D]."""
    weight = frames.to(x.dtype)
    return torch.bmm(weight.unsqueeze(1), x).squeeze(1) / weight.sum(1, keepdim=True).clamp_min(1)


def masked_max(x: Tensor, frames: Tensor) -> Tensor:
    """Maximum over the frames that are no padding: [B, T, D] -> [B, D]."""
    return x.masked_fill(~frames.unsqueeze(-1), torch.finfo(x.dtype).min).amax(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021): x [..., B, H, T, C], cos and sin [B, 1, T, C / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def rotary_tables(positions: Tensor, width: int, longest: float = 1000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of `rotate` for real positions [B, T] (in frames of 1/30 s): two of [B, 1, T, width / 2]."""
    rate = longest ** (-torch.arange(width // 2, device=positions.device, dtype=torch.float32) / (width // 2))
    angle = positions.float()[:, None, :, None] * rate
    return angle.cos(), angle.sin()


def attend(q: Tensor, key: Tensor, value: Tensor, seen: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention, [..., T, C] each; seen: bool, [..., 1, T], what may be looked at.

    The fused kernel where there is a GPU. On the CPU its backward pass costs five times as much as the plain products'
    at the few frames and parts of a clip (32 frames, 4 heads, batch 32, bf16: 10.6 ms against 2.2).
    """
    if q.is_cuda:
        return functional.scaled_dot_product_attention(q, key, value, attn_mask=seen)
    score = (q * q.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if seen is not None:
        score = score.masked_fill(~seen, torch.finfo(score.dtype).min)
    return score.softmax(-1).to(value.dtype) @ value


class Head(nn.Linear):
    """The layer that gives logits; zero at first, so that the first loss is ln N."""

    def reset_parameters(self) -> None:
        """Zeros."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016): in training drops a clip's whole residual branch, scales the rest."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> the same shape."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.rate
        return x * (keep.to(x.dtype) / (1 - self.rate))


class PartEmbedding(nn.Module):
    """The features of each part in two neighbouring frames -> one vector a part.

    Each part has a table of weights of its own; but the two hands share one, which reads the left hand mirrored (x
    negated), so that what is learnt of a shape on one hand serves the other.

    Args:
        rows: of each part, as slr_lib.geometry.PartFeatures gives them; coordinates: numbers of a row, x first; width:
        of a part's vector; twins: numbers of the left and the right hand's part, with as many rows each, or None.
    """

    def __init__(self, rows: list[int], coordinates: int, width: int, twins: tuple[int, int] | None):
        super().__init__()
        self.left, right = twins or (None, None)
        self.source = [right if part == self.left else part for part in range(len(rows))]
        self.tables = nn.ModuleDict({str(part): nn.Linear(2 * coordinates * rows[part], width)
                                     for part in sorted(set(self.source))})
        if twins:
            sign = torch.ones(2, rows[right], coordinates)
            sign[:, :-1, 0] = -1  # the last row is a share, no place
            self.register_buffer("sign", sign.flatten(), persistent=False)

    def forward(self, rows: list[Tensor]) -> Tensor:
        """Of each part [B, T, 2 x rows x C], T pairs of frames -> [B, T, K, D]."""
        tokens = []
        for part, values in enumerate(rows):
            table = self.tables[str(self.source[part])]
            weight = table.weight * self.sign if part == self.left else table.weight
            tokens.append(functional.linear(values, weight, table.bias))
        return torch.stack(tokens, 2)


class PartMixer(nn.Module):
    """Cross-part attention: in each frame every part looks at every other (pre-norm, H heads, residual).

    Args:
        width: of a part's vector; heads: divides width.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, K, D] -> the same shape."""
        b, t, k, d = x.shape
        q, key, value = self.qkv(self.norm(x)).view(b * t, k, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return x + self.out(attend(q, key, value).transpose(1, 2).reshape(b, t, k, d))


class FoldedMixer(nn.Module):
    """A `PartMixer` of one head with half the products, for inference: the same but for rounding.

    A score (Q x + p) . (K y + r) is K'(Q x + p) . y but for what all y have in common, which softmax leaves out; and
    the shares, whose sum is 1, may as well be taken of O V y as of V y. So two tables do for Q, K, V and O.
    """

    def __init__(self, mixer: PartMixer):
        super().__init__()
        if mixer.heads != 1:
            raise ValueError(f"only a mixer of one head can be folded, not one of {mixer.heads}")
        width = mixer.out.in_features
        self.norm, self.score, self.value = mixer.norm, nn.Linear(width, width), nn.Linear(width, width)
        tables = [tensor.detach().double() for tensor in (mixer.qkv.weight, mixer.qkv.bias)]
        (q, key, value), (q_bias, _, value_bias) = (tensor.chunk(3) for tensor in tables)
        out, scale = mixer.out.weight.detach().double(), width**-0.5
        folded = {self.score: (key.T @ q * scale, key.T @ q_bias * scale),
                  self.value: (out @ value, out @ value_bias + mixer.out.bias.detach())}
        with torch.no_grad():
            for layer, (weight, bias) in folded.items():
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, K, D] -> the same shape."""
        y = self.norm(x).flatten(0, 1)
        share = (self.score(y) @ y.transpose(1, 2)).softmax(-1)
        return x + (share @ self.value(y)).view_as(x)


class DepthwiseConvolution(nn.Module):
    """Convolution over time, a kernel a channel, same length. As a 2-D one whose frames are columns, torch sees that
    the channels lie last: on a CPU several times faster than `conv1d` with its transposes.

    Args:
        width: channels; kernel: odd number of frames.
    """

    def __init__(self, width: int, kernel: int):
        super().__init__()
        convolution = nn.Conv2d(width, width, (1, kernel), padding=(0, kernel // 2), groups=width)
        self.convolution = convolution.to(memory_format=torch.channels_last)  # as gradients come; DDP warns otherwise

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D], zero at padding -> [B, T, D]."""
        weight, bias = self.convolution.weight, self.convolution.bias
        if x.is_cpu and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return _TrainedConvolution.apply(x, weight, bias)
        return _convolve(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[B, T, D], weight [D, 1, 1, frames] -> [B, T, D]."""
    y = functional.conv2d(x.transpose(1, 2).unsqueeze(2), weight, bias, padding=(0, weight.shape[-1] // 2),
                          groups=len(weight))
    return y.squeeze(2).transpose(1, 2)


class _TrainedConvolution(torch.autograd.Function):
    """`_convolve` with gradients of its own. On a CPU torch's take 20 ms, those of weights and bias almost all of it,
    and these 6 (64 clips of 64 frames and 192 channels, 17 frames of kernel, bf16, one thread)."""

    BLOCK = 16  # frames

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight.to(x.dtype), bias.to(x.dtype))

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (x, weight), block = ctx.saved_tensors, _TrainedConvolution.BLOCK
        slope = slope.to(x.dtype)
        kernel, more = weight.shape[-1], -x.shape[1] % block
        around = functional.pad(x, (0, 0, kernel // 2, kernel // 2 + more)).permute(2, 0, 1).contiguous()
        after = functional.pad(slope, (0, 0, 0, more)).permute(2, 0, 1).reshape(len(weight), -1, block)
        seen = around.unfold(2, block + kernel - 1, block).flatten(1, 2)  # of each block, what its kernels see
        products = (after.transpose(1, 2) @ seen).to(weight.dtype)  # D, block, block + kernel - 1: all pairs of frames
        # a frame meets a place of the kernel where both are as far apart: the sums along diagonals
        width = products.shape[2]
        of_weight = products.as_strided((len(weight), block, kernel), (block * width, width + 1, 1)).sum(1)
        laid = torch.empty_like(weight).copy_(of_weight.view_as(weight))  # as the weights lie in memory, or DDP warns
        return _convolve(slope, weight.flip(-1).to(x.dtype), None), laid, slope.sum((0, 1))


class ChannelAttention(nn.Module):
    """ECA (Wang et al. 2020): a gate a channel from the clip's mean, by a small convolution across channels."""

    def __init__(self, kernel: int = 5):
        super().__init__()
        self.convolution = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D] -> the same shape."""
        gate = self.convolution(masked_mean(x, frames).unsqueeze(1)).sigmoid()  # B, 1, D
        return x * gate


class LocalBlock(nn.Module):
    """Depthwise convolution over `kernel` frames, expand, channel attention, contract; residual.

    In ConvNeXt's order (Liu et al. 2022), with the channel attention of the GISLR first place's block (hoyso48, 2023).

    Args:
        width: D; kernel: odd number of frames; expansion: hidden width / D; dropout, drop_path: shares.
    """

    def __init__(self, width: int, kernel: int, expansion: int, dropout: float, drop_path: float):
        super().__init__()
        self.convolution = DepthwiseConvolution(width, kernel)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, width * expansion)
        self.attention = ChannelAttention()
        self.contract = nn.Linear(width * expansion, width)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D], frames [B, T] -> [B, T, D]."""
        y = self.norm(self.convolution(x * frames.unsqueeze(-1)))
        y = self.attention(functional.silu(self.expand(y)), frames)
        return x + self.drop_path(self.dropout(self.contract(y)))


class GlobalBlock(nn.Module):
    """Transformer block over all frames of the clip: rotary attention, then a gated feed-forward layer; pre-norm.

    Args:
        width: D; heads: divides D into an even width; expansion: hidden width / D; dropout, drop_path: shares.
    """

    def __init__(self, width: int, heads: int, expansion: int, dropout: float, drop_path: float):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feed_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, width * expansion)
        self.contract = nn.Linear(width * expansion, width)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, frames: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, D], frames [B, T], tables of `rotary_tables` -> [B, T, D]."""
        b, t, d = x.shape
        made = self.qkv(self.norm(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, key = rotate(made[:2], cos, sin)
        y = attend(q, key, made[2], frames[:, None, None, :])
        x = x + self.drop_path(self.dropout(self.out(y.transpose(1, 2).reshape(b, t, d))))
        y = self.contract(functional.silu(self.expand(self.feed_norm(x))))
        return x + self.drop_path(self.dropout(y))


class PairMerging(nn.Module):
    """Half the frames: two neighbours become one by a linear layer. A clip's odd last frame merges with nothing.

    Args:
        width_in, width_out: D before and after.
    """

    def __init__(self, width_in: int, width_out: int):
        super().__init__()
        self.linear = nn.Linear(2 * width_in, width_out)
        self.norm = nn.LayerNorm(width_out)

    def forward(self, x: Tensor, frames: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, T, D], frames [B, T], positions [B, T] -> [B, ceil(T / 2), D'], its frames and positions (first's)."""
        x = x * frames.unsqueeze(-1)
        if x.shape[1] % 2:
            x = functional.pad(x, (0, 0, 0, 1))
        b, t, d = x.shape
        return self.norm(self.linear(x.reshape(b, t // 2, 2 * d))), frames[:, ::2], positions[:, ::2]


class QueryPooling(nn.Module):
    """Attention pooling with a learned query a head: each head averages its own channels over the frames it prefers.

    Args:
        width: D; heads: divides D.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.score = nn.Linear(width, heads)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """[B, T, D], frames [B, T] -> [B, D]."""
        score = self.score(x)
        score = score.masked_fill(~frames.unsqueeze(-1), torch.finfo(score.dtype).min)
        weight = score.softmax(1).transpose(1, 2).unsqueeze(2)  # B, H, 1, T
        b, t, d = x.shape
        value = x.view(b, t, weight.shape[1], -1).transpose(1, 2)  # B, H, T, D / H
        return (weight @ value).reshape(b, d)
