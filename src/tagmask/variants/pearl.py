"""PEARL: query-key attention with the keys rotated onto the queries, plus key-key attention.

    G. Pei et al. "PEARL: Geometry Aligns Semantics for Training-Free Open-Vocabulary Semantic Segmentation",
    arXiv 2603.21528, 2026.

Its second step, which propagates the scores along the image, is `refine.tlp`.

    w   weight of a token in the means: the norm of its query, 0 for the class token
    M   d x d, how the centred keys of a head relate to its centred queries
    R   d x d, "the rotation nearest to M"
"""

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.checks import check_choice, check_number
from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, VariantSettings
from tagmask.method import dense_method
from tagmask.types import Attention, Heads

__all__ = ["METHODS", "PearlSettings", "Projection", "aligned_attention", "pearl", "polar_factor"]

_EPS = 1e-6

Projection = Float[Tensor, "b heads d d"]
"""A matrix per head."""


@dataclass(frozen=True, kw_only=True)
class PearlSettings(VariantSettings):
    """Settings of PEARL's attention, as coded by its authors."""

    alpha: float = 0.08
    """Share of the key-key term in the attention logits; the authors use 0.3 for Cityscapes and ADE20k."""
    polar_iters: int = 5
    """Newton-Schulz steps towards the rotation. So few do not reach it: R keeps the leading directions of M
    and nearly drops the others."""
    svd: bool = False
    """Use the exact rotation, as in the paper, in place of the steps."""
    block_form: str = "bare"
    """"bare": the attention's output alone, as coded; "full": with the block's residual and MLP."""

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, 0)
        check_number("polar_iters", self.polar_iters, 0, whole=True)
        check_choice("block_form", self.block_form, ("bare", "full"))


def pearl(settings: PearlSettings, depth: int) -> DenseRule:
    """Build the rule of PEARL."""
    return DenseRule(partial(aligned_attention, settings=settings), block_form=settings.block_form)


def aligned_attention(tower: TowerFeatures, settings: PearlSettings) -> Attention:
    """softmax((q (k R)ᵀ + alpha k_c k_cᵀ) / 8), with k_c the centred keys. Rows sum to 1.

    Computed in float32 at any precision. Both terms are one product of [q, √alpha k_c] and [k R, √alpha k_c].
    """
    q, k = tower.q.float(), tower.k.float()
    weights = token_weights(q)
    centred = k - weights @ k
    projection = cross_covariance(q - weights @ q, centred)
    rotation = (
        nearest_rotation(projection) if settings.svd else polar_factor(projection, settings.polar_iters)
    )
    scale = q.shape[-1] ** -0.5
    shared = centred * (settings.alpha * scale) ** 0.5
    queries = torch.cat([q * scale, shared], dim=-1)
    keys = torch.cat([k @ rotation, shared], dim=-1)
    return torch.softmax(queries @ keys.transpose(-2, -1), dim=-1)


def token_weights(q: Heads) -> Float[Tensor, "b heads 1 n"]:
    """The share of each token in the means: the norm of its query; the class token has none."""
    norms = torch.linalg.vector_norm(q, dim=-1)
    norms[..., 0] = 0
    weights: Tensor = norms / (norms.sum(dim=-1, keepdim=True) + _EPS)
    return weights[..., None, :]


def cross_covariance(q: Heads, k: Heads) -> Projection:
    """kᵀ q, summed over all tokens, the class token included."""
    return k.transpose(-2, -1) @ q


def polar_factor(matrix: Projection, steps: int) -> Projection:
    """M times a few Newton-Schulz steps towards (Mᵀ M)^(-1/2), which would make it the nearest rotation.

    Each step multiplies small singular values by 1.5 only, so after five of them R is far from a rotation.

    Args:
        matrix: M, in float32.
        steps: number of steps; 0 only divides M by a norm.
    """
    gram = matrix.transpose(-2, -1) @ matrix
    norm = torch.linalg.matrix_norm(gram)[..., None, None].clamp(min=_EPS)
    identity = torch.eye(matrix.shape[-1], device=matrix.device)
    y, z = gram / norm + _EPS * identity, identity.expand_as(gram)
    for _ in range(steps):
        step = (3 * identity - z @ y) / 2
        y, z = y @ step, step @ z
    factor: Tensor = matrix @ z / norm.sqrt()
    return factor


def nearest_rotation(matrix: Projection) -> Projection:
    """U Vᵀ of M = U S Vᵀ."""
    u, _, vh = torch.linalg.svd(matrix)
    rotation: Tensor = u @ vh
    return rotation


METHODS = (
    dense_method(
        "pearl",
        pearl,
        "query-key attention with aligned keys, plus key-key attention",
        "PEARL, Pei et al., 2026",
        settings=PearlSettings,
    ),
)
