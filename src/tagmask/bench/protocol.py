"""What one benchmark run does: a recipe, and how its answers are scored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from tagmask.bench.groups import GROUPS
from tagmask.bench.metrics import Average
from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.resolve import mask_recipe, recipe, tag_recipe
from tagmask.settings.recipes import Recipe, TagRecipe

__all__ = ["MASK_METRICS", "METRICS", "TAG_METRICS", "Protocol", "made_recipe"]

MASK_METRICS = ("miou",)
TAG_METRICS = ("map", "precision", "recall", "f1")
METRICS: Mapping[str, str] = MappingProxyType(
    {"miou": "mIoU", "map": "mAP", "precision": "precision", "recall": "recall", "f1": "F1"}
)
"""What people call them; all in percent."""

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
        wanted = TAG_METRICS if self.tags else MASK_METRICS
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
        return self.recipe.gives == "tags"

    @property
    def given_tags(self) -> bool:
        """The method is told each image's true tags."""
        return self.recipe.needs_tags


def made_recipe(name: str, settings: Mapping[str, object], as_: str | None = None) -> Recipe:
    """A recipe by name with single settings changed.

    Args:
        name: "METHOD/DATASET".
        settings: fields by name; "tagger.FIELD" is a field of the tagger that CLS-SEG finds its tags with.
        as_: "published", "corrected" or None.

    Raises:
        InputError: no such recipe, or a setting it does not take.

    Example:
        >>> made_recipe("tagclip/voc2012", {"cwr": False}).variant.cwr
        False
    """
    base = recipe(name)
    if isinstance(base, TagRecipe):
        return tag_recipe(base, as_=as_, overrides=settings)
    deeper = {k.removeprefix(_TAGGER): v for k, v in settings.items() if k.startswith(_TAGGER)}
    own = {k: v for k, v in settings.items() if not k.startswith(_TAGGER)}
    made = mask_recipe(name, as_=as_, overrides=own)
    if not deeper:
        return made
    if made.tagger is None:
        raise InputError(f"{name} has no tagger, so {_TAGGER}{next(iter(deeper))} cannot be set")
    return replace(made, tagger=tag_recipe(made.tagger, overrides=deeper))
