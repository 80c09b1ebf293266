"""CLIP's image and text towers, with OpenAI's tensor names.

The residual stream and the normalisations stay in float32 at any precision; only the matrix products run in
the precision of their weights. So "float32" is the reference arithmetic, and a lower precision changes the
matrix products only.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", ICML 2021.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.clip.attention import attend, attend_with_mean, attention_weights
from tagmask.clip.engine import Engine
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.types import Attention, Heads, Pixels, Size, Tokens

__all__ = ["ACTIVATIONS", "Activation", "Block", "Mlp", "SelfAttention", "Text", "Vision", "fold_quick_gelu"]

Activation = Callable[[Tensor], Tensor]


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation, x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(_QUICK_GELU_SCALE * x)


_QUICK_GELU_SCALE = 1.702


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType({"quickgelu": quick_gelu, "gelu": F.gelu})
"""By name. The choice belongs to the weights, not to the architecture; the wrong one shifts all features."""


class SelfAttention(nn.Module):
    """Multi-head self-attention, with its steps as separate methods."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, z: Tokens, part: int | None = None) -> Tensor:
        """Apply the input projection: q (0), k (1), v (2), or all three concatenated."""
        weight: Tensor = self.in_proj_weight
        bias: Tensor = self.in_proj_bias
        if part is not None:
            width = weight.shape[1]
            rows = slice(part * width, (part + 1) * width)
            weight, bias = weight[rows], bias[rows]
        return F.linear(z.to(weight.dtype), weight, bias)

    def split(self, x: Tokens) -> Heads:
        """Split (b, n, d) into heads: (b, heads, n, 64)."""
        return x.reshape(*x.shape[:2], self.heads, HEAD_WIDTH).transpose(1, 2)

    def qkv(self, z: Tokens) -> tuple[Heads, Heads, Heads]:
        """Project to q, k and v, split into heads."""
        q, k, v = self.project(z).chunk(3, dim=-1)
        return self.split(q), self.split(k), self.split(v)

    def merge(self, y: Heads) -> Tokens:
        """Concatenate the heads and apply the output projection with its bias."""
        merged: Tensor = self.out_proj(y.transpose(1, 2).flatten(2))
        return merged


class Mlp(nn.Module):
    """The block's second half: two linear layers with the activation between them."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.activation = activation

    @torch.no_grad()
    def fold_quick_gelu(self) -> None:
        """Replace QuickGELU by SiLU and fold the factors into the weights.

        x sigmoid(1.702 x) = silu(1.702 x) / 1.702. Torch has one kernel for SiLU, but needs three for
        QuickGELU; in bfloat16 these take as long as the matrix products around them.
        """
        self.c_fc.weight.mul_(_QUICK_GELU_SCALE)
        self.c_fc.bias.mul_(_QUICK_GELU_SCALE)
        self.c_proj.weight.div_(_QUICK_GELU_SCALE)
        self.activation = F.silu

    def forward(self, x: Tokens) -> Tokens:
        """Compute the MLP's output, without the residual."""
        hidden = self.activation(self.c_fc(x.to(self.c_fc.weight.dtype)))
        out: Tensor = self.c_proj(hidden)
        return out


