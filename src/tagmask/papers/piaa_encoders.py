"""What PIAA sees of an image: the class token as CLIP has it, and patches from a changed last block.

    sclip    attention softmax(qqᵀ) + softmax(kkᵀ) in the last block (SCLIP, Wang et al., ECCV 2024)
    itaclip  half of that, half the mean of the same of blocks 6, 7 and 9 of 12, and no MLP in the last block
             (ITACLIP, Aydın et al., 2024, without its views of the image and its written texts)

Both share every block but the last with CLIP's own class token, so one pass serves both. The blocks
themselves run unaltered, and images of a batch do not mix.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.class_token import class_token
from tagmask.dense.features import Pass
from tagmask.dense.positions import bilinear_half
from tagmask.papers.tagclip import scaled_layers
from tagmask.types import Attention, Heads, Pixels

__all__ = ["ENCODERS", "Seen", "see"]

_MIXED = (6, 7, 9)

Encoder = Callable[[Pass, list[Attention]], Float[Tensor, "b n e"]]


@dataclass(frozen=True, eq=False)
class Seen:
    """What is seen of a batch of images; unit rows."""

    patches: Float[Tensor, "b p e"]
    class_tokens: Float[Tensor, "b e"]


def see(clip: Clip, pixels: Pixels, encoder: str) -> Seen:
    """Encode images of one size by an encoder of `ENCODERS`."""
    depth = len(clip.vision.blocks)
    layers = frozenset(scaled_layers(_MIXED, depth) if encoder == "itaclip" else ())
    state, kept = _pass(clip, pixels, layers)
    patches = ENCODERS[encoder](state, kept)[:, 1:]
    return Seen(F.normalize(patches, dim=-1), class_token(state))


def _sclip(state: Pass, _: list[Attention]) -> Float[Tensor, "b n e"]:
    return state.finish(_alike(state.q, state.k))


def _itaclip(state: Pass, kept: list[Attention]) -> Float[Tensor, "b n e"]:
    mixed = 0.5 * _alike(state.q, state.k) + 0.5 * torch.stack(kept).mean(dim=0)
    merged = state.block.attn.merge(mixed.to(state.v.dtype) @ state.v)
    return state.vision.project(state.tokens + merged)


ENCODERS: Mapping[str, Encoder] = MappingProxyType({"sclip": _sclip, "itaclip": _itaclip})


def _pass(clip: Clip, pixels: Pixels, layers: frozenset[int]) -> tuple[Pass, list[Attention]]:
    """`one_pass`, with the attention among like tokens of some layers, head by head."""
    vision = clip.vision
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    x = vision.embed(pixels, bilinear_half(vision.positional_embedding, grid))
    kept: list[Attention] = []
    for layer, block in enumerate(vision.blocks[:-1]):
        if layer in layers:
            q, k, _ = block.attn.qkv(block.ln_1(x))
            kept.append(_alike(q, k))
        x = block(x)
    return Pass(vision, x, grid, {}), kept


def _alike(q: Heads, k: Heads) -> Attention:
    """softmax(qqᵀ / 8) + softmax(kkᵀ / 8): a sum, rows sum to 2."""
    parts = ((x * x.shape[-1] ** -0.5) @ x.transpose(-2, -1) for x in (q, k))
    first, second = (torch.softmax(logits.float(), dim=-1) for logits in parts)
    return first + second
