"""NACLIP: key-key attention with a Gaussian prior for neighbouring patches.

S. Hajimiri, I. Ben Ayed, J. Dolz. "Pay Attention to Your Neighbours: Training-Free Open-Vocabulary
Semantic Segmentation", WACV 2025.
"""

import torch

from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, affinity
from tagmask.method import dense_method
from tagmask.types import Attention
from tagmask.variants.similarity import gaussian_prior

__all__ = ["METHODS", "NACLIP", "NACLIP_NEIGHBOURS"]


def neighbour_attention(tower: TowerFeatures) -> Attention:
    """softmax(k kᵀ / 8 + w): w is 1 at the patch itself, a Gaussian of sigma 5 patches. Rows sum to 1."""
    return affinity(tower.k, tower.k, gaussian_prior(tower.grid).to(tower.k.device))


def neighbours_only(tower: TowerFeatures) -> Attention:
    """softmax(w m): the Gaussian prior alone, with m the mean of |q_i| |k_j| / 8 over heads and token pairs.

    The authors' program computes that mean over the whole batch; here it is computed per image.
    """
    norms = [torch.linalg.vector_norm(part.float(), dim=-1).mean(dim=-1) for part in (tower.q, tower.k)]
    mean = (norms[0] * norms[1]).mean(dim=-1) * tower.q.shape[-1] ** -0.5
    proximity = gaussian_prior(tower.grid).to(tower.q.device)
    weights = torch.softmax(mean[:, None, None] * proximity, dim=-1)
    return weights[:, None].expand(-1, tower.block.attn.heads, -1, -1)


NACLIP = DenseRule(neighbour_attention, block_form="bare")
NACLIP_NEIGHBOURS = DenseRule(neighbours_only, block_form="bare")


_SOURCE = "NACLIP, Hajimiri et al., WACV 2025"

METHODS = (
    dense_method(
        "naclip",
        NACLIP,
        "key-key attention that favours neighbouring patches",
        _SOURCE,
        large="VOC21 52.2 on L/14, 58.9 on B/16; Context59 32.1, 35.2",
    ),
    dense_method(
        "naclip-near",
        NACLIP_NEIGHBOURS,
        "NACLIP's prior for neighbouring patches as attention",
        f"{_SOURCE}, ablation",
    ),
)
