"""Recipes for a user's own words: the settings of one of each paper's data sets, without its names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe, remove_names
from tagmask.settings.words import read_list

__all__ = ["PHOTO_PATCHES", "default_background", "own_masks", "own_tag_first", "own_tags"]

PHOTO_PATCHES: Mapping[str, Any] = MappingProxyType({"min_patches": 196, "max_patches": 1200})
"""Images are brought to the size of the papers' photos: at most 480 x 640 pixels with patches of 16."""


def default_background(words: tuple[str, ...], known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """TagCLIP's background words for PASCAL VOC, less those that are given as words.

    Args:
        words: class lines.
        known: used instead of the built-in ones, for weights that do not know those.
    """
    return remove_names(known or read_list("background_voc"), words)


def own_tags(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, known: tuple[str, ...] = ()
) -> TagRecipe:
    """Tag with a user's own words: TagCLIP's settings for PASCAL VOC.

    Args:
        words: class lines.
        background: background words; None: `default_background`.
        known: see there.
    """
    return TagRecipe(
        name="tagclip",
        method="tagclip",
        words=words,
        background=default_background(words, known) if background is None else background,
        templates=read_list("prompts_tag85"),
        variant=TagclipSettings(**PHOTO_PATCHES),
    )


def own_masks(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, known: tuple[str, ...] = ()
) -> MaskRecipe:
    """Mask with a user's own words: SCLIP's settings for COCO-Object, with its background words.

    Pixels that resemble a background word most, or no word enough (`prob_thd`), are background. Without
    background words there is no background class, and no threshold: every pixel gets the word it resembles
    most.

    Args:
        words: class lines.
        background: background words; None: the built-in ones, less those that are given as words.
        known: used instead of the built-in ones, for weights that do not know those.
    """
    if background is None:
        background = remove_names(known or tuple(read_list("sclip_coco_object")[0].split(", ")), words)
    return MaskRecipe(
        name="sclip",
        words=words,
        background=background,
        templates=read_list("sclip_templates80"),
        logit_scale=50.0,
        prob_thd=0.1 if background else 0.0,
    )


def own_tag_first(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, known: tuple[str, ...] = ()
) -> TagFirstRecipe:
    """Tag, then mask the tags, with a user's own words: CLS-SEG with CLIP-ES's settings for PASCAL VOC.

    Arguments as `own_tags`.
    """
    tagger = own_tags(words, background, known)
    return TagFirstRecipe(
        name="cls-seg",
        method="cls-seg",
        words=words,
        background=tagger.background,
        tagger=tagger,
        variant=ClipEsSettings(**PHOTO_PATCHES),
    )
