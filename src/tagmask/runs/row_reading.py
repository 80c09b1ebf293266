"""Rows of a run's database as values, checked: SQLite keeps any value anywhere."""

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from tagmask.printable import printable
from tagmask.relative_paths import leads_outside
from tagmask.runs.rows import JSON_COLUMNS, ImageRow
from tagmask.strict_json import parse_json

__all__ = ["ListedImage", "listed", "row_of"]

_HUGE: Final = 1e30
"""No score or time is so large, and float32 holds it."""

ListedImage = tuple[int, str, str, bytes, int | None, int | None, str]
"""Id, key, name, source, size, mtime_ns and status of an image."""


def listed(columns: sqlite3.Row) -> ListedImage:
    """The columns of a `ListedImage`, checked.

    Raises:
        ValueError: naming the column with a value that no run writes.
    """
    _check(columns)
    return cast("ListedImage", tuple(columns))


def row_of(columns: sqlite3.Row) -> ImageRow:
    """A row of `images` joined with its review; columns that are not known here are left out.

    Raises:
        ValueError: naming the column with a value that no run writes.
    """
    _check(columns)
    values: dict[str, Any] = {name: columns[name] for name in ImageRow.__dataclass_fields__}
    for name in JSON_COLUMNS:
        values[name] = None if values[name] is None else _parsed(name, values[name])
    for name in ("tags", "absent"):
        values[name] = None if values[name] is None else tuple(values[name])
    values["source"] = Path(os.fsdecode(values["source"]))
    values["review"] = values["review"] or "unseen"
    values["stale"] = bool(values["stale"])
    return ImageRow(**values)


def _check(columns: sqlite3.Row) -> None:
    for name in columns.keys():  # noqa: SIM118 - a row is iterated by values
        check = _COLUMNS.get(name)
        if check is not None and not check(columns[name]):
            raise ValueError(f"its {name} is {_shown(columns[name])}")

    key, name, source = columns["key"], columns["name"], columns["source"]
    if name == key and source == key.encode("utf-8", "surrogatepass"):
        return  # an image that is known by its key alone, and has no files
    if leads_outside(name):
        raise ValueError(f"its name is {_shown(name)}")
    for which, parts in (("key", key.split("/")), ("source", os.fsdecode(source).split("/"))):
        if ".." in parts:
            raise ValueError(f"its {which} is {_shown('/'.join(parts))}")


def _parsed(name: str, text: str) -> object:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise ValueError(f"its {name} is not JSON ({error})") from error
    if not _JSON[name](value):
        raise ValueError(f"its {name} is {_shown(text)}")
    return value


def _shown(value: object) -> str:
    text = printable(value if isinstance(value, str) else repr(value)[:80])
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def _text(value: object) -> bool:
    return isinstance(value, str)


def _name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and "\0" not in value


def _whole(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63


def _pixels(value: object) -> bool:
    return value is None or (type(value) is int and 0 < value < 2**31)


def _number(value: object) -> bool:
    return type(value) in (int, float) and abs(cast("float", value)) < _HUGE  # nor NaN


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _counts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_whole, value.values()))


_COLUMNS: Final[Mapping[str, Callable[[object], bool]]] = MappingProxyType(
    {
        "id": _whole,
        "key": _name,
        "name": _name,
        "source": lambda value: isinstance(value, bytes) and b"\0" not in value,
        "size": _or_none(_whole),
        "mtime_ns": _or_none(_whole),
        "width": _pixels,
        "height": _pixels,
        "status": lambda value: value in ("todo", "done", "failed"),
        "error": _or_none(_text),
        "seconds": _or_none(_number),
        "confidence": _or_none(_number),
        "updated": _or_none(_number),
        "review": lambda value: value in (None, "unseen", "accepted", "corrected", "rejected"),
        "stale": lambda value: value in (None, 0, 1),
        **dict.fromkeys(JSON_COLUMNS, _or_none(_text)),
    }
)
_JSON: Final[Mapping[str, Callable[[object], bool]]] = MappingProxyType(
    {
        "tags": _texts,
        "absent": _texts,
        "scores": lambda value: _numbers(value) or (isinstance(value, list) and all(map(_number, value))),
        "shares": _counts,
        "class_confidence": _numbers,
        "record": lambda value: isinstance(value, dict),
    }
)
