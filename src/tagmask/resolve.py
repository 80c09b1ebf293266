"""Resolve a recipe name, words, a method and single settings to one checked recipe.

Settings are resolved here only. Resolving is idempotent: a resolved recipe, resolved again without further
arguments, stays the same.

    recipe or words -> other method -> user's names -> quirks (`as_`) -> single settings -> its tagger
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike
from typing import Any, TypeVar, cast

from tagmask.catalogue import method, method_names, method_of, registered_methods
from tagmask.checks import check_choice, did_you_mean, shown
from tagmask.convert_recipe import tagger_of, to_dense, to_tag_first
from tagmask.data.catalogue import known_datasets, registered_dataset
from tagmask.errors import InputError
from tagmask.method import BEHAVIOURS, OwnWords
from tagmask.papers.freecp_settings import check_purify_settings
from tagmask.settings.files import is_file, read_recipe
from tagmask.settings.parse import class_lines, is_automatic, recipe_name
from tagmask.settings.presets import all_presets, own_words
from tagmask.settings.recipes import MaskRecipe, Recipe, TagFirstRecipe, TagRecipe, names_in
from tagmask.settings.refinement import ACCEPTED_NAMES, expand_names
from tagmask.settings.words import read_list

__all__ = ["mask_recipe", "own_tag_recipe", "recipe", "recipes", "tag_recipe", "with_method"]

_LOG = logging.getLogger(__name__)

_Recipe = TypeVar("_Recipe", bound=Recipe)
_Names = tuple[tuple[str, ...], tuple[str, ...] | None]
"""A user's words (empty if not given) and background (None if not given)."""


def recipes() -> tuple[str, ...]:
    """Return the names of all recipes, "METHOD/DATASET".

    Example:
        >>> "sclip/voc21" in recipes() and "tagclip/voc2012" in recipes()
        True
    """
    return tuple(all_presets())


def recipe(name: str | PathLike[str]) -> Recipe:
    """Return a recipe, a frozen dataclass; change it with `dataclasses.replace`.

    Args:
        name: one of `recipes()`; METHOD/DATASET of which one is registered (`tagmask.register_method`,
            `register_dataset`); or a file: a path that ends in `.toml`, or a `Path`.

    Raises:
        InputError: no such recipe, or an invalid recipe file.

    Example:
        >>> recipe("sclip/voc21").logit_scale
        65.0
    """
    if is_file(name):
        return read_recipe(name, lambda name: method(name, "tags").default_settings())
    name, known = recipe_name(str(name)), all_presets()
    if (found := known.get(name) or _registered_recipe(name)) is None:
        hint = did_you_mean(name, (*known, *_registered_names()))
        raise InputError(
            f"Unknown recipe {shown(name)}.{hint}",
            "Recipes are named METHOD/DATASET, such as sclip/voc21. See `tagmask recipes`.",
        )
    return found


def _registered_recipe(name: str) -> Recipe | None:
    """The recipe of a registered method or for a registered data set; None if the name has neither.

    On a registered data set a method has the settings for a user's words. A registered method has, on a
    built-in data set, SCLIP's recipe with its own attention.
    """
    own_method, _, dataset = name.partition("/")
    entry = registered_dataset(dataset)
    if entry is not None and entry.words:
        names = entry.words, entry.background
        if own_method in method_names("tags") and own_method not in method_names("masks"):
            return replace(own_tag_recipe(own_method, *names), name=name)
        return replace(_own_mask_recipe(own_method, *names, ()), name=name)
    own_method, plus, refined = own_method.partition("+")
    base = all_presets().get(f"sclip{plus}{refined}/{dataset}")
    if isinstance(base, MaskRecipe) and own_method in registered_methods():
        return replace(with_method(base, own_method), name=name)
    return None