class Block(nn.Module):
    """x <- x + attention(ln_1(x)), then x <- x + mlp(ln_2(x))."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, activation)

    def forward(
        self,
        x: Tokens,
        bias: Float[Tensor, "#b #heads n n"] | None = None,
        *,
        causal: bool = False,
    ) -> Tokens:
        """Apply the block with standard attention; `bias` is added to the attention logits."""
        q, k, v = self.attn.qkv(self.ln_1(x))
        return self.feed_forward(x + self.attn.merge(attend(q, k, v, bias, causal=causal)))

    def forward_with_mean_attention(self, x: Tokens) -> tuple[Tokens, Float[Tensor, "b n n"]]:
        """Apply the block; also return the attention map averaged over heads (rows sum to 1, float32)."""
        q, k, v = self.attn.qkv(self.ln_1(x))
        y, mean = attend_with_mean(q, k, v)
        return self.feed_forward(x + self.attn.merge(y)), mean

    def forward_with_attention(self, x: Tokens) -> tuple[Tokens, Attention]:
        """Apply the block; also return the attention map of each head (rows sum to 1, float32)."""
        q, k, v = self.attn.qkv(self.ln_1(x))
        weights = attention_weights(q, k)
        return self.feed_forward(x + self.attn.merge(weights.to(v.dtype) @ v)), weights

    def feed_forward(self, x: Tokens) -> Tokens:
        """Apply the second half: x + mlp(ln_2(x)). In inference mode x is overwritten."""
        return _add_residual(x, self.mlp(self.ln_2(x)))


def fold_quick_gelu(tower: nn.Module) -> None:
    """Replace QuickGELU by SiLU in every MLP of a tower, with the factors folded into the weights."""
    for module in tower.modules():
        if isinstance(module, Mlp):
            module.fold_quick_gelu()


def _add_residual(x: Tokens, y: Tensor) -> Tokens:
    # Adding a lower precision to float32 in place is four times as fast as into new memory.
    return x.add_(y) if torch.is_inference_mode_enabled() and x.is_inference() else x + y


class _Transformer(nn.Module):
    def __init__(self, width: int, layers: int, activation: Activation) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, activation) for _ in range(layers))


class Vision(nn.Module):
    """The image tower: pixels to tokens, tokens to the shared space."""

    engine: Engine | None = None
    """What runs the first blocks in place of torch; shared parameters, see `Clip.with_engine`."""

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
        """Return the patch grid of an image of `size`; rows and columns that fill no patch are ignored."""
        return size[0] // self.patch, size[1] // self.patch

    def embed(self, pixels: Pixels, positions: Float[Tensor, "n d"]) -> Tokens:
        """Compute the tokens before the first block: class token, then patch tokens row by row."""
        patches = self._patches(pixels).float()
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        out: Tensor = self.ln_pre(torch.cat([first, patches], dim=1) + positions)
        return out

    def _patches(self, pixels: Pixels) -> Tokens:
        # The convolution's windows do not overlap, so it equals one matrix product. A convolution on a GPU
        # may run in TF32 by default, which is far from float32.
        side = self.patch
        gh, gw = pixels.shape[-2] // side, pixels.shape[-1] // side
        cells = pixels[..., : gh * side, : gw * side].reshape(-1, 3, gh, side, gw, side)
        flat = cells.permute(0, 2, 4, 1, 3, 5).reshape(pixels.shape[0], gh * gw, 3 * side * side)
        return F.linear(flat.to(self.conv1.weight.dtype), self.conv1.weight.flatten(1))

    def project(self, x: Tokens) -> Float[Tensor, "b n e"]:
        """Project the last block's tokens into the shared image-text space (float32, not normalised)."""
        normed: Tensor = self.ln_post(x)
        return (normed.to(self.proj.dtype) @ self.proj).float()


class Text(nn.Module):
    """The text tower: token ids to one feature vector per text."""

    def __init__(self, geometry: Geometry, activation: Activation) -> None:
        super().__init__()
        width = geometry.text_width
        self.context = geometry.context
        # From a tensor: the initialisation of nn.Embedding on the meta device imports torch's compiler.
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(geometry.vocab, width), freeze=False)
        self.positional_embedding = nn.Parameter(torch.empty(geometry.context, width))
        self.transformer = _Transformer(width, geometry.text_layers, activation)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, geometry.embed))

    def forward(self, ids: Int[Tensor, "q context"]) -> Float[Tensor, "q e"]:
        """Compute the feature at each text's end token (float32, not normalised).

        Columns after the last end token are skipped: the mask is causal and the feature is read at the end
        token, so they have no effect.
        """
        ends = ids.argmax(dim=-1)  # the end token has the largest id
        length = int(ends.max()) + 1
        x = self.embed(ids[:, :length], torch.arange(length, device=ids.device))
        for block in self.blocks:
            x = block(x, causal=True)
        return self.project(x[torch.arange(len(x), device=x.device), ends])

    @property
    def blocks(self) -> list[Block]:
        """The residual blocks, first to last."""
        return [block for block in self.transformer.resblocks if isinstance(block, Block)]

    def embed(self, ids: Int[Tensor, "q n"], positions: Int[Tensor, "... n"]) -> Tokens:
        """Compute the tokens before the first block."""
        x: Tensor = self.token_embedding(ids).float() + self.positional_embedding[positions]
        return x

    def project(self, x: Float[Tensor, "q d"]) -> Float[Tensor, "q e"]:
        """Project the last block's end tokens into the shared image-text space (float32, not normalised)."""
        last: Tensor = self.ln_final(x)
        return (last.to(self.text_projection.dtype) @ self.text_projection).float()
