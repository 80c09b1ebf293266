"""Text from outside, such as names of files, as a terminal may show it."""

import re
import reprlib

__all__ = ["printable", "short_repr", "shortened"]

_LONGEST = 80
_REPR = reprlib.Repr()
_REPR.maxstring = 60

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # line separators, direction overrides
    "\ud800-\udfff]"  # bytes that are no text
)
_BROKEN = re.compile("[\udc80-\udcff]")


def printable(text: str) -> str:
    r"""Escape what must not reach a terminal: control characters, direction overrides, broken bytes.

    Applied to its own result it changes nothing.

    Example:
        >>> printable("a\x1b]0;owned\x07\n\udce9.png")
        'a\\x1b]0;owned\\x07\\n\\xe9.png'
    """
    return _UNSAFE.sub(_escaped, text)


def shortened(value: object, limit: int = _LONGEST) -> str:
    r"""Show a name from a file in a message: escaped, and at most `limit` characters.

    Example:
        >>> len(shortened("a" * 500)), shortened("a.weight\x1b")
        (80, 'a.weight\\x1b')
    """
    text = printable(str(value)[: 4 * limit])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def short_repr(value: object) -> str:
    """Show a value from a file in a message: as `repr`, with the middle of what is long left out.

    Example:
        >>> short_repr({"depths": [1] * 100})
        "{'depths': [1, 1, 1, 1, 1, 1, ...]}"
    """
    return shortened(_REPR.repr(value))


def _escaped(found: re.Match[str]) -> str:
    char = found[0]
    if _BROKEN.fullmatch(char):
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape", "backslashreplace").decode("ascii")