def _registered_names() -> list[str]:
    """The names of all recipes that `_registered_recipe` makes."""
    bases = [name.removeprefix("sclip") for name in all_presets() if name.startswith(("sclip/", "sclip+"))]
    own = [f"{own_method}{base}" for own_method in registered_methods() for base in bases]
    sets = [name for name, each in known_datasets().items() if each.words]
    methods = dict.fromkeys((*method_names("masks"), *method_names("tags")))
    return own + [f"{each}/{dataset}" for dataset in sets for each in methods]


def tag_recipe(
    name: str | PathLike[str] | TagRecipe | None = None,
    words: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    as_: str | None = None,
    overrides: Mapping[str, object] | None = None,
    known_background: tuple[str, ...] = (),
) -> TagRecipe:
    """Resolve the recipe of a `Tagger`.

    Another method keeps the recipe's names, templates and image size.

    Args:
        name: a recipe name, a recipe file or a recipe; None for the method's defaults for `words`.
        words: class lines that replace the recipe's.
        background: texts that replace the recipe's; [] for none. "auto": chosen later, with the weights.
        as_: one of `method.BEHAVIOURS`: sets the settings in which they differ; None keeps them.
        overrides: settings by name, including `method`.
        known_background: of the weights file, the default for a user's words.

    Raises:
        InputError: neither words nor a recipe, or invalid words or settings.
    """
    names = _check_names(words, background)
    settings = dict(overrides or {})
    new_method = settings.pop("method", None)
    if name is None:
        base = own_tag_recipe(new_method or "tagclip", *_require_words(names), known_background)
    else:
        base = _with_names(_with_tag_method(_find_recipe(name, TagRecipe, "tags"), new_method), names)
    method_of(base)  # a hand-made recipe may name an unknown method
    return _with_settings(_with_quirks(base, as_), settings)


def mask_recipe(
    name: str | PathLike[str] | MaskRecipe | TagFirstRecipe | None = None,
    words: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    as_: str | None = None,
    overrides: Mapping[str, object] | None = None,
    known_background: tuple[str, ...] = (),
) -> MaskRecipe | TagFirstRecipe:
    """Resolve the recipe of a `Segmenter`.

    `method="cls-seg"` turns a dense recipe into one that masks tags, a dense method does the reverse. Names,
    templates and refinement of the recipe stay. Arguments as for `tag_recipe`; overrides may also be
    `threshold` and `refine`.

    Raises:
        InputError: neither words nor a recipe, or invalid words or settings.
    """
    names = _check_names(words, background)
    settings = expand_names(overrides)
    new_method = settings.pop("method", None)
    if name is None:
        base = _own_mask_recipe(new_method or "sclip", *_require_words(names), known_background)
    else:
        found = _find_recipe(name, (MaskRecipe, TagFirstRecipe), "masks")
        base = _with_names(_with_mask_method(cast(MaskRecipe | TagFirstRecipe, found), new_method), names)
    method_of(base)
    resolved = _with_settings(_with_quirks(base, as_), settings)
    check_purify_settings(resolved, settings)
    if resolved.background_names is not None and "background" in {line.split(", ")[0] for line in names[0]}:
        raise InputError("'background' is the name of label 0. Rename that word, or give background=[].")
    return _with_tagger(resolved, as_, settings)


def with_method(base: MaskRecipe, name: str) -> MaskRecipe:
    """Return the recipe with another dense method and that method's settings.

    Raises:
        InputError: no such method, or not a dense one.
    """
    changed = _with_mask_method(base, name)
    if not isinstance(changed, MaskRecipe):
        raise InputError(f"Method {name!r} masks tags and has no attention to vary. Give a dense method.")
    return changed


# -- Recipes for a user's words ------------------------------------------------------------------------------


