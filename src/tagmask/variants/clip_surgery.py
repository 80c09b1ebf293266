"""CLIP Surgery: a parallel stream with value-value attention.

Y. Li et al. "A Closer Look at the Explainability of Contrastive Language-Image Pre-training", 2023.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.model import Vision
from tagmask.dense.features import CaptureSpec, TowerFeatures, extract_features
from tagmask.dense.positions import Positions, bilinear
from tagmask.dense.rule import DenseRule, Layers, LayerSettings, affinity, patch_features
from tagmask.method import dense_method
from tagmask.types import Attention, Pixels, TextFeatures

__all__ = ["METHODS", "clip_surgery", "feature_surgery", "surgery_tokens"]

_DEPTH = 6


def by_value(tower: TowerFeatures) -> Attention:
    """softmax(v vᵀ / 8). Rows sum to 1."""
    return affinity(tower.v, tower.v)


def clip_surgery(settings: LayerSettings, depth: int) -> DenseRule:
    """A parallel stream over the last six of twelve blocks yields the patches."""
    blocks = Layers(depth, settings.absolute_layers).last(_DEPTH)
    return DenseRule(by_value, depth=blocks, capture=CaptureSpec(last_blocks=blocks), positions="bilinear")


def surgery_tokens(vision: Vision, pixels: Pixels, positions: Positions = bilinear) -> Float[Tensor, "b n e"]:
    """Unit tokens in the shared space: the main stream's class token, then the parallel stream's patches."""
    rule = clip_surgery(LayerSettings(), len(vision.blocks))
    tower = extract_features(vision, pixels, positions, capture=rule.capture)
    class_token = tower.project_last_block(affinity(tower.q, tower.k))[:, :1]
    return F.normalize(torch.cat([class_token, patch_features(tower, rule)], dim=1), dim=-1)


def feature_surgery(tokens: Float[Tensor, "b n e"], texts: TextFeatures) -> Float[Tensor, "b n q"]:
    """Remove the features that all texts share from their scores (Feature Surgery).

    With cosines c (the class token is row 0): p = softmax over texts of 2 c_0, w = p / mean p, and the score
    is w c minus its mean over texts. So every text's score depends on the whole list. (The authors compute
    the products of all tokens, texts and channels and sum them, which mixes the images of a batch.)

    Args:
        tokens: unit rows, the class token first.
        texts: unit rows; with a single text all scores are 0.

    Returns:
        Scores of about -0.1..0.1, which sum to 0 over the texts at every token.

    Example:
        >>> tokens = torch.nn.functional.normalize(torch.ones(1, 3, 4), dim=-1)
        >>> feature_surgery(tokens, tokens[0, :1]).abs().max()
        tensor(0.)
    """
    cosines = tokens @ texts.T
    probabilities = torch.softmax(2 * cosines[:, :1], dim=-1)
    weighted = probabilities / probabilities.mean(dim=-1, keepdim=True) * cosines
    return weighted - weighted.mean(dim=-1, keepdim=True)


METHODS = (
    dense_method(
        "clip-surgery",
        clip_surgery,
        "value-value attention in a parallel stream over six blocks",
        "CLIP Surgery, Li et al., 2023",
        settings=LayerSettings,
    ),
)
