"""What a recipe is: a frozen dataclass that holds every name and number a method needs.

Own words get a recipe too, made here; those of the papers are in `tables`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from tagmask.checks import check_choice, check_number
from tagmask.errors import InputError
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.sclip_windows import SclipSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.refine.crf import CRF_SETTINGS
from tagmask.refine.pamr import check_pamr
from tagmask.settings.words import read_list

__all__ = [
    "AnyTagRecipe",
    "MaskRecipe",
    "Recipe",
    "TagMaskRecipe",
    "TagRecipe",
    "names_in",
    "own_masks",
    "own_tag_masks",
    "own_tags",
    "without",
]

_TagRecipe = TypeVar("_TagRecipe", bound="AnyTagRecipe")

ORIGAMI = "a clean origami {}."
"""The sentence that CLIP-ES asks with."""


@dataclass(frozen=True, kw_only=True)
class AnyTagRecipe:
    """What every recipe of a `Tagger` holds; each method adds its own numbers."""

    name: str
    words: tuple[str, ...]
    """One line a class; several names separated by comma and blank."""
    background: tuple[str, ...]
    """Names that compete in the softmax and are never tags."""
    templates: tuple[str, ...]
    """Sentences of the prompt ensemble."""
    min_score: float | None = None
    """Tags have at least this score, whatever the others have."""
    top: int | None = None
    """At most so many tags."""
    tag_tau: float = 0.5
    """Tags score above this share of the image's range of scores, where no threshold is given."""
    thresholds: tuple[float | None, ...] = ()
    """The score that each word must exceed, as learnt from labelled images; None, or none at all: the image's
    own range decides."""

    def __post_init__(self) -> None:
        check_number("tag_tau", self.tag_tau, 0, 1)
        if self.min_score is not None:
            check_number("min_score", self.min_score, -math.inf)
        if self.top is not None:
            check_number("top", self.top, 1, whole=True)
        if self.thresholds and len(self.thresholds) != len(self.words):
            raise InputError(
                f"got {len(self.thresholds)} thresholds for {len(self.words)} words; give one a word, or none"
            )
        for threshold in self.thresholds:
            if threshold is not None:
                check_number("a threshold", threshold, -math.inf)

    def with_names(self: _TagRecipe, words: tuple[str, ...], background: tuple[str, ...]) -> _TagRecipe:
        """The same settings for other names; thresholds stay with the words they were learnt for."""
        kept = self.thresholds if (words, background) == (self.words, self.background) else ()
        return replace(self, words=words, background=background, thresholds=kept)


@dataclass(frozen=True, kw_only=True)
class TagRecipe(TagclipSettings, AnyTagRecipe):
    """Everything that tagging by TagCLIP needs beside the weights."""

    def __post_init__(self) -> None:
        TagclipSettings.__post_init__(self)
        AnyTagRecipe.__post_init__(self)
        if self.min_score is not None:
            check_number("min_score", self.min_score, 0, 1)


@dataclass(frozen=True, kw_only=True)
class MaskRecipe(SclipSettings):
    """Everything a `Segmenter` needs beside the weights."""

    name: str
    words: tuple[str, ...]
    """One line a foreground class; several names separated by comma and blank."""
    background: tuple[str, ...]
    """Names of the background class, which is label 0; empty where there is none."""
    templates: tuple[str, ...]
    """Sentences of the prompt ensemble."""
    among: str = "words"
    """"words": every word competes in every image; "tags": only those that a tagger finds there."""
    tagger: TagRecipe | None = None
    """How they are found; None: as for own words."""
    crf: str | None = None
    """Settings of a dense CRF by name (`tagmask.refine.crf`), after everything else; None leaves it out."""

    def __post_init__(self) -> None:
        SclipSettings.__post_init__(self)
        check_choice("among", self.among, ("words", "tags"))
        _check_crf(self.crf)

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "MaskRecipe":
        """The same settings for other names."""
        return replace(self, words=words, background=background)


