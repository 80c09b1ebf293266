"""Read a `TrainConfig` from TOML files and `--set` options; refuse unknown keys and check types."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from tagmask.checks import did_you_mean
from tagmask.errors import InputError
from tagmask.printable import shortened
from tagmask.reading import read_text
from tagmask.settings.parse import SETTINGS_LIMIT, fit_value, parse_toml, parse_value
from tagmask.weak.config import TrainConfig

__all__ = ["load_config", "shipped_configs", "with_settings"]

Settings = TypeVar("Settings")


def shipped_configs() -> tuple[str, ...]:
    """Names of the configurations that come with the package.

    Example:
        >>> "weakclip/voc" in shipped_configs()
        True
    """
    folders = (folder for folder in _root().iterdir() if folder.is_dir())
    names = [f"{folder.name}/{file.name[:-5]}" for folder in folders for file in folder.iterdir()]
    return tuple(sorted(name for name in names if not name.startswith("_")))


def load_config(source: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        source: the name of a shipped configuration, or the path of a TOML file. A file may begin with
            `base = "weakclip/voc"` and hold only the settings that differ.
        changes: each as `KEY=VALUE`. KEY is dotted (`optimiser.lr`), or short (`lr`) if only one part has it.
            VALUE is TOML; strings may come without quotes.

    Raises:
        InputError: no such file or name, invalid TOML, an unknown key, or a value of the wrong type or out
            of range.
    """
    config = _from_table(_read(str(source)), str(source), ())
    return with_settings(config, changes)


def with_settings(config: TrainConfig, changes: Sequence[str]) -> TrainConfig:
    """Change settings, each given as `KEY=VALUE`; see `load_config`.

    Raises:
        InputError: an unknown key, or a value of the wrong type or out of range.

    Example:
        >>> with_settings(TrainConfig(), ["lr=3e-4", "schedule.steps=10"]).optimiser.lr
        0.0003
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set {change!r} has no value. Give KEY=VALUE, as in lr=1e-4.")
        part, name = _find_key(key.strip())
        settings = getattr(config, part)
        config = replace(config, **{part: _changed(settings, {name: parse_value(text.strip())}, part)})
    return config


def _root() -> Traversable:
    return resources.files("tagmask.weak") / "configs"


def _read(source: str) -> Mapping[str, Any]:
    if source in shipped_configs():
        folder, name = source.split("/")
        return parse_toml((_root() / folder / f"{name}.toml").read_text(encoding="utf-8"))
    if not os.path.lexists(source) and not source.startswith("~"):
        raise InputError(
            f"There is no configuration {shortened(source)}.{did_you_mean(source, shipped_configs(), 1)}",
            f"Give a TOML file, or one of {', '.join(shipped_configs())}.",
        )
    text = read_text(source, "The configuration", "Give a TOML file.", SETTINGS_LIMIT)
    try:
        return parse_toml(text)
    except ValueError as error:
        raise InputError(
            f"The configuration {source} is not valid TOML: {error}. Give a TOML file."
        ) from error


def _from_table(table: Mapping[str, Any], source: str, bases: tuple[str, ...]) -> TrainConfig:
    base = table.get("base", "")
    if not isinstance(base, str) or base in bases:
        raise InputError(f"base in {source} is {base!r}. Give the name or path of another configuration.")
    try:
        config = _from_table(_read(base), base, (*bases, base)) if base else TrainConfig()
    except InputError as error:
        raise _prefixed(f"base in {source}", error) from error
    parts = {field.name: getattr(config, field.name) for field in fields(config)}
    for part, values in table.items():
        if part == "base":
            continue
        if part not in parts:
            raise _prefixed(source, _unknown(part, parts))
        if not isinstance(values, dict):
            raise InputError(f"{source}: {part} is {values!r}. Give a table, as in [{part}].")
        try:
            parts[part] = _changed(parts[part], values, part)
        except InputError as error:
            raise _prefixed(source, error) from error
    return replace(config, **parts)


def _find_key(key: str) -> tuple[str, str]:
    """Part and name of a dotted or short key."""
    known = [
        f"{part.name}.{setting.name}"
        for part in fields(TrainConfig)
        for setting in fields(_part_type(part.name))
    ]
    if key in known:
        part, name = key.split(".")
        return part, name
    matches = [dotted for dotted in known if dotted.split(".")[1] == key]
    if len(matches) > 1:
        raise InputError(f"--set {key} is ambiguous. Give {' or '.join(matches)}.")
    if not matches:
        raise _unknown(key, [*known, *(dotted.split(".")[1] for dotted in known)])
    part, name = matches[0].split(".")
    return part, name


def _part_type(part: str) -> type:
    hint: type = get_type_hints(TrainConfig)[part]
    return hint


def _unknown(name: str, known: Sequence[str] | Mapping[str, object]) -> InputError:
    hint = did_you_mean(name, known, 1)
    details = "" if hint else f"The settings are {', '.join(known)}."
    return InputError(f"Unknown setting {name}.{hint}", details)


def _prefixed(source: str, error: InputError) -> InputError:
    problem, *details = error.lines
    return InputError(f"{source}: {problem}", *details)


def _changed(settings: Settings, values: Mapping[str, object], part: str) -> Settings:
    hints = get_type_hints(type(settings))
    checked = {}
    for name, value in values.items():
        if name not in hints:
            raise _unknown(f"{part}.{name}", [f"{part}.{known}" for known in hints])
        checked[name] = fit_value(f"{part}.{name}", value, hints[name])
    return replace(settings, **checked)  # type: ignore[type-var]  # every part is a dataclass
