"""From what a caller asks for (a recipe, words, single settings) to one checked recipe."""

import logging
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from os import PathLike
from types import MappingProxyType
from typing import TypeVar, cast

from tagmask.checks import check_choice
from tagmask.clip.tokenizer import clean
from tagmask.errors import InputError
from tagmask.settings.crossing import TAG_METHOD, crossed, tags_crossed
from tagmask.settings.kinds import (
    AnyTagRecipe,
    MaskRecipe,
    Recipe,
    TagMaskRecipe,
    TagRecipe,
    names_in,
    own_masks,
    own_tag_masks,
    own_tags,
)
from tagmask.settings.recipe_files import is_file, read_recipe
from tagmask.settings.tables import all_recipes
from tagmask.settings.taggers import PiaaRecipe, own_recipe

__all__ = ["mask_recipe", "recipe", "recipes", "tag_recipe", "with_method"]

_LOG = logging.getLogger(__name__)

_AnyRecipe = TypeVar("_AnyRecipe", bound=Recipe)
_AnyTags = TypeVar("_AnyTags", bound=AnyTagRecipe)


def recipes() -> tuple[str, ...]:
    """Names of all recipes, "METHOD/DATASET".

    Example:
        >>> "sclip/voc21" in recipes() and "tagclip/voc2012" in recipes()
        True
    """
    return tuple(all_recipes())


def recipe(name: str | PathLike[str]) -> Recipe:
    """The recipe called `name`, or kept in the file of that name (`.toml`): a frozen dataclass.

    Raises:
        InputError: no such recipe, or a file that is none.

    Example:
        >>> recipe("sclip/voc21").logit_scale
        65.0
    """
    if is_file(name):
        return read_recipe(name)
    name, known = str(name), all_recipes()
    if name not in known:
        near = get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        methods = ", ".join(dict.fromkeys(other.partition("/")[0] for other in known))
        raise InputError(
            f"recipe {name!r} is unknown; {hint}recipes are METHOD/DATASET, such as sclip/voc21, of the "
            f"methods {methods}; tagmask.recipes() lists all"
        )
    return known[name]


def tag_recipe(
    name: str | PathLike[str] | AnyTagRecipe | None,
    words: Sequence[str] | None,
    background: Sequence[str] | None,
    as_: str | None,
    overrides: Mapping[str, object],
    usual: tuple[str, ...] = (),
) -> AnyTagRecipe:
    """The recipe of a `Tagger`: a paper's, or one for own words; then method, words, quirks, single settings.

    A method other than the recipe's leaves names, templates and image size as they are. `usual` are the
    weights' own background words, for own words that come without any.

    Raises:
        InputError: no words and no recipe, or anything in them that cannot be used.
    """
    own = _checked(words, background)
    method = overrides.get("method")
    rest = {key: value for key, value in overrides.items() if key != "method"}
    if name is None:
        return _quirky(own_recipe(method or "tagclip", *_needed(own), usual), as_, rest)
    base = _of_kind(name, AnyTagRecipe, "tags")
    if method is not None:
        base = tags_crossed(base, method, all_recipes())
    return _quirky(_with_names(base, own), as_, rest)


def mask_recipe(
    name: str | MaskRecipe | TagMaskRecipe | None,
    words: Sequence[str] | None,
    background: Sequence[str] | None,
    as_: str | None,
    overrides: Mapping[str, object],
    usual: tuple[str, ...] = (),
) -> MaskRecipe | TagMaskRecipe:
    """The recipe of a `Segmenter`: a paper's, or one for own words; then words, quirks, single settings.

    `method="cls-seg"` makes it one that masks tags, any other method one that compares all words; names,
    templates and PAMR stay those of the recipe named. `usual` are the weights' own background words, for own
    words that come without any.

    Raises:
        InputError: no words and no recipe, or anything in them that cannot be used.
    """
    own = _checked(words, background)
    tagged = overrides.get("method") == TAG_METHOD
    base: MaskRecipe | TagMaskRecipe
    if name is not None:
        base = _with_names(crossed(_of_masks(name), overrides.get("method"), all_recipes()), own)
    else:
        base = (own_tag_masks if tagged else own_masks)(*_needed(own), usual)
    behind = base.background_power is not None if isinstance(base, TagMaskRecipe) else bool(base.background)
    if behind and "background" in {line.split(", ")[0] for line in own[0]}:
        raise InputError(
            "'background' is the name of label 0; take it out of the words, or give background=[]"
        )
    if isinstance(base, TagMaskRecipe):
        published, corrected = ({"lose_border": q, "crf_wrapped": q} for q in (True, False))
        rest = {key: value for key, value in overrides.items() if key != "method"}
        made = _with_settings(base, _quirks(as_, published, corrected), rest)
        limits = {key: value for key, value in rest.items() if key in ("min_patches", "max_patches")}
        return replace(made, tagger=made.tagger and _quirky(made.tagger, as_, limits))
    dense = _with_settings(base, _quirks(as_, _AS_PUBLISHED, _CORRECTED), overrides)
    if dense.among == "tags":
        return replace(dense, tagger=_quirky(own_tags(dense.words, dense.background), as_, {}))
    return dense


_AS_PUBLISHED: Mapping[str, object] = MappingProxyType(
    {
        "positions_by_count": True,
        "short_path": True,
        "square_outliers": True,
        "zero_repair": True,
        "absolute_layers": True,
    }
)
_CORRECTED: Mapping[str, object] = MappingProxyType(dict.fromkeys(_AS_PUBLISHED, False))


