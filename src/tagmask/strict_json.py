"""JSON as its standard defines it, in one place: no NaN and no infinities, neither written nor read."""

import json
import math
from typing import Any

from tagmask.errors import InputError

__all__ = ["json_bytes", "json_text", "parse_json"]


def json_text(value: object, **layout: Any) -> str:  # noqa: ANN401 - as `json.dumps` takes them
    """Return a value as JSON.

    Args:
        value: of the types that JSON has.
        **layout: of `json.dumps`, such as `indent` and `ensure_ascii`.

    Raises:
        InputError: a number in it is NaN or infinite.

    Example:
        >>> json_text({"score": float("nan")})
        Traceback (most recent call last):
        tagmask.errors.InputError: a result is NaN or infinite, which JSON cannot hold; check the weights
    """
    try:
        return json.dumps(value, **layout, allow_nan=False)
    except ValueError as error:
        raise InputError("a result is NaN or infinite, which JSON cannot hold; check the weights") from error


def json_bytes(value: object) -> bytes:
    r"""Return a value as JSON in UTF-8.

    Bytes of file names that are not text, which Python keeps as surrogates, become escapes that JSON reads
    back.

    Raises:
        InputError: a number in it is NaN or infinite.

    Example:
        >>> json_bytes("a\udce9")
        b'"a\\udce9"'
    """
    return json_text(value, ensure_ascii=False).encode("utf-8", "backslashreplace")


def parse_json(data: str | bytes) -> Any:  # noqa: ANN401 - whatever the file holds
    """Parse JSON from outside.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a number that is NaN, infinite or of
            thousands of digits.

    Example:
        >>> parse_json('{"score": 1e999}')
        Traceback (most recent call last):
        ValueError: 1e999 is no finite number
    """
    try:
        return json.loads(data, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no finite number")
    return number
