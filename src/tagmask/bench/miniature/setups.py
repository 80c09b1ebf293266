"""What the tables measure: tagging and segmentation setups, their recipes, and the form of their results."""

from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Float32, Int
from numpy import ndarray

from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS
from tagmask.resolve import mask_recipe, tag_recipe
from tagmask.settings.presets.own_words import own_tag_first, own_tags
from tagmask.settings.recipes import MaskRecipe, Recipe, TagFirstRecipe, TagRecipe, remove_names
from tagmask.settings.words import read_list

__all__ = [
    "COLOURED",
    "MANY_WORDS",
    "OBJECT_BACKGROUND",
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

Counts = Int[ndarray, "n k p"]
"""Per scene: pixels by true class and predicted class. A column beyond the classes counts other words."""

Scores = Float32[ndarray, "n c"]
"""Per scene: the score of each object class."""

Settings = tuple[tuple[str, Any], ...]
"""Names and values; pairs, not a mapping, so that setups are hashable."""


COLOURED = tuple((kind, colour) for colour in range(len(COLOURS)) for kind in range(len(CLASS_NAMES)))[:176]
"""Class and colour of each word of `MANY_WORDS` after the classes' names."""

MANY_WORDS = (*CLASS_NAMES, *(f"{tuple(COLOURS)[colour]} {CLASS_NAMES[kind]}" for kind, colour in COLOURED))
"""The classes' names, then names in a colour: 200 words."""

OBJECT_BACKGROUND = remove_names(tuple(read_list("sclip_coco_object")[0].split(", ")), CLASS_NAMES)
"""The background texts for own words of weights that bring none."""


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
    background: str = "own"
    """Background texts. "own": the ten of this world; "one": the first of them; "unknown": COCO-Object's;
    "auto": chosen for the words."""
    names: str = "one"
    """"one": the names of the classes; "many": `MANY_WORDS`."""

    @property
    def is_tagclip(self) -> bool:
        """Whether it is TagCLIP, with any settings."""
        return self.patches is None and not self.adapted and "method" not in dict(self.settings)

    @property
    def has_own_words(self) -> bool:
        """Whether it has the names of the classes and the backgrounds of this world."""
        return (self.background, self.names) == ("own", "one")


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
    for every other class, one for the rest; "many": `MANY_WORDS`."""
    background: str = "own"
    """As for tags."""


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
    words, background = _words_of(setup.names), _background(setup.background)
    return tag_recipe(words=words, background=background, as_=as_, overrides=overrides)


def mask_recipe_of(setup: MaskSetup) -> MaskRecipe | TagFirstRecipe:
    """Return the recipe of a segmentation setup."""
    settings = dict(setup.settings)
    if setup.method == "cls-seg":
        names = _words_of(setup.names), _background(setup.background)
        tagger = tag_recipe(own_tags(*names), overrides=dict(setup.tagger))
        recipe = replace(own_tag_first(*names), tagger=tagger)
        return mask_recipe(recipe, overrides=settings)
    words = _words_of(setup.names)
    overrides = {"method": setup.method, **settings}
    return mask_recipe(None, words, _background(setup.background), overrides=overrides)


def _words_of(names: str) -> tuple[str, ...]:
    if names == "many":
        return MANY_WORDS
    return tuple(_words(word, names, i) for i, word in enumerate(CLASS_NAMES))


def _background(name: str) -> tuple[str, ...]:
    """The background texts; of "auto" those that are replaced when the weights are known."""
    if name == "one":
        return BACKGROUND_NAMES[:1]
    return OBJECT_BACKGROUND if name == "unknown" else BACKGROUND_NAMES


def _words(word: str, names: str, i: int) -> str:
    many = names == "four" or (names == "uneven" and i % 2 == 0)
    return ", ".join([word, *(f"{colour} {word}" for colour in ("red", "blue", "green"))]) if many else word
