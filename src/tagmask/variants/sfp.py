"""SFP: SC-CLIP with other outliers: patches that the class token attends to more than they do themselves.

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
    SIMILARITY_LAYER,
    SMOOTHING_LAYER,
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

_MAX_OUTLIERS = 10
_CLASS_FACTOR = 1.5


@dataclass(frozen=True, kw_only=True)
class SfpSettings(ScClipSettings):
    """Settings of SFP."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("zero_repair", *ScClipSettings.QUIRKS)

    zero_repair: bool = False
    """As published, an outlier surrounded by outliers becomes 0, and its window NaN."""


def class_outliers(tower: TowerFeatures, layer: int) -> Bool[Tensor, "b p"]:
    """Up to ten patches that get more attention from the class token, times 1.5, than from themselves."""
    attention = tower.attention[layer]
    from_class = _CLASS_FACTOR * attention[:, 0, 1:]
    to_itself = attention.diagonal(dim1=1, dim2=2)[:, 1:]
    candidates = from_class.masked_fill(from_class <= to_itself, -torch.inf)
    top = candidates.topk(min(_MAX_OUTLIERS, from_class.shape[1]), dim=1)
    return torch.zeros_like(from_class, dtype=torch.bool).scatter(1, top.indices, top.values > -torch.inf)


def long_outliers(tower: TowerFeatures) -> Bool[Tensor, "b p"]:
    """The ten patches of the largest norm."""
    norm = torch.linalg.vector_norm(tower.tokens[:, 1:], dim=-1)
    longest = norm.topk(min(_MAX_OUTLIERS, norm.shape[1]), dim=1).indices
    return torch.zeros_like(norm, dtype=torch.bool).scatter(1, longest, True)


def sfp(settings: SfpSettings, depth: int, criterion: str = "class") -> DenseRule:
    """Build the rule of SFP; `criterion` is "class" (the paper's), "norm", or "lof" (SC-CLIP's)."""
    layers = Layers(depth, settings.absolute_layers)
    similarity_layer, attention_layer = layers(SIMILARITY_LAYER), layers(10)
    find: dict[str, Callable[[TowerFeatures], Bool[Tensor, "b p"]]] = {
        "class": partial(class_outliers, layer=attention_layer),
        "norm": long_outliers,
        "lof": lambda x: lof_outliers(x.tokens[:, 1:]),
    }

    def before(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
        outliers = find[criterion](tower)
        outliers = as_on_square_grid(outliers, tower.grid) if settings.square_outliers else outliers
        repair = partial(repair_outliers, outliers=outliers, grid=tower.grid, zero=settings.zero_repair)
        similarity = drop_below(cosine_similarity(repair(tower.states[similarity_layer][:, 1:])))
        aggregated = normalise_rows(similarity) @ repair(tower.tokens[:, 1:])
        prior = similarity_softmax(similarity)[:, None]
        return tower.with_tokens(aggregated, prior), tower.with_tokens(
            summed_layers(tower, layers)[:, 1:], prior
        )

    def weights(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # set by `before`
        return (affinity(tower.k, tower.k) + affinity(tower.q, tower.q) + tower.prior) / 3

    def second(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # set by `before`
        return tower.prior.expand(-1, tower.block.attn.heads, -1, -1)

    states = frozenset(map(layers, (SIMILARITY_LAYER, SMOOTHING_LAYER, *SUMMED_LAYERS)))
    capture = CaptureSpec(
        states=states, attention=frozenset({attention_layer} if criterion == "class" else ())
    )
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
    dense_method("sfp", sfp, "SC-CLIP with outliers found by the class token", _SOURCE, settings=SfpSettings),
    dense_method(
        "sfp-length",
        partial(sfp, criterion="norm"),
        "SFP with the patches of largest norm as outliers",
        _SOURCE,
        settings=SfpSettings,
    ),
    dense_method(
        "sfp-lone",
        partial(sfp, criterion="lof"),
        "SFP with SC-CLIP's outliers",
        _SOURCE,
        settings=SfpSettings,
    ),
)
