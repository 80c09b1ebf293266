"""Recipes for a user's words: each paper's settings for one of its data sets, without its names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.tagclip import TagclipSettings
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe, remove_names
from tagmask.settings.words import read_list

__all__ = ["PHOTO_PATCHES", "default_background", "own_masks", "own_tag_first", "own_tags"]

PHOTO_PATCHES: Mapping[str, Any] = MappingProxyType({"min_patches": 196, "max_patches": 1200})
"""Limits on the number of patches, so that images have the size of the papers' photos: at most 480 x 640
pixels with patches of 16."""


def default_background(words: tuple[str, ...], known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return TagCLIP's background texts for PASCAL VOC that are not among the words.

    Args:
        words: class lines.
        known: background texts to use instead, for weights that do not know the built-in ones.
    """
    return remove_names(known or read_list("background_voc"), words)


def own_tags(
    words: tuple[str, ...], background: tuple[str, ...] | None = None, known: tuple[str, ...] = ()
) -> TagRecipe:
    """Return the recipe to tag with a user's words: TagCLIP's settings for PASCAL VOC.

    Args:
        words: class lines.
        background: background texts; None for `default_background`.
        known: as for `default_background`.
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
    """Return the recipe to mask with a user's words: SCLIP's settings and background for COCO-Object.

    Pixels whose best text is a background text, or whose best probability is below `prob_thd`, are
    background. Without background texts there is no background class and no threshold: every pixel gets
    its best word.

    Args:
        words: class lines.
        background: background texts; None for the built-in ones that are not among the words.
        known: background texts to use instead, for weights that do not know the built-in ones.
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
    """Return the recipe to tag, then mask the tags: CLS-SEG with CLIP-ES's settings for PASCAL VOC.

    Arguments as for `own_tags`.
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
