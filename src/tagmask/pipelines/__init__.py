"""How each kind of method runs: from a recipe and a frozen CLIP to something that is called with images."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from tagmask.catalogue import method_of
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.pipelines.adaptation import Adaptation
from tagmask.pipelines.adaptive import PiaaPipeline, SparcPipeline
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.labelled import LabelledImage, MaskPipeline
from tagmask.pipelines.tag_first import TagFirstPipeline
from tagmask.pipelines.tagging import OnePassPipeline, TagclipPipeline, TagPipeline
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe

__all__ = ["LabelledImage", "MaskPipeline", "TagPipeline", "mask_pipeline", "tag_pipeline"]

MASK_PIPELINES: Mapping[str, Callable[..., MaskPipeline]] = MappingProxyType(
    {"dense": DensePipeline, "tag_first": TagFirstPipeline}
)
TAG_PIPELINES: Mapping[str, Callable[..., TagPipeline]] = MappingProxyType(
    {
        "tagclip": TagclipPipeline,
        "one_pass": OnePassPipeline,
        "sparc": SparcPipeline,
        "piaa": PiaaPipeline,
    }
)


def mask_pipeline(clip: Clip, recipe: MaskRecipe | TagFirstRecipe) -> MaskPipeline:
    """What masks images by a recipe."""
    return MASK_PIPELINES[method_of(recipe).kind](clip, recipe)


def tag_pipeline(clip: Clip, recipe: TagRecipe, learned: Adaptation | None = None) -> TagPipeline:
    """What scores images by a recipe.

    Raises:
        InputError: something learned by another method, for other words or with other weights.
    """
    found = method_of(recipe)
    build = TAG_PIPELINES[found.kind]
    if found.adapts:
        return build(clip, recipe, learned)
    if learned is not None:
        raise InputError(
            f"an adapter of {learned.method} is of no use to {recipe.name}; give method={learned.method!r}"
        )
    return build(clip, recipe)
