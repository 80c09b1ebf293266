"""From what a caller asks for (a recipe, words, a method, single settings) to one checked recipe.

The only place where settings are resolved, and idempotent: a recipe that comes out, given in again with
nothing else, comes out unchanged.

    recipe or words -> another method, if asked for -> own names -> quirks -> single settings -> its tagger
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from os import PathLike
from typing import Any, TypeVar, cast

from tagmask.catalogue import method, method_names, method_of
from tagmask.checks import check_choice
from tagmask.errors import InputError
from tagmask.method import Method, OwnWords
from tagmask.settings.files import is_file, read_recipe
from tagmask.settings.parse import class_lines
from tagmask.settings.presets import all_presets, own_words
from tagmask.settings.recipes import MaskRecipe, Recipe, TagFirstRecipe, TagRecipe, names_in
from tagmask.settings.words import read_list

__all__ = ["mask_recipe", "own_tag_recipe", "recipe", "recipes", "tag_recipe", "with_method"]

_LOG = logging.getLogger(__name__)

_Recipe = TypeVar("_Recipe", bound=Recipe)
_Names = tuple[tuple[str, ...], tuple[str, ...] | None]
"""A user's words (empty where none were given), and background (None where none was given)."""


def recipes() -> tuple[str, ...]:
    """Names of all recipes, "METHOD/DATASET".

    Example:
        >>> "sclip/voc21" in recipes() and "tagclip/voc2012" in recipes()
        True
    """
    return tuple(all_presets())


def recipe(name: str | PathLike[str]) -> Recipe:
    """The recipe called `name`, or kept in the file of that name (`.toml`): a frozen dataclass.

    Raises:
        InputError: no such recipe, or a file that is none.

    Example:
        >>> recipe("sclip/voc21").logit_scale
        65.0
    """
    if is_file(name):
        return read_recipe(name, lambda own: method(own, "tags").default_settings())
    name, known = str(name), all_presets()
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
    name: str | PathLike[str] | TagRecipe | None = None,
    words: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    as_: str | None = None,
    overrides: Mapping[str, object] | None = None,
    known_background: tuple[str, ...] = (),
) -> TagRecipe:
    """The recipe of a `Tagger`.

    A method other than the recipe's leaves names, templates and image size as they are.

    Args:
        name: a recipe, by name, in a file, or as it is; None: one for `words`.
        words: class lines, in place of the recipe's.
        background: likewise; [] for none.
        as_: "published" or "corrected" sets the method's quirks; None leaves them.
        overrides: settings by name, `method` among them.
        known_background: the weights' own background words, for own words that come without any.

    Raises:
        InputError: no words and no recipe, or anything in them that cannot be used.
    """
    own = _checked(words, background)
    settings = dict(overrides or {})
    wanted = settings.pop("method", None)
    if name is None:
        base = own_tag_recipe(wanted or "tagclip", *_needed(own), known_background)
    else:
        base = _with_names(_tags_by(_named(name, TagRecipe, "tags"), wanted), own)
    method_of(base)  # a recipe made by hand may name any method
    return _with_settings(_with_quirks(base, as_), settings)


def mask_recipe(
    name: str | PathLike[str] | MaskRecipe | TagFirstRecipe | None = None,
    words: Sequence[str] | None = None,
    background: Sequence[str] | None = None,
    as_: str | None = None,
    overrides: Mapping[str, object] | None = None,
    known_background: tuple[str, ...] = (),
) -> MaskRecipe | TagFirstRecipe:
    """The recipe of a `Segmenter`.

    `method="cls-seg"` makes it one that masks tags, a dense method one that compares all words; names,
    templates and refinement stay those of the recipe named. Arguments as `tag_recipe`.

    Raises:
        InputError: no words and no recipe, or anything in them that cannot be used.
    """
    own = _checked(words, background)
    settings = dict(overrides or {})
    wanted = settings.pop("method", None)
    if name is None:
        base = _own_mask_recipe(wanted or "sclip", *_needed(own), known_background)
    else:
        base = _with_names(
            _masks_by(
                cast(MaskRecipe | TagFirstRecipe, _named(name, (MaskRecipe, TagFirstRecipe), "masks")), wanted
            ),
            own,
        )
    method_of(base)
    made = _with_settings(_with_quirks(base, as_), settings)
    if made.background_names is not None and "background" in {line.split(", ")[0] for line in own[0]}:
        raise InputError(
            "'background' is the name of label 0; take it out of the words, or give background=[]"
        )
    return _with_tagger(made, as_, settings)


def with_method(base: MaskRecipe, name: str) -> MaskRecipe:
    """The recipe with another dense method, and that method's own numbers.

    Raises:
        InputError: no such method, or not a dense one.
    """
    found = _masks_by(base, name)
    if not isinstance(found, MaskRecipe):
        raise InputError(f"Method {name!r} masks tags and has no attention to vary. Give a dense method.")
    return found


