"""Recipe types: frozen dataclasses with every name and setting that a method needs.

    Recipe                 words, background, templates, method, and the method's settings (`variant`)
    ├── TagRecipe          for a `Tagger`: which scores become tags
    ├── MaskRecipe         for a `Segmenter`: dense methods, words compete in every pixel
    └── TagFirstRecipe     for a `Segmenter`: finds tags first, then masks them

No method depends on the name of a data set: it is only part of a recipe's name.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from tagmask.checks import check_choice, check_number
from tagmask.dense.rule import VariantSettings
from tagmask.dense.sliding import SlidingSettings
from tagmask.errors import InputError
from tagmask.files import file_hash
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.freecp_settings import PurifySettings, deciding_settings
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.refine.pamr import check_pamr
from tagmask.refine.tlp import TlpSettings, check_tlp
from tagmask.variants.sclip import SclipSettings

__all__ = ["MaskRecipe", "Recipe", "TagFirstRecipe", "TagRecipe", "names_in", "remove_names"]

_Recipe = TypeVar("_Recipe", bound="Recipe")

ORIGAMI = "a clean origami {}."
"""The prompt template of CLIP-ES."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Fields that the recipes of all methods share."""

    gives: ClassVar[str]
    """What it gives: "tags" or "masks"."""
    QUIRKS: ClassVar[tuple[str, ...]] = ()
    """Settings that are True as published and False as corrected; `variant` adds its own."""

    name: str
    method: str
    """Name of the method, see `tagmask.methods()`."""
    words: tuple[str, ...]
    """One line per foreground class; several names of a class are separated by ", "."""
    background: tuple[str, ...]
    """Texts that compete with the words and are no class of their own."""
    templates: tuple[str, ...]
    """Prompt templates with "{}" for the name; the text features are averaged over them."""
    variant: object
    """The method's settings: an instance of its settings class (`tagmask.catalogue`)."""

    @property
    def needs_tags(self) -> bool:
        """Whether the caller must give the tags of each image."""
        return False

    def flat(self) -> dict[str, object]:
        """Return every setting by name, including the method's; a tagger is a nested mapping."""
        flat: dict[str, object] = {}
        for field_ in fields(self):
            value = getattr(self, field_.name)
            if field_.name == "variant":
                flat |= asdict(value)
            else:
                flat[field_.name] = value.flat() if isinstance(value, Recipe) else value
        return flat

    def deciding(self) -> dict[str, object]:
        """Return `flat()` with the hash of each file that the method reads in place of its path.

        Settings that are marked as `recorded_if_changed` are left out at their defaults, and so are those of
        the method that have no part in the results.

        Raises:
            InputError: such a file cannot be read.
        """
        flat = self.flat()
        for setting in fields(self):
            if setting.metadata.get("recorded_if_changed") and flat[setting.name] == setting.default:
                del flat[setting.name]
        for name in getattr(self.variant, "idle", ()):
            del flat[name]
        for name in getattr(self.variant, "FILES", ()):
            if flat[name] is not None:
                flat[name] = f"sha256 {file_hash(Path(str(flat[name])))[:16]}"
        return flat

    def with_names(self: _Recipe, words: tuple[str, ...], background: tuple[str, ...]) -> _Recipe:
        """Return the same settings with other names."""
        return replace(self, words=words, background=background)


@dataclass(frozen=True, kw_only=True)
class TagRecipe(Recipe):
    """Everything that a `Tagger` needs, except the weights."""

    gives: ClassVar[str] = "tags"

    min_score: float | None = None
    """Lowest score of a tag, in the method's range; None for no limit."""
    top: int | None = None
    """Greatest number of tags per image; None for no limit."""
    tag_tau: float = 0.5
    """Relative threshold, 0..1: tags score above lowest + tag_tau * (highest - lowest) of the image's scores.
    Used for words without a threshold."""
    thresholds: tuple[float | None, ...] = ()
    """The score that each word must exceed, learned from labelled images (`Tagger.calibrate`). None for words
    that use the relative threshold; empty if all do."""

    def __post_init__(self) -> None:
        check_number("tag_tau", self.tag_tau, 0, 1)
        if self.min_score is not None:
            # TagCLIP's scores are probabilities; other methods' may be any number.
            low, high = (0, 1) if self.method == "tagclip" else (-math.inf, None)
            check_number("min_score", self.min_score, low, high)
        if self.top is not None:
            check_number("top", self.top, 1, whole=True)
        if self.thresholds and len(self.thresholds) != len(self.words):
            raise InputError(
                f"Got {len(self.thresholds)} thresholds for {len(self.words)} words. Give one each, or none."
            )
        for threshold in self.thresholds:
            if threshold is not None:
                check_number("a threshold", threshold, -math.inf)

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "TagRecipe":
        """Return the same settings with other names; thresholds stay only if the names are the same."""
        thresholds = self.thresholds if (words, background) == (self.words, self.background) else ()
        return replace(self, words=words, background=background, thresholds=thresholds)