def own_tag_recipe(
    name: object,
    words: tuple[str, ...],
    background: tuple[str, ...] | None = None,
    known_background: tuple[str, ...] = (),
) -> TagRecipe:
    """Return the recipe to tag with a user's words by any method.

    If `background` is None, methods whose words compete with background texts use the built-in list, without
    the user's words; the other methods use none, as published.

    Args:
        name: of the method.
        words: class lines.
        background: background texts; None for the default.
        known_background: replaces the built-in list.

    Raises:
        InputError: no such method.
    """
    found = method(name, "tags")
    if found.kind == "tagclip":
        return own_words.own_tags(words, background, known_background)
    defaults = found.own_words or OwnWords()
    if background is None:
        background = own_words.default_background(words, known_background) if defaults.background else ()
    return TagRecipe(
        name=found.name,
        method=found.name,
        words=words,
        background=background,
        templates=read_list(templates) if isinstance(templates := defaults.templates, str) else templates,
        variant=found.settings(**{**found.preset, **own_words.PHOTO_PATCHES, **defaults.settings}),
    )


def _own_mask_recipe(
    name: object,
    words: tuple[str, ...],
    background: tuple[str, ...] | None,
    known_background: tuple[str, ...],
) -> MaskRecipe | TagFirstRecipe:
    found = method(name, "masks")
    if found.kind == "tag_first":
        base = own_words.own_tag_first(words, background, known_background)
        return replace(base, name=found.name, method=found.name, tagger=tagger_of(found, base.tagger))
    dense = own_words.own_masks(words, background, known_background)
    return replace(dense, method=found.name, variant=found.default_settings())


# -- Another method ------------------------------------------------------------------------------------------


def _with_tag_method(base: TagRecipe, name: object) -> TagRecipe:
    """The tag recipe with another method: names, templates and image size stay.

    The new method's settings are those of its preset for the same data set, else its defaults.
    """
    if name is None or name == base.method:
        return base
    preset = all_presets().get(f"{name}/{_dataset(base)}")
    model = preset if isinstance(preset, TagRecipe) else own_tag_recipe(name, base.words, base.background)
    sizes = {key: getattr(base.variant, key) for key in ("min_patches", "max_patches")}
    if hasattr(model.variant, "input"):
        sizes["input"] = getattr(base.variant, "input", "native")
    return replace(
        model,
        name=f"{name} on {base.name}",
        words=base.words,
        background=base.background,
        templates=base.templates,
        min_score=base.min_score,
        top=base.top,
        variant=replace(cast(Any, model.variant), **sizes),
    )


def _with_mask_method(base: MaskRecipe | TagFirstRecipe, name: object) -> MaskRecipe | TagFirstRecipe:
    """The recipe with another method: names, templates and refinement stay. See `_with_tag_method`."""
    if name is None or name == base.method:
        return base
    new = method(name, "masks")
    preset = all_presets().get(f"{name}/{_dataset(base)}")
    if new.kind == "tag_first":
        return to_tag_first(base, new, preset if isinstance(preset, TagFirstRecipe) else None)
    if isinstance(base, TagFirstRecipe):
        return to_dense(base, new, preset if isinstance(preset, MaskRecipe) else None)
    variant = preset.variant if isinstance(preset, MaskRecipe) else new.default_settings()
    return replace(base, method=new.name, variant=variant)


def _dataset(base: Recipe) -> str:
    """The data set in a recipe's name, "METHOD/DATASET" or "METHOD on METHOD/DATASET"."""
    return base.name.rpartition(" ")[2].partition("/")[2]


# -- Names, quirks, settings ---------------------------------------------------------------------------------


def _find_recipe(name: object, kind: type[_Recipe] | tuple[type[_Recipe], ...], gives: str) -> _Recipe:
    found = recipe(name) if isinstance(name, str | PathLike) else name
    if not isinstance(found, kind):
        shown = repr(found.name) if isinstance(found, Recipe) else repr(found)
        fitting = [other.partition("/")[0] for other, own in all_presets().items() if own.gives == gives]
        known = ", ".join(f"{other}/..." for other in dict.fromkeys(fitting))
        raise InputError(f"Recipe {shown} does not give {gives}.", f"Recipes that do: {known}.")
    return found


def _check_names(words: object, background: object) -> _Names:
    """Parse a user's words and background: texts that CLIP can read, each name once."""
    given = class_lines("words", words) if words is not None else ()
    if words is not None and not given:
        raise InputError("The list of words is empty. Give at least one, as in words=['cat', 'dog'].")
    if background is None or is_automatic(background):
        return given, None
    others = class_lines("background", background)
    if both := ", ".join(sorted(names_in(given) & names_in(others))):
        raise InputError(f"{both} is both a word and a background text. Give it as one of them.")
    return given, others


