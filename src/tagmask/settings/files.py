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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeGuard, cast, get_type_hints

from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.settings.parse import fit_value
from tagmask.settings.recipes import TagRecipe

__all__ = ["is_file", "read_recipe", "write_recipe"]

_NEEDED = ("words", "background", "templates")


def is_file(name: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether a recipe is named by its file: a path object, or a text that ends in `.toml`."""
    return isinstance(name, os.PathLike) or (isinstance(name, str) and name.endswith(".toml"))


def write_recipe(recipe: TagRecipe, path: str | os.PathLike[str]) -> None:
    """Keep a tag recipe in a file.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = ["# A recipe of tagmask: tagmask tag --recipe FILE"]
    lines += [
        f"{name} = {_toml(value)}"
        for name, value in recipe.flat().items()
        if name != "thresholds" and value is not None
    ]
    learned = [(w, t) for w, t in zip(recipe.words, recipe.thresholds, strict=False) if t is not None]
    if learned:
        lines += ["", "# The score that a word must exceed to be a tag.", "[thresholds]"]
        lines += [f"{_toml(word)} = {_toml(threshold)}" for word, threshold in learned]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def read_recipe(path: str | os.PathLike[str], settings_of: Callable[[str], object]) -> TagRecipe:
    """The recipe that a file holds.

    Args:
        path: a file that `write_recipe` wrote, or a person.
        settings_of: gives the default settings of a method by its name.

    Raises:
        InputError: a file that cannot be read, is no TOML, or holds a key or a value that is no setting.
    """
    given = _parsed(Path(path))
    method = given.setdefault("method", "tagclip")
    if not isinstance(method, str):
        raise InputError(f'{path} has method {method!r}; give a method\'s name, as in "tagclip"')
    defaults = settings_of(method)
    hints = {**get_type_hints(type(defaults)), **get_type_hints(TagRecipe)}
    own = {setting.name for setting in fields(cast(Any, defaults))}
    general = {setting.name for setting in fields(TagRecipe)} - {"variant"}
    unknown = sorted(set(given) - own - general)
    if unknown:
        raise InputError(
            f"{path} holds {', '.join(unknown)}, which is no setting of {method}; "
            f"known: {', '.join(sorted(own | general))}"
        )
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise InputError(f"{path} lacks {', '.join(missing)}; give each as a list of texts")
    thresholds = given.pop("thresholds", {})
    try:
        values = {key: fit_value(key, value, hints[key]) for key, value in given.items()}
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not values["words"] or not values["templates"]:
        raise InputError(f"{path} has no words or no templates; give at least one of each")
    numbers = {name: getattr(defaults, name) for name in own}
    numbers.update({name: value for name, value in values.items() if name in own})
    rest = {"name": method, **{name: value for name, value in values.items() if name not in own}}
    rest["thresholds"] = _thresholds(path, thresholds, cast(tuple[str, ...], values["words"]))
    return TagRecipe(variant=type(defaults)(**numbers), **cast(Any, rest))


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
    learned = {word: _number(path, word, value) for word, value in given.items()}
    return tuple(learned.get(word) for word in words) if learned else ()


def _number(path: object, word: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{path} has {value!r} as the threshold of {word}; give a number")
    return float(value)


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
