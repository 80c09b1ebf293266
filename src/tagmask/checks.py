"""Range and choice checks of settings, with one wording for their errors."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from tagmask.errors import InputError

__all__ = [
    "EXTRAS",
    "check_choice",
    "check_installed",
    "check_number",
    "did_you_mean",
    "did_you_mean_file",
    "missing_packages",
    "shown",
]

_LONGEST, _DIGITS = 80, 40
_LARGEST = 2**63
_MOST_FILES = 10_000
"""Names of a folder that are compared with a mistyped one."""

EXTRAS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "app": {"fastapi": "fastapi", "python_multipart": "python-multipart", "uvicorn": "uvicorn"},
        "coco": {"pycocotools": "pycocotools"},
        "cvat": {"cvat_sdk": "cvat-cli"},  # which installs cvat-sdk
        "export": {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
        "fiftyone": {"fiftyone": "fiftyone"},
        "openvino": {"openvino": "openvino", "nncf": "nncf"},
        "parquet": {"pyarrow": "pyarrow"},
        "sam": {"transformers": "transformers"},
        "students": {"transformers": "transformers"},
        "supervision": {"supervision": "supervision"},
        "tensorboard": {"tensorboard": "tensorboard"},
    }
)
"""The optional packages of each extra, by the names under which they are imported."""


def shown(value: object) -> str:
    """Return a value as Python writes it, shortened, for a message.

    Example:
        >>> shown("cat"), shown(16**5000)
        ("'cat'", 'a whole number of more than 40 digits')
    """
    if isinstance(value, int) and abs(value) >= 10**_DIGITS:
        return f"a whole number of more than {_DIGITS} digits"
    if isinstance(value, str):
        value = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}…"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a list that holds a huge number, or one nested too deeply
        return f"a {type(value).__name__}"
    return text if len(text) <= 2 * _LONGEST else f"{text[: 2 * _LONGEST]}…"


def check_number(
    name: str, value: object, low: int | float, high: int | float | None = None, *, whole: bool = False
) -> None:
    """Check that a value is a number in low..high, both included.

    Args:
        name: of the setting, for the message.
        value: the value to check; NaN, infinities, whole numbers of more than 64 bits and bool are refused.
        low: least value.
        high: greatest value; None for no limit.
        whole: whether it must be an int.

    Raises:
        InputError: the value is no such number.

    Example:
        >>> check_number("stride", 0, 1, whole=True)
        Traceback (most recent call last):
        tagmask.errors.InputError: stride is 0. Give a whole number, 1 or more.
    """
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and _is_bounded(value) and low <= value and (high is None or value <= high):  # type: ignore[operator]
        return
    wanted = "a whole number" if whole else "a number"
    span = f"{low} or more" if high is None else f"from {low} to {high}"
    raise InputError(f"{name} is {shown(value)}. Give {wanted}, {span}.")


def _is_bounded(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, float) else -_LARGEST <= value <= _LARGEST  # type: ignore[operator]


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that a value is one of `choices`.

    Raises:
        InputError: the value is not among them.
    """
    if value not in choices:
        hint = did_you_mean(value, choices) if len(choices) > 1 else ""
        raise InputError(f"Unknown {name} {shown(value)}.{hint} Give one of {', '.join(choices)}.")


def did_you_mean(name: object, known: Iterable[str], most: int = 3, *, prefix: str = "") -> str:
    """Return the question that follows "Unknown X 'name'.", with a space before it; empty if nothing is near.

    Args:
        name: what was given; upper and lower case make no difference.
        known: the names that exist.
        most: greatest number of them to name.
        prefix: put before each of them.

    Example:
        >>> did_you_mean("SCILP", ["sclip", "clip", "gem"], 1), did_you_mean("x", ["sclip"])
        (' Did you mean sclip?', '')
    """
    text = str(name)
    if len(text) > _LONGEST:
        return ""
    spelled = {each.casefold(): each for each in known}
    near = get_close_matches(text.casefold(), spelled, n=most)
    return f" Did you mean {' or '.join(prefix + spelled[each] for each in near)}?" if near else ""


def did_you_mean_file(path: str | os.PathLike[str]) -> str:
    """As `did_you_mean`, for a path that does not exist: near names in its folder."""
    try:
        with os.scandir(Path(path).parent) as entries:
            names = [entry.name for entry in islice(entries, _MOST_FILES)]
    except (OSError, ValueError):
        return ""
    return did_you_mean(Path(path).name, names)


def missing_packages(extra: str, *modules: str) -> tuple[str, ...]:
    """Return the packages of an extra that are not installed.

    Args:
        extra: name of the extra.
        modules: only those imported by these names. Default: all of the extra.
    """
    packages = EXTRAS[extra]
    return tuple(packages[module] for module in modules or packages if find_spec(module) is None)


def check_installed(task: str, extra: str, *modules: str, otherwise: str = "") -> None:
    """Check that optional packages are installed, before any work is done.

    Args:
        task: what needs them, for the message.
        extra: tagmask's extra that installs them.
        modules: as in `missing_packages`.
        otherwise: what can be done without them, for the message.

    Raises:
        InputError: one is not installed; the message gives the command that installs it.
    """
    missing = missing_packages(extra, *modules)
    if missing:
        command = f"pip install 'tagmask[{extra}]'"
        raise InputError(f"{task} needs {' and '.join(missing)}. Run: {command}{otherwise}")
