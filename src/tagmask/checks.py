"""Range and choice checks of settings, with one wording for their errors."""

from collections.abc import Sequence

from tagmask.errors import InputError

__all__ = ["check_choice", "check_number"]


def check_number(
    name: str, value: object, low: int | float, high: int | float | None = None, *, whole: bool = False
) -> None:
    """Check that a value is a number in low..high, both included.

    Args:
        name: of the setting, for the message.
        value: the value to check; NaN and bool are refused.
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
    if number and low <= value and (high is None or value <= high):  # type: ignore[operator]
        return
    wanted = "a whole number" if whole else "a number"
    span = f"{low} or more" if high is None else f"from {low} to {high}"
    raise InputError(f"{name} is {value!r}. Give {wanted}, {span}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that a value is one of `choices`.

    Raises:
        InputError: the value is not among them.
    """
    if value not in choices:
        raise InputError(f"Unknown {name} {value!r}. Give one of {', '.join(choices)}.")
