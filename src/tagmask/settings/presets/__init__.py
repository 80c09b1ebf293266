"""Presets: the recipe behind each row of the papers' tables, by name."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from tagmask.settings.presets.dense import dense_presets
from tagmask.settings.presets.freecp import freecp_presets
from tagmask.settings.presets.masks import mask_presets
from tagmask.settings.presets.tags import tag_presets
from tagmask.settings.recipes import Recipe

__all__ = ["all_presets"]


@cache
def all_presets() -> Mapping[str, Recipe]:
    """Return all recipes by name, "METHOD/DATASET"."""
    presets: list[Recipe] = [*tag_presets(), *dense_presets(), *freecp_presets(), *mask_presets()]
    return MappingProxyType({preset.name: preset for preset in presets})
