"""The header of a GIF. Its decoder gets the first frame, never the comments before it."""

from tagmask.images.header import Header, Part, Stream, unpack_at
from tagmask.images.limits import MAX_PARTS, HeaderError, refuse

__all__ = ["gif_header"]

_EXTENSION, _IMAGE, _END = 0x21, 0x2C, 0x3B
_CONTROL = 0xF9


def gif_header(stream: Stream, pixels: bool) -> Header:
    """Read the blocks of a GIF up to its first frame.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; not used.

    Raises:
        HeaderError: there is no frame.
        CostError: too many blocks before it.
    """
    width, height, flags = unpack_at(stream, 6, "<HHB")
    at = 13 + _palette(flags)
    parts: list[Part] = [(0, at)]
    blocks = 0
    while True:
        (kind,) = unpack_at(stream, at, "B")
        start = at
        if kind == _IMAGE:
            left, top, frame_width, frame_height = unpack_at(stream, at + 1, "<HHHH")
            size = max(height, top + frame_height), max(width, left + frame_width)
            return Header(size, parts=[*parts, (at, stream.seek(0, 2))])
        blocks += 1
        if kind == _EXTENSION:
            (label,) = unpack_at(stream, at + 1, "B")
            at += 2
            while block := unpack_at(stream, at, "B")[0]:
                at += 1 + block
                blocks += 1
                if blocks > MAX_PARTS:
                    refuse(f"it has more than {MAX_PARTS:,} blocks before its first frame")
            at += 1
            if label == _CONTROL:
                parts = [*parts[:1], (start, at)]  # the last one counts
        elif kind == _END:
            raise HeaderError("there is no image in it")
        else:
            at += 1
        if blocks > MAX_PARTS:
            refuse(f"it has more than {MAX_PARTS:,} blocks before its first frame")


def _palette(flags: int) -> int:
    """Length of the palette that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
