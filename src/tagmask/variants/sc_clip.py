"""SC-CLIP: repair outlier patches, then average patches that are similar in earlier layers.

    S. Bai et al. "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation", 2024.

The last block processes patches only, without the class token. Layer numbers are for a tower of 12 layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tagmask.dense.features import CaptureSpec, TowerFeatures
from tagmask.dense.rule import DenseRule, Layers, LayerSettings, affinity
from tagmask.method import dense_method
from tagmask.types import Attention, Tokens
from tagmask.variants.similarity import (
    as_on_square_grid,
    cosine_similarity,
    drop_below,
    lof_outliers,
    normalise_rows,
    repair_outliers,
    similarity_softmax,
)

__all__ = [
    "METHODS",
    "SIMILARITY_LAYER",
    "SMOOTHING_LAYER",
    "SUMMED_LAYERS",
    "ScClipSettings",
    "add_class_token_and_smooth",
    "sc_clip",
    "summed_layers",
]

SIMILARITY_LAYER, SMOOTHING_LAYER, SUMMED_LAYERS = 8, 3, tuple(range(3, 10))
"""Layers for the similarity of patches, for smoothing the result, and to sum for the second stream."""
CLASS_SHARE = 0.3
"""Share of the class token that is added to every patch."""


@dataclass(frozen=True, kw_only=True)
class ScClipSettings(LayerSettings):
    """Settings of SC-CLIP."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("square_outliers", *LayerSettings.QUIRKS)

    square_outliers: bool = False
    """As published, outlier positions are computed as if the grid were square."""


def sc_clip(settings: ScClipSettings, depth: int) -> DenseRule:
    """Build the rule of SC-CLIP."""
    layers = Layers(depth, settings.absolute_layers)
    similarity_layer = layers(SIMILARITY_LAYER)

    def before(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
        patches = tower.tokens[:, 1:]
        outliers = lof_outliers(patches)
        outliers = as_on_square_grid(outliers, tower.grid) if settings.square_outliers else outliers
        repaired = repair_outliers(tower.states[similarity_layer][:, 1:], outliers, tower.grid)
        similarity = cosine_similarity(repaired)
        aggregated = normalise_rows(drop_below(similarity)) @ repair_outliers(patches, outliers, tower.grid)
        prior = similarity_softmax(similarity)[:, None]
        return tower.with_tokens(aggregated, prior), tower.with_tokens(
            summed_layers(tower, layers)[:, 1:], prior
        )

    def weights(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # set by `before`
        return (affinity(tower.k, tower.k) + tower.prior) / 2

    capture = CaptureSpec(states=frozenset(map(layers, (SIMILARITY_LAYER, SMOOTHING_LAYER, *SUMMED_LAYERS))))
    after = add_class_token_and_smooth(layers)
    return DenseRule(weights, block_form="bare", capture=capture, before=before, after=after)


def add_class_token_and_smooth(
    layers: Layers,
) -> Callable[[TowerFeatures, tuple[TowerFeatures, ...], tuple[Tokens, ...]], Tokens]:
    """Add a share of the class token to every patch, average over similar patches, and sum the streams."""
    smoothing_layer = layers(SMOOTHING_LAYER)

    def after(tower: TowerFeatures, streams: tuple[TowerFeatures, ...], outs: tuple[Tokens, ...]) -> Tokens:
        smoothing = normalise_rows(drop_below(cosine_similarity(tower.states[smoothing_layer][:, 1:])))
        last, all_layers = tower.tokens[:, :1], summed_layers(tower, layers)[:, :1]
        first_stream = smoothing @ (outs[0] + CLASS_SHARE * last)
        return first_stream + smoothing @ (outs[1] + CLASS_SHARE * all_layers)

    return after


def summed_layers(tower: TowerFeatures, layers: Layers) -> Tokens:
    """The sum of the outputs of blocks 3 to 9."""
    states = [tower.states[layers(layer)] for layer in SUMMED_LAYERS]
    total = states[0].clone()
    for state in states[1:]:
        total += state
    return total


METHODS = (
    dense_method(
        "sc-clip",
        sc_clip,
        "repairs outlier patches, averages similar patches",
        "SC-CLIP, Bai et al., 2024",
        settings=ScClipSettings,
    ),
)
