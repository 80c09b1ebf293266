"""Recipes from the flat settings that runs record."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast, get_type_hints

from tagmask.errors import InputError
from tagmask.settings.parse import fit_value
from tagmask.settings.recipes import Recipe, TagRecipe

__all__ = ["recipe_of_flat"]

_Recipe = TypeVar("_Recipe", bound=Recipe)


def recipe_of_flat(
    flat: Mapping[str, object], kind: type[_Recipe], settings_of: Callable[[str, str], object]
) -> _Recipe:
    """Return the recipe whose `Recipe.deciding()` these settings are, after a file.

    A setting that is not among them has its default: it came after the settings were recorded.

    Args:
        flat: every setting by name; lists stand for tuples.
        kind: the type of the recipe.
        settings_of: returns the default settings of a method, by its name and what it gives.

    Raises:
        InputError: an unknown setting or an invalid value; or the method read a file, of which only the hash
            was recorded.
    """
    given = dict(flat)
    name = str(given.get("method"))
    defaults = settings_of(name, kind.gives)
    of_method = {field.name: getattr(defaults, field.name) for field in fields(cast(Any, defaults))}
    general = {field.name for field in fields(kind)} - {"variant"}
    if unknown := sorted(set(given) - set(of_method) - general):
        raise InputError(f"The settings {', '.join(unknown)} are unknown. Update tagmask.")
    for file in getattr(defaults, "FILES", ()):
        if given.get(file) is not None:
            raise InputError(f"{name} read a file, {file}, of which only the hash was recorded.")
    hints = {**get_type_hints(type(defaults)), **get_type_hints(kind)}
    tagger = given.pop("tagger", None)
    values = {key: fit_value(key, value, hints[key]) for key, value in given.items()}
    variant = {**of_method, **{key: values[key] for key in of_method if key in values}}
    rest: dict[str, Any] = {"name": name, **{key: values[key] for key in values if key in general}}
    if isinstance(tagger, Mapping):
        rest["tagger"] = recipe_of_flat(tagger, TagRecipe, settings_of)
    try:
        return kind(variant=type(defaults)(**variant), **rest)
    except TypeError as error:
        raise InputError(f"The settings of {name} are incomplete: {error}.") from error
