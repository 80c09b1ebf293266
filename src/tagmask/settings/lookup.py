"""From what a caller asks for (a recipe, words, single settings) to one checked recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import TypeVar

from tagmask.errors import InputError
from tagmask.settings.tables import MaskRecipe, Recipe, TagRecipe, all_recipes, own_masks, own_tags

__all__ = ["mask_recipe", "recipe", "recipes", "tag_recipe"]

_AnyRecipe = TypeVar("_AnyRecipe", TagRecipe, MaskRecipe)


def recipes() -> tuple[str, ...]:
    """Names of all recipes, "METHOD/DATASET".

    Example:
        >>> "sclip/voc21" in recipes() and "tagclip/voc2012" in recipes()
        True
    """
    return tuple(all_recipes())


def recipe(name: str) -> Recipe:
    """The recipe called `name`, a frozen dataclass.

    Raises:
        InputError: no such recipe.

    Example:
        >>> recipe("sclip/voc21").logit_scale
        65.0
    """
    known = all_recipes()
    if name not in known:
        near = get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(f"recipe {name!r} is unknown; {hint}the recipes are {', '.join(known)}")
    return known[name]


def tag_recipe(
    name: str | TagRecipe | None,
    words: Sequence[str] | None,
    background: Sequence[str] | None,
    as_: str | None,
    overrides: Mapping[str, object],
) -> TagRecipe:
    """The recipe of a `Tagger`.

    Raises:
        InputError: see `_resolve`.
    """
    found = None if name is None else _of_kind(name, TagRecipe, "tags")
    own = _checked(words, background)
    base = found or own_tags(*own) if own[0] else found
    result = _resolve(base, found is not None, own, overrides)
    return replace(result, early_exit=False, lose_border=False) if _corrected(as_) else result


def mask_recipe(
    name: str | MaskRecipe | None,
    words: Sequence[str] | None,
    background: Sequence[str] | None,
    as_: str | None,
    overrides: Mapping[str, object],
) -> MaskRecipe:
    """The recipe of a `Segmenter`.

    Raises:
        InputError: see `_resolve`.
    """
    found = None if name is None else _of_kind(name, MaskRecipe, "masks")
    own = _checked(words, background)
    base = found or own_masks(*own) if own[0] else found
    result = _resolve(base, found is not None, own, overrides)
    return replace(result, positions="bicubic-nudged-by-shape") if _corrected(as_) else result


_Own = tuple[tuple[str, ...], tuple[str, ...] | None]


def _resolve(
    base: _AnyRecipe | None, published: bool, own: _Own, overrides: Mapping[str, object]
) -> _AnyRecipe:
    """Put words, background and single settings in place.

    Raises:
        InputError: neither words nor a recipe, or a setting that the recipe does not have.
    """
    if base is None:
        raise InputError("got neither words nor a recipe; give words=['cat', 'dog'] or recipe='NAME'")
    settable = {field.name for field in fields(base)} - {"name", "words", "background"}
    unknown = sorted(set(overrides) - settable)
    if unknown:
        raise InputError(
            f"{', '.join(unknown)} is no setting of {base.name}; "
            f"the settings are {', '.join(sorted(settable))}"
        )
    words, background = own
    if published:
        base = replace(
            base,
            words=words or base.words,
            background=base.background if background is None else background,
        )
    return replace(base, **overrides)  # type: ignore[arg-type]  # the names were checked just above


def _of_kind(name: str | Recipe, kind: type[_AnyRecipe], gives: str) -> _AnyRecipe:
    found = recipe(name) if isinstance(name, str) else name
    if not isinstance(found, kind):
        known = [name for name, other in all_recipes().items() if isinstance(other, kind)]
        raise InputError(f"recipe {found.name!r} does not give {gives}; those that do: {', '.join(known)}")
    return found


def _corrected(as_: str | None) -> bool:
    if as_ not in (None, "published", "corrected"):
        raise InputError(f"as_ is {as_!r}; give 'published' or 'corrected'")
    return as_ == "corrected"


def _checked(words: Sequence[object] | None, background: Sequence[object] | None) -> _Own:
    """A user's words and background, as tuples of distinct, stripped, non-empty strings."""
    given = _listed("words", words) if words is not None else ()
    if words is not None and not given:
        raise InputError("got an empty list of words; give at least one, as in words=['cat', 'dog']")
    if background is None:
        return given, None
    behind = _listed("background", background)
    asked = {name.strip().casefold() for line in given for name in line.split(", ")}
    both = [name for name in behind if name.casefold() in asked]
    if both:
        raise InputError(f"{', '.join(both)} is both a word and a background word; give it as one of them")
    return given, behind


def _listed(what: str, given: Sequence[object]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise InputError(f"{what} is the single text {given!r}; give a list, as in {what}=[{given!r}]")
    lines: list[str] = []
    seen: set[str] = set()
    for line in given:
        if not isinstance(line, str):
            raise InputError(f"{what} holds {line!r}, a {type(line).__name__}; give texts only")
        lines.append(line.strip())
        if not lines[-1]:
            raise InputError(f"{what} holds an empty text; take it out")
        if lines[-1].casefold() in seen:
            raise InputError(f"{what} holds {lines[-1]!r} twice; give each once")
        seen.add(lines[-1].casefold())
    return tuple(lines)
