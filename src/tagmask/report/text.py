"""Escape text for HTML and format numbers for people."""

import base64
import html
import re

__all__ = ["data_uri", "escaped", "percent"]

_INVALID = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that are invalid in HTML: controls, surrogates and non-characters."""


def escaped(text: str) -> str:
    r"""Escape text for HTML, between tags or in a quoted attribute.

    Characters that are invalid in HTML, such as undecodable bytes of a file name, become U+FFFD.

    Example:
        >>> escaped('<b title="x">\udcff')
        '&lt;b title=&quot;x&quot;&gt;�'
    """
    return html.escape(_INVALID.sub("\ufffd", text), quote=True)


def percent(value: float) -> str:
    """Format a share, 0..1, as a percentage; shares near 0 or 1 are not rounded to them.

    Example:
        >>> percent(0.1234), percent(1.0), percent(0.0002), percent(0.9999), percent(0.0)
        ('12.3%', '100%', '<0.1%', '>99.9%', '0%')
    """
    if value in (0.0, 1.0):
        return f"{value:.0%}"
    if value < 0.001:
        return "<0.1%"
    return f"{value:.1%}" if value < 0.9995 else ">99.9%"


def data_uri(kind: str, content: bytes) -> str:
    """Encode a file as a data URI, e.g. of kind "image/jpeg"."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
