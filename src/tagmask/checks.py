"""Range and choice checks of settings, with one wording for their errors."""

import math
from collections.abc import Sequence
from importlib.util import find_spec

from tagmask.errors import InputError

__all__ = ["check_choice", "check_installed", "check_number", "shown"]

_LONGEST, _DIGITS = 80, 40
_LARGEST = 2**63


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
        raise InputError(f"Unknown {name} {shown(value)}. Give one of {', '.join(choices)}.")


def check_installed(module: str, task: str, *, package: str, extra: str) -> None:
    """Check that an optional library is installed, before any work is done.

    Args:
        module: the name by which it is imported.
        task: what needs it, for the message.
        package: the name by which it is installed.
        extra: tagmask's extra that installs it.

    Raises:
        InputError: it is not installed; the message gives the command that installs it.
    """
    if find_spec(module) is None:
        raise InputError(f"{task} needs {package}. Run: pip install 'tagmask[{extra}]'")
