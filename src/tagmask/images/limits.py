"""What an image may cost: 400 MB and 16 bytes a pixel, 5 s and 0.3 s of processor time a megapixel.

The limits here keep every supported format within that. `PIL.Image.MAX_IMAGE_PIXELS = None` lifts them all.
"""

import PIL.Image

from tagmask.types import Size

__all__ = [
    "MAX_METADATA",
    "MAX_PARTS",
    "CostError",
    "HeaderError",
    "SizeError",
    "check_memory",
    "check_size",
    "refuse",
]

MAX_METADATA = 64 << 20
"""Bytes of metadata that are skipped or read."""

MAX_PARTS = 250_000
"""Chunks, segments or blocks of a file. An image of 89 megapixels in chunks of 8 kB has 87,000."""

_MAX_SIDE = 65535
"""As in JPEG. Narrow images of millions of rows cost more memory for each pixel than others."""

_BYTES_PER_PIXEL = 16
_MEMORY = 128 << 20


class HeaderError(Exception):
    """The header is damaged; the message says how, as part of a sentence."""


class SizeError(Exception):
    """The image has too many pixels."""


class CostError(Exception):
    """The image would cost too much for its size; the message says why, as part of a sentence."""


def check_size(size: Size) -> None:
    """Check the stored size against the limits on pixels and sides.

    Raises:
        HeaderError: there are no pixels.
        SizeError: there are too many.
    """
    height, width = size
    limit = PIL.Image.MAX_IMAGE_PIXELS
    shown = f"{height} x {width} (height x width)"
    if height * width == 0:
        raise HeaderError(f"it has no pixels: {shown}")
    if limit is None:
        return
    if height * width > limit:
        raise SizeError(f"{shown}, limit of {limit} pixels")
    if max(size) > _MAX_SIDE:
        raise SizeError(f"{shown}, limit of {_MAX_SIDE} pixels a side")


def check_memory(size: Size, needed: int, why: str) -> None:
    """Check what a decoder allocates, in bytes, at its peak.

    Raises:
        CostError: it is over the memory limit.
    """
    if needed > _MEMORY + _BYTES_PER_PIXEL * size[0] * size[1]:
        refuse(why)


def refuse(why: str) -> None:
    """Refuse a file for its cost, unless limits are lifted.

    Raises:
        CostError: limits apply.
    """
    if PIL.Image.MAX_IMAGE_PIXELS is not None:
        raise CostError(why)
