"""SC-CLIP: mend the odd patches, then let patches that were alike before stay alike.

    S. Bai et al. "Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation", 2024.

The last block sees patches only. X_l is the stream after block l; layer numbers are for 12 layers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from tagmask.dense.features import Keep, Pass
from tagmask.dense.rule import DenseRule, Layers, LayerSettings, affinity
from tagmask.method import dense_method
from tagmask.types import Attention, Tokens
from tagmask.variants.similarity import (
    cut,
    gram,
    lone_outliers,
    on_square_grid,
    repair,
    row_normalised,
    similarity_softmax,
)

__all__ = [
    "JOINED",
    "METHODS",
    "ODD_IN",
    "SHARP",
    "ScClipSettings",
    "class_and_kin",
    "joined_layers",
    "sc_clip",
]

ODD_IN, SHARP, JOINED = 8, 3, tuple(range(3, 10))
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
    alike = layers(ODD_IN)

    def before(x: Pass) -> tuple[Pass, ...]:
        patches = x.tokens[:, 1:]
        odd = lone_outliers(patches)
        odd = on_square_grid(odd, x.grid) if settings.square_outliers else odd
        similar = gram(repair(x.states[alike][:, 1:], odd, x.grid))
        mended = row_normalised(cut(similar)) @ repair(patches, odd, x.grid)
        prior = similarity_softmax(similar)[:, None]
        return x.carrying(mended, prior), x.carrying(joined_layers(x, layers)[:, 1:], prior)

    def weights(x: Pass) -> Attention:
        assert x.prior is not None  # `before` made it
        return (affinity(x.k, x.k) + x.prior) / 2

    mid = Keep(states=frozenset(map(layers, (ODD_IN, SHARP, *JOINED))))
    after = class_and_kin(layers)
    return DenseRule(weights, keep="bare", mid=mid, before=before, after=after)


def class_and_kin(layers: Layers) -> Callable[[Pass, tuple[Pass, ...], tuple[Tokens, ...]], Tokens]:
    """A share of the class token's stream for every patch, then the mean over its like; streams summed."""
    early = layers(SHARP)

    def after(x: Pass, streams: tuple[Pass, ...], outs: tuple[Tokens, ...]) -> Tokens:
        kin = row_normalised(cut(gram(x.states[early][:, 1:])))
        last, all_layers = x.tokens[:, :1], joined_layers(x, layers)[:, :1]
        return kin @ (outs[0] + CLASS_SHARE * last) + kin @ (outs[1] + CLASS_SHARE * all_layers)

    return after


def joined_layers(x: Pass, layers: Layers) -> Tokens:
    """The sum of the streams after blocks 3 to 9."""
    states = [x.states[layers(layer)] for layer in JOINED]
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
