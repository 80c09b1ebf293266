"""PIAA's image encoders: CLIP's class token, and patch features from a modified last block.

    sclip    attention softmax(qqᵀ) + softmax(kkᵀ) in the last block (SCLIP, Wang et al., ECCV 2024)
    itaclip  half of that, half the mean of the same of blocks 6, 7 and 9 of 12, and no MLP in the last block
             (ITACLIP, Aydın et al., 2024, without its image augmentations and its generated texts)

Both share every block but the last with CLIP's class token, so one forward pass serves both. The blocks
before the last run unmodified, and images of a batch do not influence each other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.clip.model import Vision
from tagmask.dense.features import CaptureSpec, TowerFeatures, class_token, extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.papers.tagclip import scaled_layers
from tagmask.types import Pixels
from tagmask.variants.sclip import correlative

__all__ = ["ENCODERS", "EncodedImages", "encode"]

_MIXED_LAYERS = (6, 7, 9)

Encoder = Callable[[TowerFeatures], Float[Tensor, "b n e"]]


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """Features of a batch of images; unit rows."""

    patches: Float[Tensor, "b p e"]
    class_tokens: Float[Tensor, "b e"]


def encode(clip: Clip, pixels: Pixels, encoder: str) -> EncodedImages:
    """Encode images of one size with an encoder of `ENCODERS`."""
    before = {layer - 1 for layer in _mixed_layers(clip.vision)} if encoder == "itaclip" else ()
    tower = extract_features(
        clip.vision, pixels, bilinear_half, capture=CaptureSpec(states=frozenset(before))
    )
    return EncodedImages(F.normalize(ENCODERS[encoder](tower)[:, 1:], dim=-1), class_token(tower))


def _sclip(tower: TowerFeatures) -> Float[Tensor, "b n e"]:
    return tower.project_last_block(correlative(tower))


def _itaclip(tower: TowerFeatures) -> Float[Tensor, "b n e"]:
    middle = torch.stack(
        [correlative(tower.at_block(layer)) for layer in sorted(_mixed_layers(tower.vision))]
    )
    weights = 0.5 * correlative(tower) + 0.5 * middle.mean(dim=0)
    return tower.vision.project(tower.tokens + tower.attend(weights))


def _mixed_layers(vision: Vision) -> set[int]:
    return set(scaled_layers(_MIXED_LAYERS, len(vision.blocks)))


ENCODERS: Mapping[str, Encoder] = MappingProxyType({"sclip": _sclip, "itaclip": _itaclip})
