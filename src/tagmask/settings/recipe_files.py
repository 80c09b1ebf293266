"""Tag recipes as files that people can read and change: TOML, one key a setting.

    method = "clip-softmax"
    words = ["cat", "dog, puppy"]
    tag_tau = 0.5

    [thresholds]
    "cat" = 0.31

Settings that are left out have their method's defaults; a key that is no setting is refused. A word that is
not among the thresholds has none.
"""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import TypeGuard, cast, get_args, get_origin, get_type_hints

from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.settings.kinds import AnyTagRecipe
from tagmask.settings.taggers import TAG_METHODS

__all__ = ["is_file", "read_recipe", "write_recipe"]

_NEEDED = ("words", "background", "templates")


def is_file(name: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a recipe is named by its file: a path object, or a text that ends in `.toml`."""
    return isinstance(name, os.PathLike) or (isinstance(name, str) and name.endswith(".toml"))


def write_recipe(recipe: AnyTagRecipe, path: str | os.PathLike[str]) -> None:
    """Keep a tag recipe in a file.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = ["# A recipe of tagmask: tagmask tag --recipe FILE", f"method = {_toml(_method(recipe))}"]
    for setting in fields(recipe):
        value = getattr(recipe, setting.name)
        if setting.name != "thresholds" and value is not None:
            lines.append(f"{setting.name} = {_toml(value)}")
    learnt = [(w, t) for w, t in zip(recipe.words, recipe.thresholds, strict=False) if t is not None]
    if learnt:
        lines += ["", "# The score that a word must exceed to be a tag.", "[thresholds]"]
        lines += [f"{_toml(word)} = {_toml(threshold)}" for word, threshold in learnt]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def read_recipe(path: str | os.PathLike[str]) -> AnyTagRecipe:
    """The recipe that a file holds.

    Raises:
        InputError: a file that cannot be read, is no TOML, or holds a key or a value that is no setting.
    """
    given = _parsed(Path(path))
    method = given.pop("method", "tagclip")
    if not isinstance(method, str) or method not in TAG_METHODS:
        raise InputError(f"{path} has method {method!r}; give one of {', '.join(TAG_METHODS)}")
    kind = TAG_METHODS[method].kind
    hints = get_type_hints(kind)
    unknown = sorted(set(given) - {setting.name for setting in fields(kind)})
    if unknown:
        known = ", ".join(sorted(["method", *(setting.name for setting in fields(kind))]))
        raise InputError(
            f"{path} holds {', '.join(unknown)}, which is no setting of {method}; known: {known}"
        )
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; give each as a list of texts")
    thresholds = given.pop("thresholds", {})
    values = {key: _typed(path, key, value, hints[key]) for key, value in given.items()}
    if not values["words"] or not values["templates"]:
        raise InputError(f"{path} has no words or no templates; give at least one of each")
    settings = {"name": method, **TAG_METHODS[method].settings, **values}
    settings["thresholds"] = _thresholds(path, thresholds, cast(tuple[str, ...], values["words"]))
    return kind(**settings)  # type: ignore[arg-type]  # keys and types checked above


def _parsed(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"recipe file {path} cannot be read: {error}; give a recipe's name or file"
        ) from error
    except ValueError as error:  # no UTF-8, or no TOML
        raise InputError(f"recipe file {path} is no TOML: {error}") from error


def _thresholds(path: object, given: object, words: Sequence[str]) -> tuple[float | None, ...]:
    if not isinstance(given, Mapping):
        raise InputError(f'{path} has thresholds {given!r}; give a table, as in [thresholds] and "cat" = 0.3')
    strange = sorted(set(given) - set(words))
    if strange:
        raise InputError(f"{path} has thresholds for {', '.join(strange)}, none of its words")
    learnt = {word: _number(path, word, value) for word, value in given.items()}
    return tuple(learnt.get(word) for word in words) if learnt else ()


def _number(path: object, word: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path} has {value!r} as the threshold of {word}; give a number")
    return float(value)


def _typed(path: object, key: str, value: object, hint: object) -> object:
    """The value as the setting's type wants it: lists as tuples, whole numbers as numbers where those do."""
    wanted = (
        [part for part in get_args(hint) if part is not NoneType] if isinstance(hint, UnionType) else [hint]
    )
    for part in wanted:
        if get_origin(part) is tuple and isinstance(value, list):
            return tuple(_typed(path, key, each, get_args(part)[0]) for each in value)
        if part is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if part in (str, int, bool) and type(value) is part:
            return value
    raise InputError(f"{path} has {key} = {value!r}; give {_NAMES.get(str(wanted[0]), 'a list of texts')}")


_NAMES = {
    str(str): "a text",
    str(int): "a whole number",
    str(float): "a number",
    str(bool): "true or false",
    str(tuple[int, ...]): "a list of whole numbers",
}


def _method(recipe: AnyTagRecipe) -> str:
    """A method of the recipe's kind; settings that tell methods of one kind apart are in the file anyway."""
    return next(name for name, method in TAG_METHODS.items() if type(recipe) is method.kind)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        parts = [_toml(part) for part in value]
        line = f"[{', '.join(parts)}]"
        return line if len(line) < 90 else "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
    return repr(value)
