"""GEM: a stream beside the ordinary one, which attends to whatever is alike by value, key and query.

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
    """The mean of three self-similarities, each gone through once more. Rows sum to 1.

    For u of v, k, q, with unit rows: u' = softmax(b u uᵀ) u, made unit again; then softmax(b u' u'ᵀ). b is
    the mean length of the tokens' normed states, of one image, over 8.
    """
    lengths = torch.linalg.vector_norm(tower.z, dim=-1).mean(dim=1)
    sharp = lengths * tower.v.shape[-1] ** -0.5
    total = None
    for u in (tower.v, tower.k, tower.q):
        unit = F.normalize(u.float(), dim=-1)
        unit = F.normalize(_self_attention(unit, sharp) @ unit, dim=-1)
        part = _self_attention(unit, sharp)
        total = part if total is None else total.add_(part)
    assert total is not None  # there are three
    return total.div_(3)


def _self_attention(unit: Heads, sharp: torch.Tensor) -> Attention:
    return torch.softmax(sharp[:, None, None, None] * (unit @ unit.transpose(-2, -1)), dim=-1)


def gem(settings: LayerSettings, depth: int) -> DenseRule:
    """GEM: the side stream runs beside the last six blocks of twelve."""
    blocks = Layers(depth, settings.absolute_layers).last(_DEPTH)
    return DenseRule(
        self_self_attention, depth=blocks, capture=CaptureSpec(last_blocks=blocks), positions="bicubic-smooth"
    )


GEM_BARE = DenseRule(self_self_attention, block_form="bare", positions="bicubic-smooth")
"""The last block's share of it alone (ClearCLIP's reading)."""


METHODS = (
    dense_method(
        "gem",
        gem,
        "three self-similarities in a stream beside six blocks",
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