def with_method(base: MaskRecipe, method: str) -> MaskRecipe:
    """The recipe with another method that compares words with pixels, and that method's own numbers."""
    found = crossed(base, method, all_recipes())
    assert isinstance(found, MaskRecipe)  # the method is of the recipe's kind
    return replace(found, method=method)


def _quirky(base: _AnyTags, as_: str | None, overrides: Mapping[str, object]) -> _AnyTags:
    """A tag recipe with the quirks asked for."""
    quirks: tuple[str, ...] = ()
    if isinstance(base, TagRecipe):
        quirks = ("early_exit", "lose_border")
    elif isinstance(base, PiaaRecipe):
        quirks = ("compat",)
    published, corrected = (dict.fromkeys(quirks, value) for value in (True, False))
    return _with_settings(base, _quirks(as_, published, corrected), overrides)


def _of_masks(name: object) -> MaskRecipe | TagMaskRecipe:
    found = recipe(name) if isinstance(name, str) else name
    if isinstance(found, TagMaskRecipe):
        return found
    return _of_kind(found, MaskRecipe, "masks")


_Own = tuple[tuple[str, ...], tuple[str, ...] | None]
"""A user's words (empty where none were given), and background (None where none was given)."""


def _needed(own: _Own) -> _Own:
    if not own[0]:
        raise InputError("got neither words nor a recipe; give words=['cat', 'dog'] or recipe='NAME'")
    return own


def _of_kind(name: object, kind: type[_AnyRecipe], gives: str) -> _AnyRecipe:
    found = recipe(name) if isinstance(name, str | PathLike) else name
    if not isinstance(found, kind):
        fitting = (name for name, other in all_recipes().items() if isinstance(other, kind))
        known = ", ".join(dict.fromkeys(name.partition("/")[0] + "/..." for name in fitting))
        shown = repr(found.name) if isinstance(found, Recipe) else repr(found)
        raise InputError(f"recipe {shown} does not give {gives}; those that do: {known}")
    return found


def _with_names(base: _AnyRecipe, own: _Own) -> _AnyRecipe:
    """The recipe with a user's names in place of its own, and a word said if one is now on both sides."""
    words, background = own
    if not words and background is None:
        return base  # a recipe's own names are as published, whatever they share
    behind = base.background if background is None else background
    new = cast(_AnyRecipe, base.with_names(words or base.words, behind))  # a recipe of its own kind
    if both := names_in(new.words) & names_in(new.background):
        _LOG.warning(
            "%s is both a word and a background name in %s, and the two compete. "
            "Give a background without it to change that.",
            ", ".join(sorted(both)),
            base.name,
        )
    return new


def _quirks(
    as_: str | None, published: Mapping[str, object], corrected: Mapping[str, object]
) -> Mapping[str, object]:
    """The quirks as asked for; none where nothing was asked, so that a recipe keeps its own."""
    if as_ is None:
        return {}
    check_choice("as_", as_, ("published", "corrected"))
    return published if as_ == "published" else corrected


def _with_settings(
    base: _AnyRecipe, quirks: Mapping[str, object], overrides: Mapping[str, object]
) -> _AnyRecipe:
    settable = {field.name for field in fields(base)} - {"name", "words", "background", "prompts", "tagger"}
    unknown = sorted(set(overrides) - settable)
    if unknown:
        why = ""
        if isinstance(base, TagMaskRecipe) and set(unknown) <= {field.name for field in fields(MaskRecipe)}:
            why = ", which masks tags and does not compare words with pixels"
        raise InputError(
            f"{', '.join(unknown)} is no setting of {base.name}{why}; "
            f"the settings are {', '.join(sorted(settable))}"
        )
    return replace(base, **{**quirks, **overrides})  # type: ignore[arg-type]  # names checked above


def _checked(words: object, background: object) -> _Own:
    """A user's words and background: texts CLIP can read, each name once."""
    given = _lines("words", words) if words is not None else ()
    if words is not None and not given:
        raise InputError("got an empty list of words; give at least one, as in words=['cat', 'dog']")
    if background is None:
        return given, None
    behind = _lines("background", background)
    if both := names_in(given) & names_in(behind):
        raise InputError(
            f"{', '.join(sorted(both))} is both a word and a background word; give it as one of them"
        )
    return given, behind


def _lines(what: str, given: object) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{what} is {given!r}; give a list of texts, as in {what}=['cat', 'dog']")
    lines: list[str] = []
    seen: set[str] = set()
    for line in given:
        if not isinstance(line, str):
            raise InputError(f"{what} holds {line!r}, a {type(line).__name__}; give texts only")
        names = [name.strip() for name in line.split(", ")]
        for name in names:
            _check_name(what, line, name)
            if name.casefold() in seen:
                raise InputError(f"{what} holds {name!r} twice; a name can belong to one class only")
            seen.add(name.casefold())
        lines.append(", ".join(names))
    return tuple(lines)


def _check_name(what: str, line: str, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} holds {line!r}, which is no valid text (broken encoding)") from error
    # Categories C and Z are control, format and blank characters: a name of these alone shows nothing.
    if all(unicodedata.category(character)[0] in "CZ" for character in clean(name)):
        raise InputError(
            f"{what} holds {line!r}, which has an empty name; give each class as one name, "
            "or as several separated by ', '"
        )
