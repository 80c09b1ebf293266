"""SFP: SC-CLIP's plan with other outliers, those that the class token looks at more than they do themselves.

S. Jin et al. "Feature Purification Matters: Suppressing Outlier Propagation for Training-Free
Open-Vocabulary Semantic Segmentation", ICCV 2025.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from tagmask.dense.features import CaptureSpec, TowerFeatures
from tagmask.dense.rule import DenseRule, Layers, affinity
from tagmask.method import dense_method
from tagmask.types import Attention
from tagmask.variants.sc_clip import (
    OUTLIER_LAYER,
    SHARP_LAYER,
    SUMMED_LAYERS,
    ScClipSettings,
    add_class_token_and_smooth,
    summed_layers,
)
from tagmask.variants.similarity import (
    as_on_square_grid,
    cosine_similarity,
    drop_below,
    lof_outliers,
    normalise_rows,
    repair_outliers,
    similarity_softmax,
)

__all__ = ["METHODS", "SfpSettings", "class_outliers", "long_outliers", "sfp"]

_MOST = 10
_PULL = 1.5


@dataclass(frozen=True, kw_only=True)
class SfpSettings(ScClipSettings):
    """Of the method."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("zero_repair", *ScClipSettings.QUIRKS)

    zero_repair: bool = False
    """As published, an outlier among outliers becomes zero, and its window not a number."""


def class_outliers(tower: TowerFeatures, layer: int) -> Bool[Tensor, "b p"]:
    """Up to ten patches that the class token attends to, times 1.5, more than they do to themselves."""
    attention = tower.attention[layer]
    pull = _PULL * attention[:, 0, 1:]
    own = attention.diagonal(dim1=1, dim2=2)[:, 1:]
    best = pull.masked_fill(pull <= own, -torch.inf).topk(min(_MOST, pull.shape[1]), dim=1)
    return torch.zeros_like(pull, dtype=torch.bool).scatter(1, best.indices, best.values > -torch.inf)


def long_outliers(tower: TowerFeatures) -> Bool[Tensor, "b p"]:
    """The ten patches of the greatest length."""
    length = torch.linalg.vector_norm(tower.tokens[:, 1:], dim=-1)
    longest = length.topk(min(_MOST, length.shape[1]), dim=1).indices
    return torch.zeros_like(length, dtype=torch.bool).scatter(1, longest, True)


def sfp(settings: SfpSettings, depth: int, outliers: str = "class") -> DenseRule:
    """SFP; `outliers` are "class" (the paper's), "length", or "lone" (SC-CLIP's)."""
    layers = Layers(depth, settings.absolute_layers)
    alike, watched = layers(OUTLIER_LAYER), layers(10)
    find: dict[str, Callable[[TowerFeatures], Bool[Tensor, "b p"]]] = {
        "class": partial(class_outliers, layer=watched),
        "length": long_outliers,
        "lone": lambda x: lof_outliers(x.tokens[:, 1:]),
    }

    def before(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
        odd = find[outliers](tower)
        odd = as_on_square_grid(odd, tower.grid) if settings.square_outliers else odd
        mend = partial(repair_outliers, odd=odd, grid=tower.grid, zero=settings.zero_repair)
        similar = drop_below(cosine_similarity(mend(tower.states[alike][:, 1:])))
        mended = normalise_rows(similar) @ mend(tower.tokens[:, 1:])
        prior = similarity_softmax(similar)[:, None]
        return tower.with_tokens(mended, prior), tower.with_tokens(summed_layers(tower, layers)[:, 1:], prior)

    def weights(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # `before` made it
        return (affinity(tower.k, tower.k) + affinity(tower.q, tower.q) + tower.prior) / 3

    def second(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # `before` made it
        return tower.prior.expand(-1, tower.block.attn.heads, -1, -1)

    states = frozenset(map(layers, (OUTLIER_LAYER, SHARP_LAYER, *SUMMED_LAYERS)))
    capture = CaptureSpec(states=states, attention=frozenset({watched} if outliers == "class" else ()))
    return DenseRule(
        weights,
        second,
        block_form="bare",
        capture=capture,
        before=before,
        after=add_class_token_and_smooth(layers),
    )


_SOURCE = "SFP, Jin et al., ICCV 2025"

METHODS = (
    dense_method("sfp", sfp, "SC-CLIP's plan with the class token's outliers", _SOURCE, settings=SfpSettings),
    dense_method(
        "sfp-length",
        partial(sfp, outliers="length"),
        "SFP with the longest patches",
        _SOURCE,
        settings=SfpSettings,
    ),
    dense_method(
        "sfp-lone",
        partial(sfp, outliers="lone"),
        "SFP with SC-CLIP's outliers",
        _SOURCE,
        settings=SfpSettings,
    ),
)
