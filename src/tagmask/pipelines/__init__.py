"""Pipelines: for each kind of method, a class that takes a frozen CLIP and a recipe and processes images."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tagmask.catalogue import method_of
from tagmask.clip.load import Clip
from tagmask.dense.descriptions import Descriptions, descriptions_of
from tagmask.dense.prompts import split_names
from tagmask.errors import InputError
from tagmask.pipelines.adaptation import Adaptation
from tagmask.pipelines.adaptive import PiaaPipeline, SparcPipeline
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.freecp_tags import FreecpPipeline
from tagmask.pipelines.head import Head
from tagmask.pipelines.labelled import LabelledImage, MaskPipeline
from tagmask.pipelines.tag_first import TagFirstPipeline
from tagmask.pipelines.tagging import OnePassPipeline, TagclipPipeline, TagPipeline
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe

__all__ = ["LabelledImage", "MaskPipeline", "TagPipeline", "describe", "mask_pipeline", "tag_pipeline"]

MASK_PIPELINES: Mapping[str, Callable[..., MaskPipeline]] = MappingProxyType(
    {"dense": DensePipeline, "tag_first": TagFirstPipeline}
)
TAG_PIPELINES: Mapping[str, Callable[..., TagPipeline]] = MappingProxyType(
    {
        "tagclip": TagclipPipeline,
        "one_pass": OnePassPipeline,
        "freecp": FreecpPipeline,
        "sparc": SparcPipeline,
        "piaa": PiaaPipeline,
    }
)


def describe(clip: Clip, recipe: MaskRecipe | TagFirstRecipe, given: object) -> Descriptions | None:
    """Return the descriptions of a recipe's words, for purification; None if none are given.

    Args:
        clip: the frozen model, which encodes sentences.
        recipe: of a mask method.
        given: see `descriptions_of`; or None.

    Raises:
        InputError: they do not fit the words, or the recipe does not purify.
    """
    if given is None:
        return None
    if not isinstance(recipe, MaskRecipe) or not recipe.purifies:
        raise InputError("descriptions have no effect without purify. Give purify=True too.")
    return descriptions_of(clip, given, split_names(recipe.words).classes)


def mask_pipeline(
    clip: Clip,
    recipe: MaskRecipe | TagFirstRecipe,
    descriptions: Descriptions | None = None,
    head: Head | None = None,
) -> MaskPipeline:
    """Build the pipeline that masks images by a recipe.

    Args:
        clip: the frozen model.
        recipe: of a mask method.
        descriptions: from `describe`, for a recipe that purifies.
        head: what corrected masks taught, if anything.

    Raises:
        InputError: the head belongs to another method, other words or other weights; or the recipe has no
            scores that a head could correct.
    """
    pipeline = MASK_PIPELINES[method_of(recipe).kind]
    if isinstance(recipe, MaskRecipe):
        if head is not None and recipe.purifies:
            raise InputError("A head corrects scores, which purify does not use. Leave one of them out.")
        return pipeline(clip, recipe, descriptions, head)
    if head is not None:
        raise InputError(
            f"{recipe.method} masks tags and has no scores that a head could correct. Give a dense method."
        )
    return pipeline(clip, recipe)


def tag_pipeline(clip: Clip, recipe: TagRecipe, adaptation: Adaptation | None = None) -> TagPipeline:
    """Build the pipeline that tags images by a recipe.

    Args:
        clip: the frozen model.
        recipe: of a tagging method.
        adaptation: what the method learned from a set of images, if it needs one.

    Raises:
        InputError: the adaptation belongs to another method, other words or other weights.
    """
    method = method_of(recipe)
    pipeline = TAG_PIPELINES[method.kind]
    if method.adapts:
        return pipeline(clip, recipe, adaptation)
    if adaptation is not None:
        raise InputError(
            f"{recipe.name} cannot use an adapter of {adaptation.method}. Give method={adaptation.method!r}."
        )
    return pipeline(clip, recipe)
