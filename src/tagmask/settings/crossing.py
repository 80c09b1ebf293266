"""One recipe's data set, another method: `recipe="A/D", method="B"` where A and B are of different kinds.

What belongs to the data set and the harness stays A's: names, templates, refinement, and whether there is a
background. What is B's own comes from the recipe `B/D` if there is one, else from B's defaults.
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from tagmask.papers.inputs import InputSettings
from tagmask.settings.kinds import (
    AnyTagRecipe,
    MaskRecipe,
    Recipe,
    TagMaskRecipe,
    TagRecipe,
    own_masks,
    own_tag_masks,
)
from tagmask.settings.taggers import own_recipe
from tagmask.variants.rule import RuleSettings

__all__ = ["TAG_METHOD", "crossed", "tags_crossed"]

TAG_METHOD = "cls-seg"
"""The method, among those that mask, that masks tags."""


def crossed(
    base: MaskRecipe | TagMaskRecipe, method: object, known: Mapping[str, Recipe]
) -> MaskRecipe | TagMaskRecipe:
    """The recipe turned into one of the other kind, if the method asked for is of that kind.

    Within a kind, the method's own numbers are taken from its recipe for that data set, if there is one.
    """
    dataset = base.name.partition("/")[2]
    if isinstance(base, MaskRecipe) and method == TAG_METHOD:
        return _to_tags(base, known.get(f"{TAG_METHOD}/{dataset}"))
    if isinstance(base, TagMaskRecipe) and method not in (None, TAG_METHOD):
        return _to_words(base, str(method), known.get(f"{method}/{dataset}"))
    if isinstance(base, MaskRecipe) and method is not None:
        return _with_rule(base, str(method), known.get(f"{method}/{dataset}"))
    return base


def _with_rule(base: MaskRecipe, method: str, found: Recipe | None) -> MaskRecipe:
    own = found if isinstance(found, MaskRecipe) else RuleSettings()
    numbers = {field.name: getattr(own, field.name) for field in fields(RuleSettings)}
    return base if method == base.method else replace(base, **numbers)


def tags_crossed(base: AnyTagRecipe, method: object, known: Mapping[str, Recipe]) -> AnyTagRecipe:
    """The tag recipe turned into another method's: names, templates and image size stay.

    Raises:
        InputError: no such method.
    """
    own, _, dataset = base.name.partition("/")
    if method == own:
        return base
    found = known.get(f"{method}/{dataset}")
    settings = found if isinstance(found, AnyTagRecipe) else own_recipe(method, base.words, base.background)
    return replace(
        settings,
        name=f"{method} on {base.name}",
        words=base.words,
        background=base.background,
        templates=base.templates,
        min_score=base.min_score,
        top=base.top,
        **_image_size(base, settings),  # type: ignore[arg-type]  # fields of these kinds
    )


def _image_size(base: AnyTagRecipe, settings: AnyTagRecipe) -> dict[str, object]:
    """How the one brings an image to the tower, as far as the other can."""
    if not isinstance(base, TagRecipe | InputSettings):
        return {}
    patches: dict[str, object] = {"min_patches": base.min_patches, "max_patches": base.max_patches}
    if isinstance(settings, InputSettings):
        return {"input": base.input if isinstance(base, InputSettings) else "native", **patches}
    return patches


def _to_tags(base: MaskRecipe, found: Recipe | None) -> TagMaskRecipe:
    own = own_tag_masks(base.words, base.background or None)
    settings = found if isinstance(found, TagMaskRecipe) else own
    # Without rivals a single tag has no gradient; a recipe without background leaves the choice of them to B.
    rivals = base.background or settings.background
    tagger = settings.tagger or own.tagger
    return replace(
        settings,
        name=f"{TAG_METHOD} on {base.name}",
        words=base.words,
        background=rivals,
        prompts=(),
        templates=base.templates,
        tagger=tagger and replace(tagger.with_names(base.words, rivals), templates=base.templates),
        background_power=(settings.background_power or 1.0) if base.background else None,
        pamr_steps=base.pamr_steps,
        pamr_dilations=base.pamr_dilations,
        crf=base.crf,
        crf_wrapped=False,
    )


def _to_words(base: TagMaskRecipe, method: str, found: Recipe | None) -> MaskRecipe:
    background = base.background if base.background_power is not None else ()
    settings = found if isinstance(found, MaskRecipe) else own_masks(base.words, background)
    return replace(
        settings,
        name=f"{method} on {base.name}",
        words=base.words,
        background=background,
        templates=base.templates,
        pamr_steps=base.pamr_steps,
        pamr_dilations=base.pamr_dilations,
        crf=base.crf,
    )
