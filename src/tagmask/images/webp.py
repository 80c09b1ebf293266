"""The header of a WebP. Its decoder gets the first frame, never other frames, profiles or EXIF."""

import itertools
import struct

from tagmask.images.header import Header, Part, Stream, read_at, unpack_at
from tagmask.images.limits import MAX_PARTS, HeaderError, check_memory, refuse
from tagmask.images.orientation import orientation_of
from tagmask.types import Size

__all__ = ["webp_header"]

_IMAGE = (b"VP8 ", b"VP8L", b"ANMF")
_MAX_METADATA = 4 << 20
_COPIES = 3
"""Of the first frame's data in memory."""
_BYTES_PER_PIXEL = 12
"""Of the decoder, with the decoded image."""


def webp_header(stream: Stream, pixels: bool) -> Header:
    """Read the chunks of a WebP.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; not used.

    Raises:
        HeaderError: the size cannot be read.
        CostError: too many chunks, or far more data than pixels.
    """
    size = _size(stream)
    chunks: list[tuple[int, int]] = []
    exif = xmp = None
    complete = False
    (length,) = unpack_at(stream, 4, "<I")
    at = 12
    for number in itertools.count():
        if at + 8 > 8 + length or len(head := read_at(stream, at, 8)) < 8:
            break
        if number == MAX_PARTS:
            refuse(f"it has more than {MAX_PARTS:,} chunks")
        name, content = struct.unpack("<4sI", head)
        stop = at + 8 + content + content % 2
        if name in (b"VP8X", b"ANIM", b"ALPH", *_IMAGE) and not complete:
            chunks.append((at, stop))
            complete = name in _IMAGE
        elif name == b"EXIF" and exif is None and content <= _MAX_METADATA:
            exif = read_at(stream, at + 8, content)
        elif name == b"XMP " and xmp is None and content <= _MAX_METADATA:
            xmp = read_at(stream, at + 8, content)
        at = stop
    kept = sum(stop - start for start, stop in chunks)
    height, width = size
    needed = _COPIES * kept + _BYTES_PER_PIXEL * height * width
    check_memory(size, needed, f"it has {kept / 1e6:.0f} MB of data for {height} x {width} pixels")
    parts: list[Part] = [b"RIFF" + struct.pack("<I", min(kept + 4, 2**32 - 2)) + b"WEBP", *chunks]
    return Header(size, orientation_of(exif, xmp), parts)


def _size(stream: Stream) -> Size:
    """The size of the canvas, which is the size of the image if there is one frame."""
    (name,) = unpack_at(stream, 12, "4s")
    if name == b"VP8X":
        low_w, high_w, low_h, high_h = unpack_at(stream, 24, "<HBHB")
        return (high_h << 16 | low_h) + 1, (high_w << 16 | low_w) + 1
    if name == b"VP8L":
        signature, bits = unpack_at(stream, 20, "<BI")
        if signature == 0x2F:
            return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if name == b"VP8 ":
        start, width, height = unpack_at(stream, 23, "<3sHH")
        if start == b"\x9d\x01\x2a":
            return height & 0x3FFF, width & 0x3FFF
    raise HeaderError("its first chunk is no image")
