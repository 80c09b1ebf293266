"""What a recipe is: a frozen dataclass that holds every name and number a method needs.

    Recipe                 names, templates, method, and the method's own numbers (`variant`)
    ├── TagRecipe          for a `Tagger`: which scores become tags
    ├── MaskRecipe         for a `Segmenter`, words compete in every pixel: the sliding-window harness
    └── TagFirstRecipe      for a `Segmenter`, tags first and masks of them

A data set's name means nothing to a method: it is only part of a recipe's name.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from typing import ClassVar, TypeVar

from tagmask.checks import check_choice, check_number
from tagmask.dense.rule import VariantSettings
from tagmask.dense.sliding import SlidingSettings
from tagmask.errors import InputError
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.refine.pamr import check_pamr

__all__ = ["MaskRecipe", "Recipe", "TagFirstRecipe", "TagRecipe", "names_in", "remove_names"]

_Recipe = TypeVar("_Recipe", bound="Recipe")

ORIGAMI = "a clean origami {}."
"""The sentence that CLIP-ES asks with."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the recipes of all methods hold."""

    gives: ClassVar[str]
    """What comes of it: "tags" or "masks"."""
    QUIRKS: ClassVar[tuple[str, ...]] = ()
    """Settings that are True as published and False as corrected; `variant` has its own."""

    name: str
    method: str
    """Name of the method, see `tagmask.methods()`."""
    words: tuple[str, ...]
    """One line a foreground class; several names separated by comma and blank."""
    background: tuple[str, ...]
    """Names that compete with the words and are never answers."""
    templates: tuple[str, ...]
    """Sentences of the prompt ensemble."""
    variant: object
    """The method's own numbers: its settings class (`tagmask.catalogue`)."""

    @property
    def needs_tags(self) -> bool:
        """Whether the caller must give each image's tags."""
        return False

    def flat(self) -> dict[str, object]:
        """Every setting by name, the method's own among them; a tagger is a mapping of its own."""
        found: dict[str, object] = {}
        for field_ in fields(self):
            value = getattr(self, field_.name)
            if field_.name == "variant":
                found |= asdict(value)
            else:
                found[field_.name] = value.flat() if isinstance(value, Recipe) else value
        return found

    def with_names(self: _Recipe, words: tuple[str, ...], background: tuple[str, ...]) -> _Recipe:
        """The same settings for other names."""
        return replace(self, words=words, background=background)


@dataclass(frozen=True, kw_only=True)
class TagRecipe(Recipe):
    """Everything a `Tagger` needs besides the weights."""

    gives: ClassVar[str] = "tags"

    min_score: float | None = None
    """Tags have at least this score, whatever the others have."""
    top: int | None = None
    """At most so many tags."""
    tag_tau: float = 0.5
    """Tags score above this share of the image's range of scores, where no threshold is given."""
    thresholds: tuple[float | None, ...] = ()
    """The score that each word must exceed, as learned from labelled images; None, or none at all:
    the image's own range decides."""

    def __post_init__(self) -> None:
        check_number("tag_tau", self.tag_tau, 0, 1)
        if self.min_score is not None:
            # TagCLIP's scores are probabilities, those of other methods may be any number.
            low, high = (0, 1) if self.method == "tagclip" else (-math.inf, None)
            check_number("min_score", self.min_score, low, high)
        if self.top is not None:
            check_number("top", self.top, 1, whole=True)
        if self.thresholds and len(self.thresholds) != len(self.words):
            raise InputError(
                f"got {len(self.thresholds)} thresholds for {len(self.words)} words; give one a word, or none"
            )
        for threshold in self.thresholds:
            if threshold is not None:
                check_number("a threshold", threshold, -math.inf)

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "TagRecipe":
        """The same settings for other names; thresholds stay with the words they were learned for."""
        kept = self.thresholds if (words, background) == (self.words, self.background) else ()
        return replace(self, words=words, background=background, thresholds=kept)


