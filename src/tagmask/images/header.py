"""What the header of an image file says, and the parts of the file that its pixels depend on."""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tagmask.images.limits import HeaderError
from tagmask.types import Size

__all__ = ["ColourKey", "Header", "Part", "Stream", "only", "read_at", "unpack_at"]

Stream: TypeAlias = io.BytesIO | io.BufferedReader
Part: TypeAlias = tuple[int, int] | bytes
"""First byte and byte after the last of a part of the file; or bytes that are not in it."""
ColourKey: TypeAlias = int | tuple[int, int, int]
"""The grey or the colour that is transparent, in the values that Pillow decodes to."""


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded."""

    size: Size
    """As stored, before it is turned."""
    orientation: int = 1
    """As in EXIF, 1..8."""
    parts: Sequence[Part] | None = None
    """What the decoder needs of the file; None: all."""
    colour_key: ColourKey | None = None


def read_at(stream: Stream, at: int, count: int) -> bytes:
    """Read up to `count` bytes; fewer at the end of the file."""
    if not 0 <= at < 2**63:
        return b""
    stream.seek(at)
    return stream.read(count)


def unpack_at(stream: Stream, at: int, layout: str) -> tuple[Any, ...]:
    """Read numbers.

    Raises:
        HeaderError: the file ends before.
    """
    data = read_at(stream, at, struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise HeaderError("it ends within its header")
    return struct.unpack(layout, data)


def only(stream: Stream, parts: Sequence[Part]) -> io.BufferedReader:
    """Return a file that has only some parts of another, without copying them."""
    return io.BufferedReader(_Parts(stream, parts), 1 << 16)


class _Parts(io.RawIOBase):
    def __init__(self, stream: Stream, parts: Sequence[Part]) -> None:
        super().__init__()
        self._stream = stream
        self._parts: list[Part] = []
        for part in parts:
            last = self._parts[-1] if self._parts else b""
            if isinstance(part, tuple) and isinstance(last, tuple) and last[1] == part[0]:
                self._parts[-1] = last[0], part[1]
            else:
                self._parts.append(part)
        self._length = sum(map(_length, self._parts))
        self._at = self._index = self._before = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        if self._at < self._before:
            self._index = self._before = 0
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        while self._index < len(self._parts):
            part = self._parts[self._index]
            offset, length = self._at - self._before, _length(part)
            if offset < length:
                count = min(len(buffer), length - offset)
                data = (
                    part[offset : offset + count]
                    if isinstance(part, bytes)
                    else read_at(self._stream, part[0] + offset, count)
                )
                buffer[: len(data)] = data
                self._at += len(data)
                return len(data)
            self._before += length
            self._index += 1
        return 0


def _length(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else part[1] - part[0]
