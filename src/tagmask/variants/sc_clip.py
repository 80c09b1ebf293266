"""SC-CLIP: mend the odd patches, then let patches that were alike before stay alike.

    S. Bai et al. "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation", 2024.

The last block sees patches only. X_l is the stream after block l; layer numbers are for 12 layers.
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
    "OUTLIER_LAYER",
    "SHARP_LAYER",
    "SUMMED_LAYERS",
    "ScClipSettings",
    "add_class_token_and_smooth",
    "sc_clip",
    "summed_layers",
]

OUTLIER_LAYER, SHARP_LAYER, SUMMED_LAYERS = 8, 3, tuple(range(3, 10))
"""Layers: whose patches tell who is alike; whose patches the result is spread over; that are summed."""
CLASS_SHARE = 0.3
"""Of the class token's stream, added to every patch."""


@dataclass(frozen=True, kw_only=True)
class ScClipSettings(LayerSettings):
    """Of the method."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("square_outliers", *LayerSettings.QUIRKS)

    square_outliers: bool = False
    """As published, outliers are placed as if the grid were square."""


def sc_clip(settings: ScClipSettings, depth: int) -> DenseRule:
    """SC-CLIP."""
    layers = Layers(depth, settings.absolute_layers)
    alike = layers(OUTLIER_LAYER)

    def before(tower: TowerFeatures) -> tuple[TowerFeatures, ...]:
        patches = tower.tokens[:, 1:]
        odd = lof_outliers(patches)
        odd = as_on_square_grid(odd, tower.grid) if settings.square_outliers else odd
        similar = cosine_similarity(repair_outliers(tower.states[alike][:, 1:], odd, tower.grid))
        mended = normalise_rows(drop_below(similar)) @ repair_outliers(patches, odd, tower.grid)
        prior = similarity_softmax(similar)[:, None]
        return tower.with_tokens(mended, prior), tower.with_tokens(summed_layers(tower, layers)[:, 1:], prior)

    def weights(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # `before` made it
        return (affinity(tower.k, tower.k) + tower.prior) / 2

    capture = CaptureSpec(states=frozenset(map(layers, (OUTLIER_LAYER, SHARP_LAYER, *SUMMED_LAYERS))))
    after = add_class_token_and_smooth(layers)
    return DenseRule(weights, block_form="bare", capture=capture, before=before, after=after)


def add_class_token_and_smooth(
    layers: Layers,
) -> Callable[[TowerFeatures, tuple[TowerFeatures, ...], tuple[Tokens, ...]], Tokens]:
    """A share of the class token's stream for every patch, then the mean over its like; streams summed."""
    early = layers(SHARP_LAYER)

    def after(tower: TowerFeatures, streams: tuple[TowerFeatures, ...], outs: tuple[Tokens, ...]) -> Tokens:
        kin = normalise_rows(drop_below(cosine_similarity(tower.states[early][:, 1:])))
        last, all_layers = tower.tokens[:, :1], summed_layers(tower, layers)[:, :1]
        return kin @ (outs[0] + CLASS_SHARE * last) + kin @ (outs[1] + CLASS_SHARE * all_layers)

    return after


def summed_layers(tower: TowerFeatures, layers: Layers) -> Tokens:
    """The sum of the streams after blocks 3 to 9."""
    states = [tower.states[layers(layer)] for layer in SUMMED_LAYERS]
    total = states[0].clone()
    for state in states[1:]:
        total += state
    return total


METHODS = (
    dense_method(
        "sc-clip",
        sc_clip,
        "odd patches mended, like patches averaged",
        "SC-CLIP, Bai et al., 2024",
        settings=ScClipSettings,
    ),
)
