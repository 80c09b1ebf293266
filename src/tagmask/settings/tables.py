"""The settings behind each row of the papers' tables, and those for a user's own words.

A recipe is data: a frozen dataclass that holds every name and number a method needs. Those named after a data
set are as published; a data set's name means nothing to the methods themselves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from tagmask.checks import check_number
from tagmask.papers.sclip import SclipSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.settings.words import read_list

__all__ = [
    "MaskRecipe",
    "Recipe",
    "TagRecipe",
    "all_recipes",
    "names_in",
    "own_masks",
    "own_tags",
]


@dataclass(frozen=True, kw_only=True)
class TagRecipe(TagclipSettings):
    """Everything a `Tagger` needs beside the weights."""

    name: str
    words: tuple[str, ...]
    """One line a class; several names separated by comma and blank."""
    background: tuple[str, ...]
    """Names that compete in the softmax and are never tags."""
    templates: tuple[str, ...]
    """Sentences of the prompt ensemble."""
    min_score: float = 0.0
    """Tags have at least this score, whatever the others have."""
    top: int | None = None
    """At most so many tags."""

    def __post_init__(self) -> None:
        TagclipSettings.__post_init__(self)
        check_number("min_score", self.min_score, 0, 1)
        if self.top is not None:
            check_number("top", self.top, 1, whole=True)


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


Recipe = TagRecipe | MaskRecipe


def own_tags(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, usual: tuple[str, ...] = ()
) -> TagRecipe:
    """Tag with a user's own words: TagCLIP's settings for PASCAL VOC, with its background words.

    Background words that the user asks for are left out. `usual` replaces the built-in ones, for weights that
    do not know them. Images are brought to the size of the papers'
    photos, at most 1200 patches (480 x 640 pixels with patches of 16), at least 196.
    """
    if background is None:
        background = _without(usual or read_list("background_voc"), words)
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
        background = _without(usual or _coco_object_background(), words)
    return MaskRecipe(
        name="sclip",
        words=words,
        background=background,
        templates=read_list("sclip_templates80"),
        logit_scale=50.0,
        prob_thd=0.1 if background else 0.0,
    )


@cache
def all_recipes() -> Mapping[str, Recipe]:
    """Every recipe by name."""
    recipes: list[Recipe] = [*_tagclip(), *_sclip(), *_sclip(pamr_steps=10)]
    return MappingProxyType({recipe.name: recipe for recipe in recipes})


def _tagclip() -> list[TagRecipe]:
    """Table 10 of settings in the authors' program: VOC and COCO alike, COCO-Stuff on its own."""
    voc, coco = read_list("voc_tag"), read_list("coco80_tag")
    not_voc, not_coco = read_list("background_voc"), read_list("background_coco")
    prompts = read_list("prompts_tag85")
    return [
        TagRecipe(name="tagclip/voc2007", words=voc, background=not_voc, templates=prompts),
        TagRecipe(name="tagclip/voc2012", words=voc, background=not_voc, templates=prompts),
        TagRecipe(name="tagclip/coco2014", words=coco, background=not_coco, templates=prompts),
        TagRecipe(name="tagclip/coco2017", words=coco, background=not_coco, templates=prompts),
        TagRecipe(
            name="tagclip/coco-stuff",
            words=read_list("cocostuff171_tag"),
            background=(),
            templates=prompts,
            attention_layers=tuple(range(11)),
            candidate_tau=0.1,
            tag_tau=0.1,
        ),
    ]


def _sclip(pamr_steps: int = 0) -> list[MaskRecipe]:
    """The eight benchmarks of the authors' configurations; only three have a background class."""
    method = "sclip+pamr" if pamr_steps else "sclip"

    def recipe(
        dataset: str,
        file: str,
        *,
        background: bool = False,
        short_side: int = 336,
        logit_scale: float = 40.0,
        prob_thd: float = 0.0,
        area_thd: float | None = None,
    ) -> MaskRecipe:
        lines = read_list(file)
        return MaskRecipe(
            name=f"{method}/{dataset}",
            words=lines[1:] if background else lines,
            background=tuple(lines[0].split(", ")) if background else (),
            templates=read_list("sclip_templates80"),
            short_side=short_side,
            logit_scale=logit_scale,
            prob_thd=prob_thd,
            area_thd=area_thd,
            pamr_steps=pamr_steps,
        )

    return [
        recipe("voc21", "sclip_voc21", background=True, logit_scale=65.0, prob_thd=0.1, area_thd=0.1),
        recipe("voc20", "sclip_voc20"),
        recipe("context60", "sclip_context60", background=True, logit_scale=50.0, prob_thd=0.1),
        recipe("context59", "sclip_context59"),
        recipe("coco-object", "sclip_coco_object", background=True, logit_scale=50.0, prob_thd=0.1),
        recipe("coco-stuff", "sclip_coco_stuff", short_side=448),
        recipe("cityscapes", "sclip_cityscapes", short_side=560),
        recipe("ade20k", "sclip_ade20k"),
    ]


def _coco_object_background() -> tuple[str, ...]:
    return tuple(read_list("sclip_coco_object")[0].split(", "))


def names_in(lines: Iterable[str]) -> set[str]:
    """Every name in class lines, case folded."""
    return {name.strip().casefold() for line in lines for name in line.split(", ")}


def _without(background: tuple[str, ...], words: tuple[str, ...]) -> tuple[str, ...]:
    """Background names less those that are asked for as words."""
    asked = names_in(words)
    return tuple(name for name in background if name.casefold() not in asked)
