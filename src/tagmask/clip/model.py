"""CLIP's two towers, plain, under OpenAI's tensor names.

The residual stream and the normalisations stay in float32 whatever the precision; only the matrix
products run in the precision of their weights. So "float32" is the reference arithmetic, and a lower
precision changes the products and nothing else.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.types import Attention, Heads, Pixels, Size, Tokens

__all__ = ["ACTIVATIONS", "Block", "Text", "Vision", "fold_quick_gelu", "mean_attention"]

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation, x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(_QUICK * x)


_QUICK = 1.702


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({"quickgelu": quick_gelu, "gelu": F.gelu})
"""Which one belongs to the weights, not to the architecture: the wrong one is slightly wrong everywhere."""


class _Attention(nn.Module):
    """Multi-head self-attention whose parts can be taken one by one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, z: Tokens, part: int | None = None) -> Tensor:
        """Rows of the input projection: q (0), k (1), v (2), or all three beside each other."""
        weight: Tensor = self.in_proj_weight
        bias: Tensor = self.in_proj_bias
        if part is not None:
            width = weight.shape[1]
            rows = slice(part * width, (part + 1) * width)
            weight, bias = weight[rows], bias[rows]
        return F.linear(z.to(weight.dtype), weight, bias)

    def split(self, x: Tokens) -> Heads:
        """(b, n, d) to (b, heads, n, 64)."""
        return x.reshape(*x.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)

    def qkv(self, z: Tokens) -> tuple[Heads, Heads, Heads]:
        """All three, in heads."""
        q, k, v = self.project(z).chunk(3, dim=-1)
        return self.split(q), self.split(k), self.split(v)

    def merge(self, y: Heads) -> Tokens:
        """Heads side by side, then the output projection with its bias."""
        merged: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return merged


class _Mlp(nn.Module):
    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.activation = activation

    @torch.no_grad()
    def fold_quick_gelu(self) -> None:
        """Turn QuickGELU into SiLU: x sigmoid(1.702 x) = silu(1.702 x) / 1.702, both factors in the weights.

        Torch has one kernel for SiLU, and needs three for QuickGELU, which in bfloat16 take as long as the
        products around them.
        """
        self.c_fc.weight.mul_(_QUICK)
        self.c_fc.bias.mul_(_QUICK)
        self.c_proj.weight.div_(_QUICK)
        self.activation = F.silu

    def forward(self, x: Tokens) -> Tokens:
        hidden = self.activation(self.c_fc(x.to(self.c_fc.weight.dtype)))
        out: Tensor = self.c_proj(hidden)
        return out


