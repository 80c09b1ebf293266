"""What the tables measure: tagging and segmentation setups, their recipes, and the form of their results."""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float32, Int
from numpy import ndarray

from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.resolve import mask_recipe, tag_recipe
from tagmask.settings.presets.own_words import own_tag_first, own_tags
from tagmask.settings.recipes import MaskRecipe, Recipe, TagFirstRecipe, TagRecipe

__all__ = [
    "Counts",
    "MaskSetup",
    "Scores",
    "Settings",
    "Setup",
    "TagSetup",
    "mask_recipe_of",
    "recipe_of",
    "tag_recipe_of",
]

Counts = Int[ndarray, "n k k"]
"""Per scene: pixels by true class and predicted class."""

Scores = Float32[ndarray, "n c"]
"""Per scene: the score of each object class."""

Settings = tuple[tuple[str, Any], ...]
"""Names and values; pairs, not a mapping, so that setups are hashable."""


@dataclass(frozen=True)
class TagSetup:
    """A tagging setup."""

    settings: Settings = ()
    """Settings of the `Tagger`, `method` and `as_` included."""
    patches: str | None = None
    """If given, a dense method: score each class by its best patch, without refinement."""
    adapted: bool = False
    """Whether the tagger is first adapted to the same scenes (`Tagger.adapt`)."""
    noise: float = 0.0
    """TagCLIP only: standard deviation of Gaussian noise on the patches' logits."""
    false_patches: float = 0.0
    """TagCLIP only: share of random patches that are certain of a random text."""

    @property
    def is_tagclip(self) -> bool:
        """Whether it is TagCLIP, with any settings."""
        return self.patches is None and not self.adapted and "method" not in dict(self.settings)


@dataclass(frozen=True)
class MaskSetup:
    """A segmentation setup."""

    method: str = "sclip"
    settings: Settings = ()
    """Settings of the `Segmenter`, including the method's own."""
    tags: str | None = None
    """Candidate classes. None: all. "found": the tags predicted by TagCLIP. "true": the ground-truth tags."""
    tagger: Settings = ()
    """Settings of CLS-SEG's tagger, for "found"."""
    names: str = "one"
    """Names per class. "one": its name; "four": its name, plain and in three colours; "uneven": four names
    for every other class, one for the rest."""


Setup = TagSetup | MaskSetup


def recipe_of(setup: Setup) -> Recipe:
    """Return the recipe that a setup runs, with every setting.

    What a setup does besides is in its own fields: best patches, adaptation, noise, candidate classes.
    """
    return tag_recipe_of(setup) if isinstance(setup, TagSetup) else mask_recipe_of(setup)


def tag_recipe_of(setup: TagSetup) -> TagRecipe:
    """Return the recipe of a tagging setup."""
    overrides = dict(setup.settings)
    as_ = overrides.pop("as_", None)
    return tag_recipe(words=CLASS_NAMES, background=BACKGROUND_NAMES, as_=as_, overrides=overrides)


def mask_recipe_of(setup: MaskSetup) -> MaskRecipe | TagFirstRecipe:
    """Return the recipe of a segmentation setup."""
    settings = dict(setup.settings)
    if setup.method == "cls-seg":
        tagger = tag_recipe(own_tags(CLASS_NAMES, BACKGROUND_NAMES), overrides=dict(setup.tagger))
        recipe = replace(own_tag_first(CLASS_NAMES, BACKGROUND_NAMES), tagger=tagger)
        return mask_recipe(recipe, overrides=settings)
    words = [_words(word, setup.names, i) for i, word in enumerate(CLASS_NAMES)]
    return mask_recipe(None, words, BACKGROUND_NAMES, overrides={"method": setup.method, **settings})


def _words(word: str, names: str, i: int) -> str:
    many = names == "four" or (names == "uneven" and i % 2 == 0)
    return ", ".join([word, *(f"{colour} {word}" for colour in ("red", "blue", "green"))]) if many else word