@dataclass(frozen=True, kw_only=True)
class TagMaskRecipe(ClipEsSettings):
    """Everything a `Segmenter` that masks tags needs beside the weights: CLS-SEG and CLIP-ES."""

    name: str
    words: tuple[str, ...]
    """One line a class; several names separated by comma and blank. Tags are found by these."""
    background: tuple[str, ...]
    """Names that compete with the tags. They are no class: what no tag claims is background."""
    templates: tuple[str, ...] = (ORIGAMI,)
    """Sentences that masks are asked with."""
    prompts: tuple[str, ...] = ()
    """What masks call each class, where that is not the word: one text a class, or nothing."""
    tagger: TagRecipe | None
    """How tags are found where the caller gives none; None: the caller must."""
    pamr_steps: int = 0
    """Rounds of pixel-adaptive refinement; 0 leaves it out."""
    pamr_dilations: tuple[int, ...] = (8, 16)
    """Pixels between neighbours of the refinement."""
    crf: str | None = None
    """Settings of a dense CRF by name (`tagmask.refine.crf`); None leaves it out."""
    crf_wrapped: bool = False
    """As coded: the CRF sees an image whose dark pixels have wrapped around to bright ones."""

    def __post_init__(self) -> None:
        ClipEsSettings.__post_init__(self)
        if self.prompts and len(self.prompts) != len(self.words):
            raise InputError(
                f"got {len(self.prompts)} prompts for {len(self.words)} words; give one a word, or none"
            )
        check_pamr(self.pamr_steps, self.pamr_dilations)
        _check_crf(self.crf)

    def with_names(self, words: tuple[str, ...], background: tuple[str, ...]) -> "TagMaskRecipe":
        """The same settings for other names; masks then call each class by its word."""
        return replace(
            self,
            words=words,
            background=background,
            prompts=self.prompts if words == self.words else (),
            tagger=self.tagger and self.tagger.with_names(words, background),
        )


Recipe = AnyTagRecipe | MaskRecipe | TagMaskRecipe


def _check_crf(name: str | None) -> None:
    if name is not None:
        check_choice("crf", name, tuple(CRF_SETTINGS))


def own_tags(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, usual: tuple[str, ...] = ()
) -> TagRecipe:
    """Tag with a user's own words: TagCLIP's settings for PASCAL VOC, with its background words.

    Background words that the user asks for are left out. `usual` replaces the built-in ones, for weights that
    do not know them. Images are brought to the size of the papers'
    photos, at most 1200 patches (480 x 640 pixels with patches of 16), at least 196.
    """
    if background is None:
        background = without(usual or read_list("background_voc"), words)
    templates = read_list("prompts_tag85")
    return TagRecipe(
        name="tagclip",
        words=words,
        background=background,
        templates=templates,
        min_patches=196,
        max_patches=1200,
    )


def own_masks(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, usual: tuple[str, ...] = ()
) -> MaskRecipe:
    """Mask with a user's own words: SCLIP's settings for COCO-Object, with its background words.

    Pixels that resemble a background word most, or no word enough (`prob_thd`), are background. Background
    words that the user asks for are left out. `usual` replaces the built-in ones, for weights that do not
    know them. Without background words there is no background class, and no
    threshold: every pixel gets the word it resembles most.
    """
    if background is None:
        background = without(usual or _coco_object_background(), words)
    return MaskRecipe(
        name="sclip",
        words=words,
        background=background,
        templates=read_list("sclip_templates80"),
        logit_scale=50.0,
        prob_thd=0.1 if background else 0.0,
    )


def own_tag_masks(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, usual: tuple[str, ...] = ()
) -> TagMaskRecipe:
    """Tag, then mask the tags, with a user's own words: CLS-SEG with CLIP-ES's settings for PASCAL VOC.

    Background words and image sizes as in `own_tags`.
    """
    tagger = own_tags(words, background, usual)
    return TagMaskRecipe(
        name="cls-seg",
        words=words,
        background=tagger.background,
        tagger=tagger,
        min_patches=tagger.min_patches,
        max_patches=tagger.max_patches,
    )


def _coco_object_background() -> tuple[str, ...]:
    return tuple(read_list("sclip_coco_object")[0].split(", "))


def names_in(lines: Iterable[str]) -> set[str]:
    """Every name in class lines, case folded."""
    return {name.strip().casefold() for line in lines for name in line.split(", ")}


def without(background: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    """Background names less those that are asked for as words."""
    asked = names_in(words)
    return tuple(name for name in background if name.casefold() not in asked)