class Block(nn.Module):
    """x <- x + attention(ln_1(x)), then x <- x + mlp(ln_2(x))."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = _Attention(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width, activation)

    def forward(
        self,
        x: Tokens,
        bias: Float[Tensor, "#b #heads n n"] | None = None,
        *,
        causal: bool = False,
    ) -> Tokens:
        """Ordinary attention; `bias` is added to its logits."""
        q, k, v = self.attn.qkv(self.ln_1(x))
        mask = None if bias is None else bias.to(q.dtype)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.feed_forward(x + self.attn.merge(y))

    def forward_with_mean_attention(self, x: Tokens) -> tuple[Tokens, Float[Tensor, "b n n"]]:
        """Ordinary attention, and its weights averaged over heads (rows sum to 1, float32)."""
        q, k, v = self.attn.qkv(self.ln_1(x))
        y, mean = attend_with_mean(q, k, v)
        return self.feed_forward(x + self.attn.merge(y)), mean

    def forward_with_attention(self, x: Tokens) -> tuple[Tokens, Attention]:
        """Ordinary attention, and its weights head by head (rows sum to 1, float32)."""
        q, k, v = self.attn.qkv(self.ln_1(x))
        weights = _weights(q, k)
        return self.feed_forward(x + self.attn.merge(weights.to(v.dtype) @ v)), weights

    def feed_forward(self, x: Tokens) -> Tokens:
        """The second half: x + mlp(ln_2(x)). In inference mode x is overwritten."""
        return _add_residual(x, self.mlp(self.ln_2(x)))


def fold_quick_gelu(tower: nn.Module) -> None:
    """`fold_quick_gelu` of every MLP of a tower."""
    for module in tower.modules():
        if isinstance(module, _Mlp):
            module.fold_quick_gelu()


def _add_residual(x: Tokens, y: Tensor) -> Tokens:
    # A sum of float32 and a shorter type into fresh memory takes four times as long as one into x.
    return x.add_(y) if torch.is_inference_mode_enabled() and x.is_inference() else x + y


_WEIGHTS_ALIVE = 2**24
"""Attention weights held at once where they are watched: 64 MiB in float32."""


def attend_with_mean(q: Heads, k: Heads, v: Heads) -> tuple[Heads, Float[Tensor, "b n n"]]:
    """Attention, and its weights averaged over heads (float32); a few heads at a time where n is large."""
    outputs = []
    mean = q.new_zeros(len(q), q.shape[2], q.shape[2], dtype=torch.float32)
    for heads in _head_groups(q):
        weights = _weights(q[:, heads], k[:, heads])
        outputs.append(weights.to(v.dtype) @ v[:, heads])
        mean += weights.sum(dim=1)
    return torch.cat(outputs, dim=1), mean.div_(q.shape[1])


def mean_attention(q: Heads, k: Heads) -> Float[Tensor, "b n n"]:
    """The weights of attention averaged over heads; rows sum to 1."""
    mean = q.new_zeros(len(q), q.shape[2], q.shape[2], dtype=torch.float32)
    for heads in _head_groups(q):
        mean += _weights(q[:, heads], k[:, heads]).sum(dim=1)
    return mean.div_(q.shape[1])


def _head_groups(q: Heads) -> list[slice]:
    b, heads, n, _ = q.shape
    together = max(1, _WEIGHTS_ALIVE // (b * n * n))
    return [slice(first, first + together) for first in range(0, heads, together)]


def _weights(q: Heads, k: Heads) -> Attention:
    return torch.softmax(((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).float(), dim=-1)


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, activation) for _ in range(layers))


class Vision(nn.Module):
    """The image tower: pixels to tokens, tokens to the shared space."""

    def __init__(self, geometry: Geometry, activation: Activation) -> None:
        super().__init__()
        width, side = geometry.vision_width, geometry.grid
        self.patch, self.grid = geometry.patch, side
        self.conv1 = nn.Conv2d(3, width, geometry.patch, stride=geometry.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + side * side, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = _Transformer(width, geometry.vision_layers, activation)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, geometry.embed))

    @property
    def blocks(self) -> list[Block]:
        """The residual blocks, first to last."""
        return [block for block in self.transformer.resblocks if isinstance(block, Block)]

    def grid_of(self, size: Size) -> Size:
        """Whole patches in an image of `size`; rows and columns beyond a multiple are not seen."""
        return size[0] // self.patch, size[1] // self.patch

    def embed(self, pixels: Pixels, positions: Float[Tensor, "n d"]) -> Tokens:
        """Tokens before the first block: class token, then patches row by row."""
        patches = self._patches(pixels).float()
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        out: Tensor = self.ln_pre(torch.cat([first, patches], dim=1) + positions)
        return out

    def _patches(self, pixels: Pixels) -> Tokens:
        # The convolution's windows do not overlap, so it is one product. Written so, since a convolution on a
        # GPU may run in TF32 by default, which is far from float32.
        side = self.patch
        gh, gw = pixels.shape[-2] // side, pixels.shape[-1] // side
        cells = pixels[..., : gh * side, : gw * side].reshape(-1, 3, gh, side, gw, side)
        flat = cells.permute(0, 2, 4, 1, 3, 5).reshape(pixels.shape[0], gh * gw, 3 * side * side)
        return F.linear(flat.to(self.conv1.weight.dtype), self.conv1.weight.flatten(1))

    def project(self, x: Tokens) -> Float[Tensor, "b n e"]:
        """Tokens after the last block to the shared image-text space (float32, not normalised)."""
        normed: Tensor = self.ln_post(x)
        return (normed.to(self.proj.dtype) @ self.proj).float()


class Text(nn.Module):
    """The text tower: token ids to one vector a text."""

    def __init__(self, geometry: Geometry, activation: Activation) -> None:
        super().__init__()
        width = geometry.text_width
        self.context = geometry.context
        self.token_embedding = nn.Embedding(geometry.vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(geometry.context, width))
        self.transformer = _Transformer(width, geometry.text_layers, activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, geometry.embed))

    def forward(self, ids: Int[Tensor, "q context"]) -> Float[Tensor, "q e"]:
        """Features at each text's end token (float32, not normalised).

        Only the columns up to the last end token are computed: the mask is causal and the feature is
        read at the end token, so nothing that follows it can matter.
        """
        ends = ids.argmax(dim=-1)  # the end token has the largest id
        length = int(ends.max()) + 1
        x = self.token_embedding(ids[:, :length]).float() + self.positional_embedding[:length]
        for block in self.transformer.resblocks:
            x = block(x, causal=True)
        last: Tensor = self.ln_final(x[torch.arange(len(x), device=x.device), ends])
        return (last.to(self.text_projection.dtype) @ self.text_projection).float()
