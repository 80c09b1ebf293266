"""One pass through the frozen tower, and what it leaves for the methods.

Methods differ in the last block, in what they read on the way there, and in nothing else. So the tower runs
once up to its last block, keeps what was asked for and no more, and every method is a small function of that.
"""

from collections.abc import Set
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.model import Block, Vision, mean_attention
from tagmask.dense.positions import Positions
from tagmask.types import Attention, Heads, Pixels, Size, Tokens

__all__ = ["Pass", "class_features", "one_pass"]


@dataclass(frozen=True, eq=False)
class Pass:
    """The tower's state just before its last block, for a batch of equal sizes.

    q, k and v of the last block are formed when first read: a method that needs only v pays only for v.
    """

    vision: Vision = field(repr=False)
    tokens: Tokens = field(repr=False)
    """The residual stream that enters the last block (float32)."""
    grid: Size
    attention: dict[int, Float[Tensor, "b n n"]] = field(repr=False)
    """Head-averaged attention of the layers asked for; rows sum to 1, class token included."""

    @property
    def block(self) -> Block:
        """The last block."""
        return self.vision.blocks[-1]

    @cached_property
    def z(self) -> Tokens:
        """ln_1 of the tokens: what the last block projects to q, k and v."""
        normed: Tensor = self.block.ln_1(self.tokens)
        return normed

    @cached_property
    def q(self) -> Heads:
        """Queries of the last block."""
        return self._part(0)

    @cached_property
    def k(self) -> Heads:
        """Keys of the last block."""
        return self._part(1)

    @cached_property
    def v(self) -> Heads:
        """Values of the last block."""
        return self._part(2)

    @cached_property
    def last_attention(self) -> Float[Tensor, "b n n"]:
        """The last block's own attention, head-averaged; rows sum to 1."""
        return mean_attention(self.q, self.k)

    def last_block(self, weights: Attention | None) -> Tokens:
        """The last block with `weights` in place of its attention; None lets each token keep its own value.

        The residual and the MLP stay.
        """
        mixed = self.v if weights is None else weights.to(self.v.dtype) @ self.v
        return self.block.feed(self.tokens + self.block.attn.merge(mixed))

    def finish(self, weights: Attention | None) -> Float[Tensor, "b n e"]:
        """`last_block`, then all tokens in the shared space, not normalised."""
        return self.vision.project(self.last_block(weights))

    def _part(self, part: int) -> Heads:
        return self.block.attn.split(self.block.attn.project(self.z, part))


def one_pass(
    vision: Vision,
    pixels: Pixels,
    positions: Positions,
    *,
    attention: Set[int] = frozenset(),
) -> Pass:
    """Run every block but the last.

    Args:
        vision: the image tower.
        pixels: normalised images or windows of one size; rows and columns beyond whole patches are not seen.
        positions: how the position table is stretched to their grid.
        attention: layers (0-based, before the last) whose head-averaged attention is kept.
    """
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    x = vision.embed(pixels, positions(vision.positional_embedding, grid))
    kept: dict[int, Tensor] = {}
    for layer, block in enumerate(vision.blocks[:-1]):
        if layer in attention:
            x, kept[layer] = block.forward_watched(x)
        else:
            x = block(x)
    return Pass(vision, x, grid, kept)


def class_features(
    vision: Vision, pixels: Pixels, hidden: Float[Tensor, "b p"] | None = None
) -> Float[Tensor, "b e"]:
    """The class token of the whole tower, in the shared space, not normalised.

    Args:
        vision: the image tower.
        pixels: normalised images at the size of the stored position table.
        hidden: added to the attention logits of the class token (and of no other), one value a patch, in
            every block; a large negative value hides the patch from it.
    """
    x = vision.embed(pixels, vision.positional_embedding)
    bias = None
    if hidden is not None:
        bias = x.new_zeros(len(x), 1, x.shape[1], x.shape[1])
        bias[:, 0, 0, 1:] = hidden
    *blocks, last = vision.blocks
    for block in blocks:
        x = block(x, bias)
    # Of the last block only the class token is read, so only its row is computed.
    q, k, v = last.attn.qkv(last.ln_1(x))
    logits = (q[:, :, :1] * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if bias is not None:
        logits = logits + bias[:, :, :1]
    mixed = torch.softmax(logits.float(), dim=-1).to(v.dtype) @ v
    return vision.project(last.feed(x[:, :1] + last.attn.merge(mixed)))[:, 0]