@dataclass(frozen=True, kw_only=True)
class MaskRecipe(SlidingSettings, Recipe):
    """Everything a `Segmenter` needs besides the weights, where words compete in every pixel."""

    gives: ClassVar[str] = "masks"

    method: str = "sclip"
    """Name of the attention in the last block, see `tagmask.methods()`."""
    variant: VariantSettings = field(default_factory=VariantSettings)
    """That attention's own numbers."""
    among: str = "words"
    """"words": every word competes in every image; "tags": only those that a tagger finds there."""
    tagger: TagRecipe | None = None
    """How they are found; None where every word competes."""
    crf: str | None = None
    """Settings of a dense CRF by name (`tagmask.refine.crf`), after everything else; None leaves it out."""

    def __post_init__(self) -> None:
        SlidingSettings.__post_init__(self)
        check_choice("among", self.among, ("words", "tags"))
        _check_tagger(self.tagger)
        _check_crf(self.crf)

    @property
    def background_names(self) -> tuple[str, ...] | None:
        """Texts of label 0, the background; None where there is no such label."""
        return self.background or None

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "MaskRecipe":
        """The same settings for other names, also in the tagger."""
        tagger = self.tagger and self.tagger.with_names(words, background)
        return replace(self, words=words, background=background, tagger=tagger)


@dataclass(frozen=True, kw_only=True)
class TagFirstRecipe(Recipe):
    """Everything a `Segmenter` that masks tags needs besides the weights: CLS-SEG and CLIP-ES."""

    gives: ClassVar[str] = "masks"
    QUIRKS: ClassVar[tuple[str, ...]] = ("crf_wrapped",)

    prompts: tuple[str, ...] = ()
    """What masks call each class, where that is not the word: one text a class, or none at all."""
    tagger: TagRecipe | None
    """How tags are found where the caller gives none; None: the caller must."""
    variant: ClipEsSettings
    """CLIP-ES's numbers."""
    templates: tuple[str, ...] = (ORIGAMI,)
    """Sentences that masks are asked with."""
    pamr_steps: int = 0
    """Rounds of pixel-adaptive refinement; 0 leaves it out."""
    pamr_dilations: tuple[int, ...] = (8, 16)
    """Pixels between neighbours of the refinement."""
    crf: str | None = None
    """Settings of a dense CRF by name (`tagmask.refine.crf`); None leaves it out."""
    crf_wrapped: bool = False
    """As coded: the CRF sees an image whose dark pixels have wrapped around to bright ones."""

    def __post_init__(self) -> None:
        if self.prompts and len(self.prompts) != len(self.words):
            raise InputError(
                f"got {len(self.prompts)} prompts for {len(self.words)} words; give one a word, or none"
            )
        _check_tagger(self.tagger)
        check_pamr(self.pamr_steps, self.pamr_dilations)
        _check_crf(self.crf)

    @property
    def needs_tags(self) -> bool:
        """Whether the caller must give each image's tags."""
        return self.tagger is None

    @property
    def background_names(self) -> tuple[str, ...] | None:
        """No texts, since what no tag claims is background; None where there is no such label."""
        return None if self.variant.background_power is None else ()

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "TagFirstRecipe":
        """The same settings for other names; masks then call each class by its word."""
        return replace(
            self,
            words=words,
            background=background,
            prompts=self.prompts if words == self.words else (),
            tagger=self.tagger and self.tagger.with_names(words, background),
        )


def _check_tagger(tagger: TagRecipe | None) -> None:
    if tagger is not None and tagger.method != "tagclip":
        raise InputError(
            f"the tagger's method is {tagger.method!r}; masks of found tags take those of 'tagclip' "
            "(tag by another method first, and give its tags)"
        )


def _check_crf(name: str | None) -> None:
    if name is not None:
        check_choice("crf", name, tuple(CRF_SETTINGS))


def names_in(lines: Iterable[str]) -> set[str]:
    """Every name in class lines, case folded."""
    return {name.strip().casefold() for line in lines for name in line.split(", ")}


def remove_names(background: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    """Background names less those that are given as words."""
    given = names_in(words)
    return tuple(name for name in background if name.casefold() not in given)
