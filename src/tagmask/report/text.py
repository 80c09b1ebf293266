"""Text on its way into HTML, and numbers as people read them."""

import base64
import html
import re

__all__ = ["data_uri", "escaped", "share"]

_UNFIT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that HTML may not hold: controls, halves of surrogate pairs, non-characters."""


def escaped(text: str) -> str:
    r"""The text as it must stand in HTML, between tags or in a quoted attribute.

    What HTML cannot hold at all, such as the bytes of a file name that is no Unicode, becomes U+FFFD.

    Example:
        >>> escaped('<b title="x">\udcff')
        '&lt;b title=&quot;x&quot;&gt;�'
    """
    return html.escape(_UNFIT.sub("\ufffd", text), quote=True)


def share(value: float) -> str:
    """A share, 0..1, in per cent; what is there is never said to be nothing.

    Example:
        >>> share(0.1234), share(1.0), share(0.0002), share(0.9999), share(0.0)
        ('12.3%', '100%', '<0.1%', '>99.9%', '0%')
    """
    if value in (0.0, 1.0):
        return f"{value:.0%}"
    if value < 0.001:
        return "<0.1%"
    return f"{value:.1%}" if value < 0.9995 else ">99.9%"


def data_uri(kind: str, content: bytes) -> str:
    """A file written into an address, e.g. of kind "image/jpeg"."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
