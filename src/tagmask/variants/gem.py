"""GEM: a parallel stream with the mean of value-value, key-key and query-query attention.

W. Bousselham et al. "Grounding Everything: Emerging Localization Properties in Vision-Language
Transformers", CVPR 2024.
"""

import torch
from torch.nn import functional as F

from tagmask.dense.features import CaptureSpec, TowerFeatures
from tagmask.dense.rule import DenseRule, Layers, LayerSettings
from tagmask.method import dense_method
from tagmask.types import Attention, Heads

__all__ = ["GEM_BARE", "METHODS", "gem", "self_self_attention"]

_DEPTH = 6


def self_self_attention(tower: TowerFeatures) -> Attention:
    """The mean of three self-self attention maps, each iterated once. Rows sum to 1.

    For u in (v, k, q), with unit rows: u' = softmax(b u uᵀ) u, normalised again; then softmax(b u' u'ᵀ). b is
    the mean norm of an image's tokens after ln_1, divided by 8.
    """
    norms = torch.linalg.vector_norm(tower.z, dim=-1).mean(dim=1)
    sharpness = norms * tower.v.shape[-1] ** -0.5
    total = None
    for u in (tower.v, tower.k, tower.q):
        unit = F.normalize(u.float(), dim=-1)
        unit = F.normalize(_self_attention(unit, sharpness) @ unit, dim=-1)
        weights = _self_attention(unit, sharpness)
        total = weights if total is None else total.add_(weights)
    assert total is not None  # the loop runs three times
    return total.div_(3)


def _self_attention(unit: Heads, sharpness: torch.Tensor) -> Attention:
    return torch.softmax(sharpness[:, None, None, None] * (unit @ unit.transpose(-2, -1)), dim=-1)


def gem(settings: LayerSettings, depth: int) -> DenseRule:
    """GEM: a parallel stream over the last six of twelve blocks."""
    blocks = Layers(depth, settings.absolute_layers).last(_DEPTH)
    return DenseRule(
        self_self_attention, depth=blocks, capture=CaptureSpec(last_blocks=blocks), positions="bicubic-smooth"
    )


GEM_BARE = DenseRule(self_self_attention, block_form="bare", positions="bicubic-smooth")
"""GEM's attention in the last block alone (the variant in ClearCLIP's ablation)."""


METHODS = (
    dense_method(
        "gem",
        gem,
        "three self-self attentions in a parallel stream over six blocks",
        "GEM, Bousselham et al., CVPR 2024",
        settings=LayerSettings,
    ),
    dense_method(
        "gem-bare",
        GEM_BARE,
        "GEM in the last block alone",
        "ClearCLIP, Lan et al., ECCV 2024, ablation",
    ),
)
