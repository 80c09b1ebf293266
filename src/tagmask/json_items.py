"""Go through the items of a large JSON text one by one, with their places, so that few are in memory.

The text must be decoded as Latin-1, which maps each byte to one character: offsets in the text are then those
in the file. Texts in the values have to be decoded again.
"""

import json
import re
from collections.abc import Generator, Iterator
from typing import Any, NoReturn

__all__ = ["list_items", "object_items"]

_BLANKS = re.compile(r"[ \t\n\r]*")


def object_items(text: str, split_key: str) -> Iterator[tuple[str, Any, int, int]]:
    """Yield the keys and values of a JSON object with their offsets (start, stop) in the text.

    Args:
        text: a JSON object.
        split_key: a key whose list is yielded item by item.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.

    Example:
        >>> [(key, value) for key, value, _, _ in object_items('{"a": 1, "b": [2, 3]}', "b")]
        [('a', 1), ('b', 2), ('b', 3)]
    """
    decode = _decoder()
    at = _after(text, 0, "{")
    if text.startswith("}", at):
        return
    while True:
        key, at = decode(text, at)
        start = _after(text, at, ":")
        if key == split_key and text.startswith("[", start):
            items = list_items(text, start)
            while True:
                try:
                    yield key, *next(items)
                except StopIteration as end:
                    at = end.value
                    break
        else:
            value, at = decode(text, start)
            yield key, value, start, at
        if text.startswith("}", _next(text, at)):
            return
        at = _after(text, at, ",")


def list_items(text: str, at: int = 0) -> Generator[tuple[Any, int, int], None, int]:
    """Yield the values of a JSON list with their offsets (start, stop) in the text.

    Args:
        text: JSON.
        at: where the list begins.

    Returns:
        The offset after the list.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.

    Example:
        >>> list(list_items('[1, [2]]'))
        [(1, 1, 2), ([2], 4, 7)]
    """
    decode = _decoder()
    at = _after(text, at, "[")
    while not text.startswith("]", at):
        value, stop = decode(text, at)
        yield value, at, stop
        at = _next(text, stop)
        if not text.startswith("]", at):
            at = _after(text, at, ",")
    return at + 1


def _decoder() -> Any:  # noqa: ANN401 - as the JSON decoder's own method
    return json.JSONDecoder(parse_constant=_refuse_constant).raw_decode


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has {name} for a number")


def _next(text: str, at: int) -> int:
    """Return the offset of the first non-blank character from `at` on."""
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _after(text: str, at: int, sign: str) -> int:
    """Return the offset after `sign`, which must come next."""
    at = _next(text, at)
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"Expecting {sign!r}", text[at : at + 20], 0)
    return _next(text, at + 1)
