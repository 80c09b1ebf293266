"""What an AVIF may cost, from its boxes: the number of AV1 frames behind the one image that is shown."""

from collections.abc import Iterator

from tagmask.images.header import Stream, read_at, unpack_at
from tagmask.images.limits import HeaderError, check_memory, refuse
from tagmask.types import Size

__all__ = ["check_avif", "check_avif_memory"]

_Span = tuple[int, int]
_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_MAX_BOXES = 10_000
_MAX_ITEMS = 1 << 16
_MAX_UNITS = 200_000
_MAX_FRAMES = 16
"""Images have one, or one for each of up to 4 layers. Hidden ones are decoded too."""
_FRAME_HEADER, _FRAME = 3, 6


def check_avif(stream: Stream) -> None:
    """Count the frames of each image, and of the first sample of each track.

    Raises:
        HeaderError: a box is cut off.
        CostError: there are too many.
    """
    boxes = list(_boxes(stream))
    types = _item_types(stream, boxes)
    data = next((start for name, start, _ in boxes if name == b"idat"), 0)
    samples = [_first_sample(stream, boxes)] if any(name == b"moov" for name, _, _ in boxes) else []
    images = [spans for item, spans in _items(stream, boxes, data) if types.get(item) == b"av01"]
    units = 0
    for spans in [*images, *samples]:
        frames = 0
        for kind in (kind for span in spans for kind in _units(stream, span)):
            units += 1
            frames += kind in (_FRAME_HEADER, _FRAME)
            if frames > _MAX_FRAMES or units > _MAX_UNITS:
                refuse(f"an image in it has more than {_MAX_FRAMES} frames")
                return


def check_avif_memory(stream: Stream, size: Size) -> None:
    """Check the memory for the file and its decoded image.

    Raises:
        CostError: the file is far larger than its pixels.
    """
    length = stream.seek(0, 2)
    why = f"it has {length / 1e6:.0f} MB of data for {size[0]} x {size[1]} pixels"
    check_memory(size, 2 * length + 13 * size[0] * size[1], why)


def _boxes(stream: Stream) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, first byte and end of the content of each box that may tell where images are."""
    ahead = [(0, stream.seek(0, 2))]
    for _ in range(_MAX_BOXES):
        while ahead and ahead[-1][0] + 8 > ahead[-1][1]:
            ahead.pop()
        if not ahead:
            return
        at, end = ahead.pop()
        length, name = unpack_at(stream, at, ">I4s")
        start = at + 8
        if length == 1:
            (length,) = unpack_at(stream, start, ">Q")
            start += 8
        stop = end if length == 0 else at + length
        if stop < start:
            raise HeaderError(f"its box {name!r} has a length of {length}")
        ahead.append((stop, end))
        yield name, start, min(stop, end)
        if name in _CONTAINERS:
            ahead.append((start, min(stop, end)))
        elif name in (b"meta", b"iinf"):
            version = read_at(stream, start, 1)
            skip = 4 if name == b"meta" else 6 if version == b"\0" else 8
            ahead.append((start + skip, min(stop, end)))
    refuse(f"it has more than {_MAX_BOXES:,} boxes")


def _item_types(stream: Stream, boxes: list[tuple[bytes, int, int]]) -> dict[int, bytes]:
    types: dict[int, bytes] = {}
    for start in (start for name, start, _ in boxes if name == b"infe"):
        version = read_at(stream, start, 1)
        item, _, kind = unpack_at(stream, start + 4, ">IH4s" if version == b"\3" else ">HH4s")
        types[item] = kind
    return types


def _items(
    stream: Stream, boxes: list[tuple[bytes, int, int]], data: int
) -> Iterator[tuple[int, list[_Span]]]:
    """Yield where the items are: their number, first bytes and ends."""
    for at, stop in ((start, stop) for name, start, stop in boxes if name == b"iloc"):
        version, sizes = unpack_at(stream, at, ">B3xH")
        widths = [sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15 if version else 0]
        reader = _Reader(stream, at + 6, stop)
        wide = 4 if version == 2 else 2
        for _ in range(min(reader.integer(wide), _MAX_ITEMS)):
            item = reader.integer(wide)
            method = reader.integer(2) & 15 if version else 0
            reader.integer(2)
            base = reader.integer(widths[2]) + (data if method == 1 else 0)
            spans = []
            for _ in range(reader.integer(2)):
                reader.integer(widths[3])
                offset, length = reader.integer(widths[0]), reader.integer(widths[1])
                start = base + offset
                spans.append((start, start + length if length else stream.seek(0, 2)))
            yield item, spans


def _first_sample(stream: Stream, boxes: list[tuple[bytes, int, int]]) -> list[_Span]:
    offsets, lengths = [], []
    for name, start, _ in boxes:
        if name == b"stsz":
            same, count = unpack_at(stream, start + 4, ">II")
            lengths.append(same or (unpack_at(stream, start + 12, ">I")[0] if count else 0))
        elif name in (b"stco", b"co64"):
            (count,) = unpack_at(stream, start + 4, ">I")
            layout = ">I" if name == b"stco" else ">Q"
            offsets.append(unpack_at(stream, start + 8, layout)[0] if count else 0)
    return [(at, at + length) for at, length in zip(offsets, lengths, strict=False)]


class _Reader:
    """Reads integers one after another."""

    def __init__(self, stream: Stream, at: int, stop: int) -> None:
        self._data = read_at(stream, at, stop - at)
        self._at = 0

    def integer(self, count: int) -> int:
        """The next integer, of `count` bytes.

        Raises:
            HeaderError: there are none left.
        """
        if self._at + count > len(self._data):
            raise HeaderError("its list of items is cut off")
        self._at += count
        return int.from_bytes(self._data[self._at - count : self._at], "big")


def _units(stream: Stream, span: _Span) -> Iterator[int]:
    """Yield the kinds of the AV1 units (OBU) of a part of the file."""
    at, stop = span
    while at < stop and (head := read_at(stream, at, 10)):
        kind, extended, sized = head[0] >> 3 & 15, head[0] >> 2 & 1, head[0] >> 1 & 1
        yield kind
        if not sized:
            return
        at += 1 + extended
        length = shift = 0
        for byte in head[1 + extended :]:  # 7 bits in each, the lowest first
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        at += length
