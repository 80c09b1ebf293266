"""The protocol of a benchmark run: a recipe, and how its results are scored."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from tagmask.bench.groups import GROUPS
from tagmask.bench.metrics import Average
from tagmask.bench.trained import TRAINED, TrainedRecipe, trained_recipe
from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.resolve import mask_recipe, recipe, recipes, tag_recipe
from tagmask.settings.recipes import Recipe, TagRecipe

__all__ = ["MASK_METRICS", "METRICS", "TAG_METRICS", "Protocol", "Scoring", "made_recipe", "recipe_names"]

MASK_METRICS = ("miou",)
TAG_METRICS = ("map", "precision", "recall", "f1")
METRICS: Mapping[str, str] = MappingProxyType(
    {"miou": "mIoU", "map": "mAP", "precision": "precision", "recall": "recall", "f1": "F1"}
)
"""Display names of the metrics; all in percent."""

_TAGGER = "tagger."


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A metric and the details of its computation."""

    metric: str = "miou"
    average: Average = "union"
    """Classes in the mean IoU: those in the ground truth or the predictions, or those in the ground truth."""
    groups: str | None = None
    """Coarser classes (`groups.GROUPS`) to which predictions and ground truth are mapped before scoring."""

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, (*MASK_METRICS, *TAG_METRICS))
        check_choice("average", self.average, ("union", "truth"))
        if self.groups is not None:
            check_choice("groups", self.groups, tuple(GROUPS))


@dataclass(frozen=True, kw_only=True)
class Protocol(Scoring):
    """A recipe, and how its results are scored."""

    recipe: Recipe | TrainedRecipe

    def __post_init__(self) -> None:
        super().__post_init__()
        metrics = TAG_METRICS if self.tags else MASK_METRICS
        if self.metric not in metrics:
            raise InputError(
                f"Metric {self.metric!r} does not fit {self.recipe.name}. Give one of {', '.join(metrics)}."
            )

    @property
    def tags(self) -> bool:
        """Whether tags are scored, not masks."""
        return self.recipe.gives == "tags"

    @property
    def given_tags(self) -> bool:
        """Whether the method receives each image's ground-truth tags."""
        return self.recipe.needs_tags


def recipe_names() -> tuple[str, ...]:
    """Names of all recipes that can be measured: those of CLIP's methods, and those of trained networks."""
    return (*recipes(), *TRAINED)


def made_recipe(name: str, settings: Mapping[str, object], as_: str | None = None) -> Recipe | TrainedRecipe:
    """Build a recipe by name with overridden settings.

    Args:
        name: "METHOD/DATASET".
        settings: fields by name; "tagger.FIELD" is a field of CLS-SEG's tagger.
        as_: "published", "corrected", "printed" or None.

    Raises:
        InputError: an unknown recipe, or a setting that it does not have.

    Example:
        >>> made_recipe("tagclip/voc2012", {"cwr": False}).variant.cwr
        False
    """
    if name in TRAINED:
        return trained_recipe(name, settings)
    base = recipe(name)
    if isinstance(base, TagRecipe):
        return tag_recipe(base, as_=as_, overrides=settings)
    tagger_settings = {k.removeprefix(_TAGGER): v for k, v in settings.items() if k.startswith(_TAGGER)}
    mask_settings = {k: v for k, v in settings.items() if not k.startswith(_TAGGER)}
    result = mask_recipe(name, as_=as_, overrides=mask_settings)
    if not tagger_settings:
        return result
    if result.tagger is None:
        raise InputError(f"{name} has no tagger. Remove the setting {_TAGGER}{next(iter(tagger_settings))}.")
    return replace(result, tagger=tag_recipe(result.tagger, overrides=tagger_settings))