@dataclass(frozen=True, kw_only=True)
class MaskRecipe(SlidingSettings, PurifySettings, Recipe):
    """Everything that a `Segmenter` with a dense method needs, except the weights."""

    gives: ClassVar[str] = "masks"
    QUIRKS: ClassVar[tuple[str, ...]] = (*SlidingSettings.QUIRKS, *PurifySettings.PURIFY_QUIRKS)

    method: str = "sclip"
    """Name of the method, which defines the attention of the last block; see `tagmask.methods()`."""
    variant: VariantSettings = field(default_factory=SclipSettings)
    """The method's settings."""
    among: str = "words"
    """Candidate classes of an image. "words": all; "tags": those that a tagger finds in it."""
    tagger: TagRecipe | None = None
    """Recipe of that tagger; None if none is used."""
    crf: str | None = None
    """Name of the settings of a final dense CRF (`tagmask.refine.crf`); None for no CRF."""

    def __post_init__(self) -> None:
        SlidingSettings.__post_init__(self)
        PurifySettings.__post_init__(self)
        if self.purifies and self.join == "tokens":
            raise InputError(
                "join='tokens' does not fit purify, which decides in each window. Leave one out."
            )
        check_choice("among", self.among, ("words", "tags"))
        _check_tagger(self.tagger)
        _check_crf(self.crf)

    @property
    def background_names(self) -> tuple[str, ...] | None:
        """Texts of label 0, the background; None if there is no such label."""
        return self.background or None

    @property
    def uses_tagger(self) -> bool:
        """Whether a tagger's results decide: the candidate classes, or which words purification drops."""
        return self.among == "tags" or self.purify == "tags"

    def flat(self) -> dict[str, object]:
        """See `Recipe`; without the settings of a purification that is off, which decide nothing."""
        return deciding_settings(super().flat())

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "MaskRecipe":
        """Return the same settings with other names, in the tagger too."""
        tagger = self.tagger and self.tagger.with_names(words, background)
        return replace(self, words=words, background=background, tagger=tagger)


@dataclass(frozen=True, kw_only=True)
class TagFirstRecipe(TlpSettings, Recipe):
    """Everything that a `Segmenter` that masks tags (CLS-SEG, CLIP-ES) needs, except the weights."""

    gives: ClassVar[str] = "masks"
    QUIRKS: ClassVar[tuple[str, ...]] = ("crf_wrapped",)

    prompts: tuple[str, ...] = ()
    """Prompts of the masks, one text per class; empty to use the words."""
    tagger: TagRecipe | None
    """Recipe that finds the tags if the caller gives none; None: the caller must give them."""
    variant: ClipEsSettings
    """CLIP-ES's settings."""
    templates: tuple[str, ...] = (ORIGAMI,)
    """Prompt templates of the masks."""
    pamr_steps: int = 0
    """Rounds of pixel-adaptive refinement (PAMR); 0 for none."""
    pamr_dilations: tuple[int, ...] = (8, 16)
    """Distances to the neighbouring pixels of PAMR, in pixels."""
    crf: str | None = None
    """Name of the settings of a final dense CRF (`tagmask.refine.crf`); None for no CRF."""
    crf_wrapped: bool = False
    """As coded: the CRF gets an image whose dark pixels have wrapped around to bright values."""

    def __post_init__(self) -> None:
        if self.prompts and len(self.prompts) != len(self.words):
            raise InputError(
                f"Got {len(self.prompts)} prompts for {len(self.words)} words. Give one each, or none."
            )
        _check_tagger(self.tagger)
        check_pamr(self.pamr_steps, self.pamr_dilations)
        check_tlp(self)
        _check_crf(self.crf)

    @property
    def needs_tags(self) -> bool:
        """Whether the caller must give the tags of each image."""
        return self.tagger is None

    @property
    def background_names(self) -> tuple[str, ...] | None:
        """Empty, as pixels of no tag are background; None if there is no background label."""
        return None if self.variant.background_power is None else ()

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "TagFirstRecipe":
        """Return the same settings with other names; prompts stay only if the words are the same."""
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
            f"The tagger's method is {tagger.method!r}; only 'tagclip' can tag inside a segmenter. "
            "Tag with a Tagger first, and pass tags=."
        )


def _check_crf(name: str | None) -> None:
    if name is not None:
        check_choice("crf", name, tuple(CRF_SETTINGS))


def names_in(lines: Iterable[str]) -> set[str]:
    """Return every name in class lines, case-folded."""
    return {name.strip().casefold() for line in lines for name in line.split(", ")}


def remove_names(background: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the background texts that are not among the words."""
    given = names_in(words)
    return tuple(name for name in background if name.casefold() not in given)
