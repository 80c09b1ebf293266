"""What decides a run's results, as a fingerprint, and what differs between two runs, in words."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path, PurePath

from tagmask.errors import InputError
from tagmask.printable import printable
from tagmask.reading import TEXT_LIMIT, read_regular
from tagmask.strict_json import json_text, parse_json

__all__ = ["RESULTS_VERSION", "RunIdentity", "differences", "is_run_file", "read_identity", "to_json"]

RESULTS_VERSION = 1
"""Raised when the same images, words, weights and settings give other results than before."""

_FORMAT = 1
_DEEPEST = 50
"""Most values in one another in a run.json."""


@dataclass(frozen=True)
class RunIdentity:
    """What a run is of. Two runs of one fingerprint give the same results for the same image."""

    kind: str
    """mask, tag, seeds, pseudo, bench, ..."""
    fields: Mapping[str, object]
    """All that decides the results: words, weights' hash, method, every setting, precision, ..."""
    metadata: Mapping[str, object] = field(default_factory=dict)
    """Recorded beside it, without a part in the fingerprint: tagmask's version, device, command, ..."""
    results_version: int = RESULTS_VERSION

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        text = json_text(self._deciding(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def encode(self) -> bytes:
        """The content of `run.json`."""
        described = {
            "tagmask_run": _FORMAT,
            "fingerprint": self.fingerprint,
            **self._deciding(),
            "recorded": to_json(self.metadata),
        }
        text = json_text(described, indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "backslashreplace")

    def _deciding(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "results_version": self.results_version,
            "fields": to_json(self.fields),
        }


def read_identity(path: Path) -> RunIdentity:
    """Read a `run.json`.

    Raises:
        InputError: it cannot be read, is not tagmask's, was written by a newer version, or was changed.
    """
    try:
        described = parse_json(read_regular(path, TEXT_LIMIT))
        form = described["tagmask_run"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a run.json of tagmask"
        raise InputError(f"{path} cannot be read: {reason}. Give a folder that tagmask wrote.") from error
    if not isinstance(form, int) or form > _FORMAT:
        raise InputError(f"{path} was written by a newer tagmask (format {form}); update tagmask.")
    try:
        identity = RunIdentity(
            kind=str(described["kind"]),
            fields=dict(described["fields"]),
            metadata=dict(described["recorded"]),
            results_version=int(described["results_version"]),
        )
        if _is_deep([identity.fields, identity.metadata], _DEEPEST):
            raise ValueError("it is nested too deeply")
        same = described["fingerprint"] == identity.fingerprint
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); put back the one that tagmask wrote.") from error
    if not same:
        raise InputError(f"{path} was changed by hand: its fingerprint does not fit. Put back the old one.")
    return identity


def _is_deep(value: object, most: int) -> bool:
    """Whether values are in more than so many others."""
    if not isinstance(value, list | dict):
        return False
    items = value.values() if isinstance(value, dict) else value
    return not most or any(_is_deep(item, most - 1) for item in items)


def is_run_file(path: Path) -> bool:
    """Whether a file is a `run.json` of tagmask, of whatever version."""
    try:
        described = parse_json(read_regular(path, TEXT_LIMIT))
    except (OSError, ValueError):
        return False
    return isinstance(described, dict) and "tagmask_run" in described


def differences(old: RunIdentity, new: RunIdentity) -> list[str]:
    """Each difference that decides results, as `words were cat, dog, are cat`.

    Example:
        >>> old, new = RunIdentity("mask", {"words": ["cat", "dog"]}), RunIdentity("mask", {"words": ["cat"]})
        >>> differences(old, new)
        ['words were cat, dog, are cat']
    """
    before, after = _flat(old), _flat(new)
    return [
        _difference(name, before.get(name), after.get(name))
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


_LONG = 6


def _flat(identity: RunIdentity) -> dict[str, object]:
    flat: dict[str, object] = {"kind": identity.kind, "results version": identity.results_version}

    def add(prefix: str, value: object) -> None:
        if isinstance(value, dict) and value:
            for name, item in value.items():
                add(f"{prefix}.{name}" if prefix else name, item)
        else:
            flat[prefix] = value

    add("", to_json(identity.fields))
    return flat


def _difference(name: str, old: object, new: object) -> str:
    if isinstance(old, list) and isinstance(new, list) and max(len(old), len(new)) > _LONG:
        gone = [item for item in old if item not in new]
        added = [item for item in new if item not in old]
        if not gone and not added:
            return f"{name} are in another order, or repeated"
        parts = [f"no longer have {_words(gone)}"] * bool(gone) + [f"now have {_words(added)}"] * bool(added)
        return f"{name} {' and '.join(parts)}"
    many = isinstance(old, list) or isinstance(new, list)
    return f"{name} {'were' if many else 'was'} {_words(old)}, {'are' if many else 'is'} {_words(new)}"


def _words(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, list):
        shown = ", ".join(_words(item) for item in value[:_LONG]) or "none"
        return shown + (f" and {len(value) - _LONG} more" if len(value) > _LONG else "")
    if isinstance(value, bool):
        return "on" if value else "off"
    text = printable(value if isinstance(value, str) else json_text(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:77]}..."


def to_json(value: object) -> object:
    """A value as strict JSON holds it: sequences as lists, infinities and NaN as words, enums by value.

    Raises:
        InputError: a value that JSON cannot hold.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return to_json(value.value)
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [to_json(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json(item) for item in value), key=repr)
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays
        return to_json(value.tolist())
    raise InputError(f"{type(value).__name__} {value!r} cannot be recorded in run.json")