# -- Own words -----------------------------------------------------------------------------------------------


def own_tag_recipe(
    name: object,
    words: tuple[str, ...],
    background: tuple[str, ...] | None = None,
    known_background: tuple[str, ...] = (),
) -> TagRecipe:
    """Tag with a user's own words by any method.

    Methods whose words compete with background names take the built-in list, less the words asked for. The
    others have none, as published, unless `background` names some.

    Raises:
        InputError: no such method.
    """
    found = method(name, "tags")
    if found.kind == "tagclip":
        return own_words.own_tags(words, background, known_background)
    own = found.own_words or OwnWords()
    if background is None:
        background = own_words.default_background(words, known_background) if own.background else ()
    return TagRecipe(
        name=found.name,
        method=found.name,
        words=words,
        background=background,
        templates=read_list(own.templates) if isinstance(own.templates, str) else own.templates,
        variant=found.settings(**{**found.preset, **own_words.PHOTO_PATCHES, **own.settings}),
    )


def _own_mask_recipe(
    name: object,
    words: tuple[str, ...],
    background: tuple[str, ...] | None,
    known_background: tuple[str, ...],
) -> MaskRecipe | TagFirstRecipe:
    found = method(name, "masks")
    if found.kind == "tag_first":
        made = own_words.own_tag_first(words, background, known_background)
        return replace(made, name=found.name, method=found.name, tagger=_tagger_of(found, made.tagger))
    dense = own_words.own_masks(words, background, known_background)
    return replace(dense, method=found.name, variant=found.default_settings())


def _tagger_of(found: Method, tagger: TagRecipe | None) -> TagRecipe | None:
    """CLIP-ES is given each image's tags, CLS-SEG finds them."""
    return None if found.name == "clip-es" else tagger


# -- Another method ------------------------------------------------------------------------------------------


def _tags_by(base: TagRecipe, name: object) -> TagRecipe:
    """The tag recipe turned into another method's: names, templates and image size stay.

    The method's own numbers are those of its recipe for the same data set, else its defaults.
    """
    if name is None or name == base.method:
        return base
    found = all_presets().get(f"{name}/{_dataset(base)}")
    model = found if isinstance(found, TagRecipe) else own_tag_recipe(name, base.words, base.background)
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


def _masks_by(base: MaskRecipe | TagFirstRecipe, name: object) -> MaskRecipe | TagFirstRecipe:
    """The recipe turned into another method's: names, templates and refinement stay.

    The method's own numbers are those of its recipe for the same data set, else its defaults.
    """
    if name is None or name == base.method:
        return base
    wanted = method(name, "masks")
    found = all_presets().get(f"{name}/{_dataset(base)}")
    if wanted.kind == "tag_first":
        return _to_tags(base, wanted, found if isinstance(found, TagFirstRecipe) else None)
    if isinstance(base, TagFirstRecipe):
        return _to_words(base, wanted, found if isinstance(found, MaskRecipe) else None)
    numbers = found.variant if isinstance(found, MaskRecipe) else wanted.default_settings()
    return replace(base, method=wanted.name, variant=numbers)


def _dataset(base: Recipe) -> str:
    """The data set in a recipe's name, also where it was turned into another method's before."""
    return base.name.rpartition(" ")[2].partition("/")[2]


def _to_tags(
    base: MaskRecipe | TagFirstRecipe, wanted: Method, found: TagFirstRecipe | None
) -> TagFirstRecipe:
    own = own_words.own_tag_first(base.words, base.background or None)
    model = found or own
    # Without competing texts a single tag has no gradient, so a recipe without background takes the method's.
    background = base.background or model.background
    tagger = _tagger_of(wanted, model.tagger or own.tagger)
    power = model.variant.background_power or 1.0
    return replace(
        model,
        name=f"{wanted.name} on {base.name}",
        method=wanted.name,
        words=base.words,
        background=background,
        prompts=(),
        templates=base.templates,
        tagger=tagger and replace(tagger.with_names(base.words, background), templates=base.templates),
        variant=replace(model.variant, background_power=None if base.background_names is None else power),
        pamr_steps=base.pamr_steps,
        pamr_dilations=base.pamr_dilations,
        crf=base.crf,
        crf_wrapped=False,
    )


def _to_words(base: TagFirstRecipe, wanted: Method, found: MaskRecipe | None) -> MaskRecipe:
    background = () if base.background_names is None else base.background
    model = found or replace(
        own_words.own_masks(base.words, background), method=wanted.name, variant=wanted.default_settings()
    )
    return replace(
        model,
        name=f"{wanted.name} on {base.name}",
        words=base.words,
        background=background,
        templates=base.templates,
        pamr_steps=base.pamr_steps,
        pamr_dilations=base.pamr_dilations,
        crf=base.crf,
    )


