"""The header of a JPEG. Its decoder gets tables and scans, never comments, profiles, previews or EXIF."""

import re

from tagmask.images.header import Header, Part, Stream, read_at, unpack_at
from tagmask.images.limits import MAX_METADATA, HeaderError, refuse
from tagmask.images.orientation import orientation_of
from tagmask.types import Size

__all__ = ["jpeg_header"]

_EOI, _SOS, _TEM, _COM = 0xD9, 0xDA, 0x01, 0xFE
_ALONE = {_TEM, *range(0xD0, 0xDA)}
"""Markers without content."""
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EXIF = 0xE1
_UNUSED = {*range(0xE1, 0xEE), 0xEF, _COM}
"""All that applications add; but JFIF (E0) and Adobe (EE) decide on the colours."""

_MAX_SEGMENTS = 10_000
_MAX_FILL = 1 << 16
_MAX_SCANS = 48
"""Encoders write up to 18. Each scan costs a pass over all pixels, however short it is."""
_BLOCK = 1 << 18
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"


def jpeg_header(stream: Stream, pixels: bool) -> Header:
    """Read the segments of a JPEG up to its first scan, and count its scans.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; then scans are counted.

    Raises:
        HeaderError: there is no frame or no scan.
        CostError: too many scans, segments or metadata.
    """
    parts: list[Part] = [(0, 2)]
    size: Size | None = None
    exif, xmp = b"", b""
    metadata = 0
    at = 2
    for _ in range(_MAX_SEGMENTS):
        start, marker = _marker(stream, at)
        if marker in _ALONE:
            at = start + 2
            continue
        (length,) = unpack_at(stream, start + 2, ">H")
        at = start + 2 + length
        if marker == _SOS:
            break
        if marker in _FRAMES:
            _, height, width = unpack_at(stream, start + 4, ">BHH")
            size = height, width
        if marker not in _UNUSED:
            parts.append((start, at))
            continue
        metadata += length
        if metadata > MAX_METADATA:
            refuse(f"it has more than {MAX_METADATA >> 20} MB of metadata")
        content = read_at(stream, start + 4, max(0, length - 2)) if marker == _EXIF else b""
        if content.startswith(b"Exif\0\0"):
            exif += content[6:] if exif else content
        elif content.startswith(_XMP_PREFIX):
            xmp = content.removeprefix(_XMP_PREFIX)
    else:
        raise HeaderError(f"it has {_MAX_SEGMENTS:,} segments, and no pixels after them")
    if size is None:
        raise HeaderError("it has pixels, but not their number")
    end = stream.seek(0, 2)
    if pixels:
        _check_scans(stream, start, end)
    return Header(size, orientation_of(exif, xmp), [*parts, (start, end)])


def _marker(stream: Stream, at: int) -> tuple[int, int]:
    """Find the next marker: its first byte (FF) and its kind. What lies before it is skipped."""
    skipped = read_at(stream, at, _MAX_FILL)
    found = _MARKER.search(skipped)
    if found is None:
        raise HeaderError("it ends within its header" if len(skipped) < _MAX_FILL else "it has no marker")
    return at + found.end() - 2, skipped[found.end() - 1]


def _check_scans(stream: Stream, at: int, end: int) -> None:
    """Check the number of scans from the first one on, up to the end of the image."""
    scans = segments = 0
    while at < end:
        block = read_at(stream, at, min(_BLOCK, end - at))
        found = _MARKER.search(block)
        if found is None:
            # A marker may begin with the last byte.
            at += max(1, len(block) - 1)
            continue
        marker = block[found.end() - 1]
        at += found.end()
        if marker == _EOI:
            return
        segments += 1
        scans += marker == _SOS
        if scans > _MAX_SCANS:
            refuse(f"it has more than {_MAX_SCANS} scans")
            return
        if segments > _MAX_SEGMENTS:
            refuse(f"it has more than {_MAX_SEGMENTS:,} segments between its scans")
            return
        if marker not in _ALONE:
            (length,) = unpack_at(stream, at, ">H") if at + 2 <= end else (0,)
            at += length
