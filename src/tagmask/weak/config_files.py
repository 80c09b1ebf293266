"""From TOML files and `--set` to a `TrainConfig`: unknown keys are refused, types are checked."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from tagmask.errors import InputError
from tagmask.settings.parse import fit_value, parse_value
from tagmask.weak.config import TrainConfig

__all__ = ["load_config", "shipped_configs", "with_settings"]

Settings = TypeVar("Settings")


def shipped_configs() -> tuple[str, ...]:
    """Names of the settings that come with the package.

    Example:
        >>> "weakclip/voc" in shipped_configs()
        True
    """
    folders = (folder for folder in _root().iterdir() if folder.is_dir())
    found = [f"{folder.name}/{file.name[:-5]}" for folder in folders for file in folder.iterdir()]
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load_config(source: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read settings.

    Args:
        source: the name of shipped settings, or the path of a TOML file. A file may begin with
            `base = "weakclip/voc"` and hold only what differs.
        changes: each as `KEY=VALUE`, KEY dotted (`optimiser.lr`) or, where only one part has it, short
            (`lr`); VALUE as TOML has it, texts also without quotes.

    Raises:
        InputError: no such file or name, text that is no TOML, an unknown key, a value of the wrong type or
            outside its range.
    """
    config = _from_table(_read(str(source)), str(source), ())
    return with_settings(config, changes)


def with_settings(config: TrainConfig, changes: Sequence[str]) -> TrainConfig:
    """Settings with a few changed, each given as `KEY=VALUE`; see `load_config`.

    Raises:
        InputError: an unknown key, a value of the wrong type or outside its range.

    Example:
        >>> with_settings(TrainConfig(), ["lr=3e-4", "schedule.steps=10"]).optimiser.lr
        0.0003
    """
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise InputError(f"--set {change!r} has no value; give KEY=VALUE, as in lr=1e-4")
        part, name = _place(key.strip())
        own = getattr(config, part)
        config = replace(config, **{part: _changed(own, {name: parse_value(text.strip())}, part)})
    return config


def _root() -> Traversable:
    return resources.files("tagmask.weak") / "configs"


def _read(source: str) -> Mapping[str, Any]:
    try:
        if source in shipped_configs():
            folder, name = source.split("/")
            return tomllib.loads((_root() / folder / f"{name}.toml").read_text(encoding="utf-8"))
        with Path(source).expanduser().open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as error:
        near = get_close_matches(source, shipped_configs(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"there are no settings {source}; {hint}"
            f"give a TOML file, or one of {', '.join(shipped_configs())}"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:  # ValueError: TOML's errors, and no UTF-8
        raise InputError(f"settings {source} cannot be read: {error}; give a TOML file") from error


def _from_table(table: Mapping[str, Any], source: str, seen: tuple[str, ...]) -> TrainConfig:
    base = table.get("base", "")
    if not isinstance(base, str) or base in seen:
        raise InputError(f"base in {source} is {base!r}; give the name or path of other settings")
    config = _from_table(_read(base), base, (*seen, base)) if base else TrainConfig()
    parts = {field.name: getattr(config, field.name) for field in fields(config)}
    for part, own in table.items():
        if part == "base":
            continue
        if part not in parts:
            raise InputError(f"{source}: {_unknown(part, parts)}")
        if not isinstance(own, dict):
            raise InputError(f"{source}: {part} is {own!r}; give a table, as in [{part}]")
        try:
            parts[part] = _changed(parts[part], own, part)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
    return replace(config, **parts)


def _place(key: str) -> tuple[str, str]:
    """The part and the name that a key means, dotted or short."""
    known = [
        f"{part.name}.{own.name}" for part in fields(TrainConfig) for own in fields(_part_type(part.name))
    ]
    if key in known:
        part, name = key.split(".")
        return part, name
    meant = [dotted for dotted in known if dotted.split(".")[1] == key]
    if len(meant) > 1:
        raise InputError(f"--set {key} may be {' or '.join(meant)}; give one of them")
    if not meant:
        raise InputError(f"--set {_unknown(key, [*known, *(dotted.split('.')[1] for dotted in known)])}")
    part, name = meant[0].split(".")
    return part, name


def _part_type(part: str) -> type:
    hint: type = get_type_hints(TrainConfig)[part]
    return hint


def _unknown(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}"
    return f"{name} is no setting; {hint}"


def _changed(own: Settings, values: Mapping[str, object], part: str) -> Settings:
    hints = get_type_hints(type(own))
    checked = {}
    for name, value in values.items():
        if name not in hints:
            raise InputError(_unknown(f"{part}.{name}", [f"{part}.{known}" for known in hints]))
        checked[name] = fit_value(f"{part}.{name}", value, hints[name])
    return replace(own, **checked)  # type: ignore[type-var]  # every part is a dataclass