# -- Names, quirks, settings ---------------------------------------------------------------------------------


def _named(name: object, kind: type[_Recipe] | tuple[type[_Recipe], ...], gives: str) -> _Recipe:
    found = recipe(name) if isinstance(name, str | PathLike) else name
    if not isinstance(found, kind):
        shown = repr(found.name) if isinstance(found, Recipe) else repr(found)
        fitting = (other for other, preset in all_presets().items() if preset.gives == gives)
        known = ", ".join(dict.fromkeys(other.partition("/")[0] + "/..." for other in fitting))
        raise InputError(f"recipe {shown} does not give {gives}; those that do: {known}")
    return found


def _checked(words: object, background: object) -> _Names:
    """A user's words and background: texts CLIP can read, each name once."""
    given = class_lines("words", words) if words is not None else ()
    if words is not None and not given:
        raise InputError("got an empty list of words; give at least one, as in words=['cat', 'dog']")
    if background is None:
        return given, None
    others = class_lines("background", background)
    if both := names_in(given) & names_in(others):
        raise InputError(
            f"{', '.join(sorted(both))} is both a word and a background word; give it as one of them"
        )
    return given, others


def _needed(own: _Names) -> _Names:
    if not own[0]:
        raise InputError("got neither words nor a recipe; give words=['cat', 'dog'] or recipe='NAME'")
    return own


def _with_names(base: _Recipe, own: _Names) -> _Recipe:
    """The recipe with a user's names in place of its own, and a warning if one is now on both sides."""
    words, background = own
    if not words and background is None:
        return base  # a recipe's own names are as published, whatever they share
    background = base.background if background is None else background
    new = base.with_names(words or base.words, background)
    if both := names_in(new.words) & names_in(new.background):
        _LOG.warning(
            "%s is both a word and a background name in %s, and the two compete. "
            "Give a background without it to change that.",
            ", ".join(sorted(both)),
            base.name,
        )
    return new


def _with_quirks(base: _Recipe, as_: str | None) -> _Recipe:
    """The quirks as asked for; unchanged where nothing was asked, so that a recipe keeps its own."""
    if as_ is None:
        return base
    check_choice("as_", as_, ("published", "corrected"))
    published = as_ == "published"
    return _replace(base, dict.fromkeys((*base.QUIRKS, *method_of(base).quirks), published))


_NOT_SETTABLE = {"name", "method", "words", "background", "prompts", "tagger", "variant"}


def _with_settings(base: _Recipe, overrides: Mapping[str, object]) -> _Recipe:
    """Settings by name, each where it belongs: in the recipe, or among the method's own numbers."""
    owners = cast(tuple[Any, ...], (base, base.variant))
    settable = {field.name for owner in owners for field in fields(owner)} - _NOT_SETTABLE
    if unknown := sorted(set(overrides) - settable):
        raise InputError(
            f"{', '.join(unknown)} is no setting of {base.name}{_elsewhere(unknown, base)}; "
            f"the settings are {', '.join(sorted(settable))}"
        )
    return _replace(base, overrides)


def _replace(base: _Recipe, changes: Mapping[str, object]) -> _Recipe:
    own = {field.name for field in fields(base)}
    numbers = {name: value for name, value in changes.items() if name not in own}
    general = {name: value for name, value in changes.items() if name in own}
    if numbers:
        general["variant"] = replace(cast(Any, base.variant), **numbers)
    return replace(base, **cast(Any, general)) if general else base


def _elsewhere(unknown: Sequence[str], base: Recipe) -> str:
    """Why settings that other methods have do not fit."""
    wanted = set(unknown)
    if isinstance(base, TagFirstRecipe) and wanted <= {field.name for field in fields(MaskRecipe)}:
        return ", which masks tags and does not compare words with pixels"
    methods = (method(name, base.gives) for name in method_names(base.gives))
    others = [other.name for other in methods if wanted <= {field.name for field in fields(other.settings)}]
    return f" with method {base.method}; it belongs to {', '.join(others[:4])}" if others else ""


def _with_tagger(
    base: MaskRecipe | TagFirstRecipe, as_: str | None, settings: Mapping[str, object]
) -> MaskRecipe | TagFirstRecipe:
    """The recipe with its tagger as asked for: quirks alike, and images of one size in both."""
    if isinstance(base, MaskRecipe):
        if base.among != "tags":
            return base
        tagger = base.tagger or own_words.own_tags(base.words, base.background)
        return replace(base, tagger=_with_quirks(tagger, as_))
    if base.tagger is None:
        return base
    limits = {key: value for key, value in settings.items() if key in ("min_patches", "max_patches")}
    return replace(base, tagger=_with_settings(_with_quirks(base.tagger, as_), limits))
