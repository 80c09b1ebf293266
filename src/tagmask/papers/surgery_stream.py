"""CLIP Surgery's second stream: tokens that describe their own place, beside an unaltered tower.

Y. Li, H. Wang, Y. Duan, J. Zhang, X. Li.
"A Closer Look at the Explainability of Contrastive Language-Image Pre-training" (CLIP Surgery), 2023.

o    the ordinary stream                n    the new one, from the input of the last six blocks on
n <- n + out(softmax(v vᵀ / 8) v), q, k, v from ln_1(o): the ordinary stream's, and no MLP
"""

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.model import Vision
from tagmask.dense.positions import bilinear_half
from tagmask.types import Heads, Pixels

__all__ = ["surgery_tokens"]

_DEPTH = 6


def surgery_tokens(vision: Vision, pixels: Pixels) -> Float[Tensor, "b n e"]:
    """All tokens in the shared space, not normalised: patches of the new stream, the class token of the old.

    Other grids than the tower's own read a stretched position table; a table is never overwritten, as it is
    in the authors' program.
    """
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    o = vision.embed(pixels, bilinear_half(vision.positional_embedding, grid))
    blocks = vision.blocks
    first = max(0, len(blocks) - _DEPTH)
    for block in blocks[:first]:
        o = block(o)
    n = o.clone()
    for block in blocks[first:]:
        _, _, v = block.attn.qkv(block.ln_1(o))
        n = n + block.attn.merge(_self_attention(v) @ v)
        o = block(o)
    return vision.project(torch.cat([o[:, :1], n[:, 1:]], dim=1))


def _self_attention(v: Heads) -> Float[Tensor, "b heads n n"]:
    logits = (v * v.shape[-1] ** -0.5) @ v.transpose(-2, -1)
    return torch.softmax(logits.float(), dim=-1).to(v.dtype)
