"""Convert recipes between dense methods, whose words compete in every pixel, and methods that mask tags."""

from dataclasses import replace
from typing import Any, cast

from tagmask.method import Method
from tagmask.settings.presets import own_words
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe
from tagmask.settings.refinement import refinement

__all__ = ["tagger_of", "to_dense", "to_tag_first"]


def tagger_of(found: Method, tagger: TagRecipe | None) -> TagRecipe | None:
    """The tagger of CLS-SEG; CLIP-ES has none, as the caller gives each image's tags."""
    return None if found.name == "clip-es" else tagger


def to_tag_first(
    base: MaskRecipe | TagFirstRecipe, new: Method, preset: TagFirstRecipe | None
) -> TagFirstRecipe:
    """Return a recipe that masks tags, with the base's names, templates and refinement.

    Args:
        base: the recipe to convert.
        new: the method.
        preset: the method's recipe for the same data set, if there is one.
    """
    default = own_words.own_tag_first(base.words, base.background or None)
    model = preset or default
    # A single tag has no gradient without competing texts: a recipe without background takes the method's.
    background = base.background or model.background
    tagger = tagger_of(new, model.tagger or default.tagger)
    power = model.variant.background_power or 1.0
    return replace(
        model,
        name=f"{new.name} on {base.name}",
        method=new.name,
        words=base.words,
        background=background,
        prompts=(),
        templates=base.templates,
        tagger=tagger and replace(tagger.with_names(base.words, background), templates=base.templates),
        variant=replace(model.variant, background_power=None if base.background_names is None else power),
        crf_wrapped=False,
        **cast(Any, refinement(base)),
    )


def to_dense(base: TagFirstRecipe, new: Method, preset: MaskRecipe | None) -> MaskRecipe:
    """Return a recipe of a dense method. Arguments as for `to_tag_first`."""
    background = () if base.background_names is None else base.background
    model = preset or replace(
        own_words.own_masks(base.words, background), method=new.name, variant=new.default_settings()
    )
    return replace(
        model,
        name=f"{new.name} on {base.name}",
        words=base.words,
        background=background,
        templates=base.templates,
        **cast(Any, refinement(base)),
    )
