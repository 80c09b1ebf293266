"""Settings that cannot be used, refused with one wording."""

from collections.abc import Sequence

from tagmask.errors import InputError

__all__ = ["check_choice", "check_number"]


def check_number(
    name: str, value: object, low: int | float, high: int | float | None = None, *, whole: bool = False
) -> None:
    """Refuse a value that is no number, or outside low..high.

    Raises:
        InputError: naming the setting, the value and the range.

    Example:
        >>> check_number("stride", 0, 1, whole=True)
        Traceback (most recent call last):
        tagmask.errors.InputError: stride is 0; give a whole number, 1 or more
    """
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if number and low <= value and (high is None or value <= high):  # type: ignore[operator]
        return
    wanted = "a whole number" if whole else "a number"
    span = f"{low} or more" if high is None else f"from {low} to {high}"
    raise InputError(f"{name} is {value!r}; give {wanted}, {span}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of `choices`.

    Raises:
        InputError: naming the setting, the value and the choices.
    """
    if value not in choices:
        raise InputError(f"{name} {value!r} is unknown; give one of {', '.join(choices)}")
