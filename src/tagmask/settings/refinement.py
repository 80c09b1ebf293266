"""Names of the command line that Python accepts too, and the recipe fields that they set."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType

from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.refine.tlp import TlpSettings
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe

__all__ = ["ACCEPTED_NAMES", "REFINERS", "expand_names", "refinement"]

REFINERS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        "none": MappingProxyType({"pamr_steps": 0, "crf": None, "tlp_steps": 0}),
        "pamr": MappingProxyType({"pamr_steps": 10, "crf": None, "tlp_steps": 0}),
        "tlp": MappingProxyType({"pamr_steps": 0, "crf": None, "tlp_steps": 25}),
        "crf": MappingProxyType({"pamr_steps": 0, "crf": "cls-seg", "tlp_steps": 0}),
    }
)
"""The values of `refine=` and of `--refine`, and the settings that each stands for."""


ACCEPTED_NAMES = frozenset({"threshold", "refine"})
"""Names of the command line that stand for recipe fields."""


def expand_names(settings: Mapping[str, object] | None) -> dict[str, object]:
    """Replace the command line's names, `threshold` and `refine`, by the recipe fields that they stand for.

    Fields that are given themselves win over `refine`. None is "none", as settings in texts are parsed.

    Raises:
        InputError: no such refiner, or both names of one field.

    Example:
        >>> expand_names({"threshold": 0.3, "refine": "tlp", "tlp_steps": 5})
        {'pamr_steps': 0, 'crf': None, 'tlp_steps': 5, 'prob_thd': 0.3}
    """
    given = dict(settings or {})
    if "threshold" in given:
        if "prob_thd" in given:
            raise InputError("threshold and prob_thd are one setting. Give one of them.")
        given["prob_thd"] = given.pop("threshold")
    if "refine" not in given:
        return given
    name = given.pop("refine")
    name = "none" if name is None else name
    check_choice("refine", name, tuple(REFINERS))
    return {**REFINERS[str(name)], **given}


def refinement(recipe: MaskRecipe | TagFirstRecipe) -> dict[str, object]:
    """Return every setting of a recipe that refines its scores."""
    return {
        "pamr_steps": recipe.pamr_steps,
        "pamr_dilations": recipe.pamr_dilations,
        "crf": recipe.crf,
        **{setting.name: getattr(recipe, setting.name) for setting in fields(TlpSettings)},
    }
