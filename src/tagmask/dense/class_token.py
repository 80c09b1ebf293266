"""The class token of the unaltered tower, read from a pass that other methods finish in their own way."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.dense.features import Pass

__all__ = ["class_token"]


def class_token(state: Pass) -> Float[Tensor, "b e"]:
    """What CLIP itself says of each image: unit rows in the shared space.

    Of the last block only the class token's row is computed, so this costs next to nothing beside the pass.
    """
    logits = (state.q[:, :, :1] * state.q.shape[-1] ** -0.5) @ state.k.transpose(-2, -1)
    mixed = torch.softmax(logits.float(), dim=-1).to(state.v.dtype) @ state.v
    token = state.block.feed(state.tokens[:, :1] + state.block.attn.merge(mixed))
    return F.normalize(state.vision.project(token)[:, 0], dim=-1)
