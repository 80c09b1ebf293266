"""What one benchmark run does: a recipe, and how its answers are scored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from tagmask.bench.groups import GROUPS
from tagmask.bench.metrics import Average
from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.settings.kinds import AnyTagRecipe, Recipe, TagMaskRecipe, TagRecipe
from tagmask.settings.lookup import mask_recipe, recipe, tag_recipe

__all__ = ["MASK_METRICS", "METRICS", "TAG_METRICS", "Protocol", "made_recipe", "parsed_settings"]

MASK_METRICS = ("miou",)
TAG_METRICS = ("map", "precision", "recall", "f1")
METRICS: Mapping[str, str] = MappingProxyType(
    {"miou": "mIoU", "map": "mAP", "precision": "precision", "recall": "recall", "f1": "F1"}
)
"""What people call them; all in percent."""

Value: TypeAlias = object
_TAGGER = "tagger."


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to get one number."""

    recipe: Recipe
    metric: str = "miou"
    average: Average = "union"
    """Of the classes' IoU: over those that truth or masks hold, or those that the truth holds."""
    groups: str | None = None
    """Coarser classes (`groups.GROUPS`) that masks and truth are counted by."""

    def __post_init__(self) -> None:
        wanted = TAG_METRICS if isinstance(self.recipe, AnyTagRecipe) else MASK_METRICS
        if self.metric not in wanted:
            raise InputError(
                f"{self.recipe.name} is scored by {', '.join(wanted)}, and {self.metric!r} was asked for"
            )
        check_choice("average", self.average, ("union", "truth"))
        if self.groups is not None:
            check_choice("groups", self.groups, tuple(GROUPS))

    @property
    def tags(self) -> bool:
        """Tags are scored, not masks."""
        return isinstance(self.recipe, AnyTagRecipe)

    @property
    def told(self) -> bool:
        """The method is told each image's true tags."""
        return isinstance(self.recipe, TagMaskRecipe) and self.recipe.tagger is None


def made_recipe(name: str, settings: Mapping[str, Value], as_: str | None = None) -> Recipe:
    """A recipe by name with single settings changed.

    Args:
        name: "METHOD/DATASET".
        settings: fields by name; "tagger.FIELD" is a field of the tagger that CLS-SEG finds its tags with.
        as_: "published", "corrected" or None.

    Raises:
        InputError: no such recipe, or a setting it does not take.

    Example:
        >>> made_recipe("tagclip/voc2012", {"cwr": False}).cwr
        False
    """
    base = recipe(name)
    if isinstance(base, AnyTagRecipe):
        return tag_recipe(base, None, None, as_, settings)
    deeper = {k.removeprefix(_TAGGER): v for k, v in settings.items() if k.startswith(_TAGGER)}
    own = {k: v for k, v in settings.items() if not k.startswith(_TAGGER)}
    if deeper:
        if not isinstance(base, TagMaskRecipe) or base.tagger is None:
            raise InputError(f"{name} has no tagger, so {_TAGGER}{next(iter(deeper))} cannot be set")
        tagger = tag_recipe(base.tagger, None, None, None, deeper)
        if not isinstance(tagger, TagRecipe):
            raise InputError(
                f"{name} masks the tags that TagCLIP finds; its tagger cannot be of another method"
            )
        base = replace(base, tagger=tagger)
    return mask_recipe(base, None, None, as_, own)


def parsed_settings(given: Sequence[str]) -> dict[str, Value]:
    """Settings from texts such as "prob_thd=0.3", "cwr=false", "confidence=none", "method=maskclip".

    Raises:
        InputError: a text without "=", or a field twice.

    Example:
        >>> parsed_settings(["prob_thd=0.3", "attention_layers=[8, 9]", "method=maskclip", "crf=none"])
        {'prob_thd': 0.3, 'attention_layers': (8, 9), 'method': 'maskclip', 'crf': None}
    """
    settings: dict[str, Value] = {}
    for text in given:
        field, equals, value = text.partition("=")
        if not equals or not field.strip():
            raise InputError(f"the setting {text!r} is none; give FIELD=VALUE, as in prob_thd=0.3")
        if field.strip() in settings:
            raise InputError(f"the setting {field.strip()} is given twice; give it once")
        settings[field.strip()] = _value(value.strip())
    return settings


def _value(text: str) -> Value:
    if text == "none":
        return None
    try:
        value: Value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value
