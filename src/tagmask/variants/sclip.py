"""SCLIP's correlative self-attention, and its ablations.

    F. Wang, J. Mei, A. Yuille. "SCLIP: Rethinking Self-Attention for Dense Vision-Language Inference",
    ECCV 2024.

A token attends to tokens with a similar query and to tokens with a similar key. The ablations use only one of
the two, no projection, random projections, or a learned projection.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.checks import check_number
from tagmask.clip.model import Vision
from tagmask.dense.features import CaptureSpec, TowerFeatures
from tagmask.dense.rule import DenseRule, VariantSettings, affinity
from tagmask.errors import InputError
from tagmask.method import dense_method
from tagmask.types import Attention, Heads

__all__ = [
    "METHODS",
    "SCLIP_BARE",
    "RandomSettings",
    "SclipSettings",
    "check_last_blocks",
    "correlative",
    "random_ensemble",
    "sclip",
]

_TEMPERATURE = 8.0
"""CLIP's divisor of the attention logits: the square root of a head's width, 64."""


@dataclass(frozen=True, kw_only=True)
class SclipSettings(VariantSettings):
    """Settings of sclip. The paper has the defaults."""

    last_blocks: int = 1
    """Number of last blocks with correlative attention."""
    temperature: float = _TEMPERATURE
    """Divisor of the attention logits; smaller is sharper."""

    def __post_init__(self) -> None:
        check_number("last_blocks", self.last_blocks, 1, whole=True)
        check_number("temperature", self.temperature, 1e-3)


def correlative(tower: TowerFeatures, temperature: float = _TEMPERATURE) -> Attention:
    """softmax(q qᵀ / t) + softmax(k kᵀ / t). Rows sum to 2, as coded."""
    factor = _TEMPERATURE / temperature
    return affinity(tower.q * factor, tower.q) + affinity(tower.k * factor, tower.k)


def sclip(settings: SclipSettings, depth: int) -> DenseRule:
    """Correlative attention in the last block, or in the last `settings.last_blocks` blocks.

    Each of these blocks keeps its residual and its MLP, and works on the output of the one before it.
    """
    weights = partial(correlative, temperature=settings.temperature)
    if settings.last_blocks == 1:
        return DenseRule(weights)
    first = depth - settings.last_blocks

    def before(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
        tokens = tower.at_block(first).tokens
        for layer in range(first, depth - 1):
            entered = tower.with_tokens(tokens, layer=layer)
            tokens = entered.last_block(weights(entered))
        return (tower.with_tokens(tokens),)

    return DenseRule(weights, before=before, capture=CaptureSpec(last_blocks=settings.last_blocks))


def check_last_blocks(settings: SclipSettings, vision: Vision) -> None:
    """Check that the tower has that many blocks, and one before them.

    Raises:
        InputError: it has not.
    """
    most = len(vision.blocks) - 1
    if settings.last_blocks > most:
        raise InputError(
            f"last_blocks is {settings.last_blocks}, but these weights have {most + 1} blocks. "
            f"Give 1 to {most}."
        )


SCLIP_BARE = DenseRule(correlative, block_form="bare")


# -- Ablations -----------------------------------------------------------------------------------------------


def query_only(tower: TowerFeatures, times: int = 1) -> Attention:
    """Attend to tokens with a similar query. Rows sum to `times`."""
    return affinity(tower.q, tower.q) * times


def key_only(tower: TowerFeatures, times: int = 1) -> Attention:
    """Attend to tokens with a similar key. Rows sum to `times`."""
    return affinity(tower.k, tower.k) * times


def unprojected(tower: TowerFeatures) -> Attention:
    """Attend to tokens that are similar before any projection, per head. Rows sum to 1.

    The paper gives softmax(X Xᵀ / t) without heads; splitting into heads with t = 8 is this project's
    interpretation.
    """
    z = tower.block.attn.split(tower.z)
    return affinity(z, z)


def unprojected_single_head(tower: TowerFeatures) -> Attention:
    """`unprojected` without heads, as in the paper, with t the square root of the width."""
    z = tower.z[:, None]
    weights = affinity(z, z)
    return weights.expand(-1, tower.block.attn.heads, -1, -1)


@dataclass(frozen=True, kw_only=True)
class RandomSettings(VariantSettings):
    """Settings of sclip-random."""

    ensemble: int = 1
    """Number of random projections to average."""
    ensemble_seed: int = 0
    """Seed of the projections (NumPy's PCG64)."""

    def __post_init__(self) -> None:
        check_number("ensemble", self.ensemble, 1, 64, whole=True)
        check_number("ensemble_seed", self.ensemble_seed, 0, whole=True)


def random_ensemble(settings: RandomSettings, depth: int) -> DenseRule:
    """The mean of softmax(z W Wᵀ zᵀ / 8) over random matrices W, per head. Rows sum to 1."""

    def weights(tower: TowerFeatures) -> Attention:
        width = tower.z.shape[-1]
        rng = np.random.Generator(np.random.PCG64(settings.ensemble_seed))
        total: Tensor | None = None
        for _ in range(settings.ensemble):
            matrix = rng.standard_normal((width, width), dtype=np.float32) * width**-0.5
            part = _projected_attention(tower, torch.from_numpy(matrix).to(tower.z.device))
            total = part if total is None else total + part
        assert total is not None  # `ensemble` is at least 1
        return total / settings.ensemble

    return DenseRule(weights)


def _projected_attention(tower: TowerFeatures, matrix: Float[Tensor, "d d"]) -> Attention:
    projected: Heads = tower.block.attn.split(tower.z @ matrix)
    return affinity(projected, projected)


_SOURCE = "SCLIP, Wang et al., ECCV 2024"
_ABLATION = f"{_SOURCE}, ablation"

METHODS = (
    dense_method(
        "sclip",
        sclip,
        "query-query plus key-key attention",
        _SOURCE,
        settings=SclipSettings,
        check=check_last_blocks,
    ),
    dense_method(
        "sclip-bare",
        SCLIP_BARE,
        "SCLIP without residual and MLP",
        "ClearCLIP, Lan et al., ECCV 2024, ablation",
    ),
    dense_method("sclip-q", DenseRule(query_only), "query-query attention alone", _ABLATION),
    dense_method("sclip-k", DenseRule(key_only), "key-key attention alone", _ABLATION),
    dense_method(
        "sclip-q2", DenseRule(partial(query_only, times=2)), "query-query attention, doubled", _ABLATION
    ),
    dense_method("sclip-k2", DenseRule(partial(key_only, times=2)), "key-key attention, doubled", _ABLATION),
    dense_method("sclip-identity", DenseRule(unprojected), "attention without projections", _ABLATION),
    dense_method(
        "sclip-identity-whole",
        DenseRule(unprojected_single_head),
        "attention without projections and without heads",
        _ABLATION,
    ),
    dense_method(
        "sclip-random",
        random_ensemble,
        "attention through random projections",
        _ABLATION,
        settings=RandomSettings,
    ),
)
