"""Combinations of methods that no paper describes."""

from dataclasses import replace

from tagmask.dense.features import TowerFeatures
from tagmask.dense.rule import DenseRule, affinity
from tagmask.method import dense_method
from tagmask.types import Attention
from tagmask.variants.sc_clip import ScClipSettings, sc_clip
from tagmask.variants.similarity import gaussian_prior

__all__ = ["METHODS", "sc_clip_near"]


def sc_clip_near(settings: ScClipSettings, depth: int) -> DenseRule:
    """SC-CLIP with NACLIP's prior for neighbouring patches on its key-key attention."""

    def weights(tower: TowerFeatures) -> Attention:
        assert tower.prior is not None  # set by SC-CLIP's `before`
        proximity = gaussian_prior(tower.grid)[1:, 1:].to(tower.k.device)  # no class token here
        return (affinity(tower.k, tower.k, proximity) + tower.prior) / 2

    return replace(sc_clip(settings, depth), weights=weights)


METHODS = (
    dense_method(
        "sc-clip-near",
        sc_clip_near,
        "SC-CLIP with NACLIP's prior for neighbouring patches",
        "this project's combination",
        settings=ScClipSettings,
    ),
)
