"""Tag recipes as TOML files that people can read and edit, one key per setting.

    method = "clip-softmax"
    words = ["cat", "dog, puppy"]
    tag_tau = 0.5

    [thresholds]
    "cat" = 0.31

A missing setting has its method's default; an unknown key is an error. A word that is not among the
thresholds has none. "words", "background" and "templates" are required.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeGuard, cast, get_type_hints

from tagmask.checks import shown
from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.reading import read_text
from tagmask.settings.parse import SETTINGS_LIMIT, class_lines, fit_value, parse_toml
from tagmask.settings.recipes import TagRecipe
from tagmask.strict_json import json_text

__all__ = ["is_file", "read_recipe", "write_recipe"]

_LISTED, _LONGEST = 6, 80
"""Names in a message, and letters of each."""

_REQUIRED = ("words", "background", "templates")


def is_file(name: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a recipe is given as a file: a path object, or a string that ends in `.toml`."""
    return isinstance(name, os.PathLike) or (isinstance(name, str) and name.endswith(".toml"))


def write_recipe(recipe: TagRecipe, path: str | os.PathLike[str]) -> None:
    """Write a tag recipe to a TOML file.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = ["# A tagmask recipe. Use it with: tagmask tag --recipe FILE"]
    lines += [
        f"{name} = {_toml(value)}"
        for name, value in recipe.flat().items()
        if name != "thresholds" and value is not None
    ]
    learned = [(w, t) for w, t in zip(recipe.words, recipe.thresholds, strict=False) if t is not None]
    if learned:
        lines += ["", "# The score that each word must exceed to be a tag.", "[thresholds]"]
        lines += [f"{_toml(word)} = {_toml(threshold)}" for word, threshold in learned]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def read_recipe(path: str | os.PathLike[str], settings_of: Callable[[str], object]) -> TagRecipe:
    """Read a tag recipe from a TOML file.

    Args:
        path: a file from `write_recipe`, or a hand-written one.
        settings_of: returns the default settings of a method by its name.

    Raises:
        InputError: the file cannot be read, is not TOML, or has an unknown key or an invalid value.
    """
    given = _parse(Path(path))
    method = given.setdefault("method", "tagclip")
    if not isinstance(method, str):
        raise InputError(
            f'{path}: invalid method {shown(method)}. Give the name of a method, such as "tagclip".'
        )
    try:
        defaults = settings_of(method)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    hints = {**get_type_hints(type(defaults)), **get_type_hints(TagRecipe)}
    of_method = {setting.name for setting in fields(cast(Any, defaults))}
    general = {setting.name for setting in fields(TagRecipe)} - {"variant"}
    unknown = sorted(set(given) - of_method - general)
    if unknown:
        raise InputError(
            f"{path}: unknown setting {_listed(unknown)} of {method}. "
            f"The settings are {', '.join(sorted(of_method | general))}."
        )
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}. Give each as a list of texts.")
    thresholds = given.pop("thresholds", {})
    try:
        values = {key: fit_value(key, value, hints[key]) for key, value in given.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    lines = cast(tuple[str, ...], values["words"])
    for name in ("words", "background"):
        try:
            values[name] = class_lines(name, values[name])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    if not values["words"] or not values["templates"]:
        raise InputError(f"{path} has no words or no templates. Give at least one of each.")
    variant = {name: getattr(defaults, name) for name in of_method}
    variant.update({name: value for name, value in values.items() if name in of_method})
    rest = {"name": method, **{name: value for name, value in values.items() if name not in of_method}}
    rest["thresholds"] = _thresholds(path, thresholds, lines)
    try:
        return TagRecipe(variant=type(defaults)(**variant), **cast(Any, rest))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _parse(path: Path) -> dict[str, object]:
    advice = "Give the name of a recipe or a readable file."
    text = read_text(path, "Recipe file", advice, SETTINGS_LIMIT)
    try:
        return parse_toml(text)
    except ValueError as error:
        raise InputError(f"Recipe file {path} is not valid TOML: {error}.") from error


def _thresholds(path: object, given: object, words: Sequence[str]) -> tuple[float | None, ...]:
    if not isinstance(given, Mapping):
        raise InputError(
            f'{path}: invalid thresholds {shown(given)}. Give a table, as in [thresholds] and "cat" = 0.3.'
        )
    unknown = sorted(set(given) - set(words))
    if unknown:
        raise InputError(f"{path} has thresholds for {_listed(unknown)}, which are not among its words.")
    learned = {word: _number(path, word, value) for word, value in given.items()}
    return tuple(learned.get(word) for word in words) if learned else ()


def _number(path: object, word: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path}: invalid threshold {shown(value)} of {word}. Give a number.")
    return float(value)


def _listed(names: Sequence[str]) -> str:
    shortened = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name in names[:_LISTED]]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(shortened) + more


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json_text(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        parts = [_toml(part) for part in value]
        line = f"[{', '.join(parts)}]"
        return line if len(line) < 90 else "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
    return repr(value)