def _require_words(names: _Names) -> _Names:
    if not names[0]:
        raise InputError("Got neither words nor a recipe. Give words=['cat', 'dog'] or recipe='NAME'.")
    return names


def _with_names(base: _Recipe, names: _Names) -> _Recipe:
    """The recipe with a user's names; warns of a name that is both a word and a background text."""
    words, background = names
    if not words and background is None:
        return base  # published names stay as published, duplicates included
    background = base.background if background is None else background
    new = base.with_names(words or base.words, background)
    if both := ", ".join(sorted(names_in(new.words) & names_in(new.background))):
        _LOG.warning(
            "%s is both a word and a background text in %s, so the two compete. "
            "Give a background without it to avoid that.",
            both,
            base.name,
        )
    return new


def _with_quirks(base: _Recipe, as_: str | None) -> _Recipe:
    """The recipe as published, corrected or printed; None keeps it."""
    if as_ is None:
        return base
    check_choice("as_", as_, BEHAVIOURS)
    return _replace(base, dict.fromkeys(base.QUIRKS, as_ != "corrected") | method_of(base).behaviour(as_))


_NOT_SETTABLE = {"name", "method", "words", "background", "prompts", "tagger", "variant"}


def _with_settings(base: _Recipe, overrides: Mapping[str, object]) -> _Recipe:
    """The recipe with settings by name, either of the recipe or of its method (`variant`)."""
    owners = cast(tuple[Any, ...], (base, base.variant))
    settable = {field.name for owner in owners for field in fields(owner)} - _NOT_SETTABLE
    if unknown := sorted(set(overrides) - settable):
        known = sorted(settable | {"method"} | (ACCEPTED_NAMES if base.gives == "masks" else set()))
        hint = did_you_mean(unknown[0], known, 1)
        raise InputError(
            f"Unknown setting {', '.join(unknown)} of {base.name}{_explain_unknown(unknown, base)}.{hint}",
            f"The settings are {', '.join(known)}.",
        )
    return _replace(base, overrides)


def _replace(base: _Recipe, changes: Mapping[str, object]) -> _Recipe:
    recipe_fields = {field.name for field in fields(base)}
    of_method = {name: value for name, value in changes.items() if name not in recipe_fields}
    general = {name: value for name, value in changes.items() if name in recipe_fields}
    if of_method:
        general["variant"] = replace(cast(Any, base.variant), **of_method)
    return replace(base, **cast(Any, general)) if general else base


def _explain_unknown(unknown: Sequence[str], base: Recipe) -> str:
    """Why settings do not apply to this recipe, if other methods have them; else nothing."""
    names = set(unknown)
    if isinstance(base, TagFirstRecipe) and names <= {field.name for field in fields(MaskRecipe)}:
        return ", which masks tags and does not compare words with pixels"
    methods = (method(name, base.gives) for name in method_names(base.gives))
    others = [other.name for other in methods if names <= {field.name for field in fields(other.settings)}]
    return f" with method {base.method}; it belongs to {', '.join(others[:4])}" if others else ""


def _with_tagger(
    base: MaskRecipe | TagFirstRecipe, as_: str | None, settings: Mapping[str, object]
) -> MaskRecipe | TagFirstRecipe:
    """The recipe with its tagger: same quirks, same limits on the image size."""
    if isinstance(base, MaskRecipe) and base.uses_tagger:
        tagger = base.tagger or own_words.own_tags(base.words, base.background)
        return replace(base, tagger=_with_quirks(tagger, as_))
    if isinstance(base, MaskRecipe) or base.tagger is None:
        return base
    limits = {key: value for key, value in settings.items() if key in ("min_patches", "max_patches")}
    return replace(base, tagger=_with_settings(_with_quirks(base.tagger, as_), limits))
