"""The header of a TIFF: its first directory, or that of a BigTIFF."""

import struct
from dataclasses import dataclass

from tagmask.images.header import Header, Stream, read_at, unpack_at
from tagmask.images.limits import MAX_METADATA, HeaderError, check_memory, refuse
from tagmask.images.orientation import orientation_of

__all__ = ["tiff_header"]

_UNIT = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1)) | {16: 8, 17: 8, 18: 8}
"""Bytes of a value of each type."""
_INTEGERS = {3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q"}
_WIDTH, _HEIGHT, _BITS, _SAMPLES = 256, 257, 258, 277
_XMP = 700
_ROWS, _STRIP_BYTES = 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_BYTES = 322, 323, 325
_BLOBS = {_XMP, 270, 33723, 34377, 34675, 37724, 50839}
"""Texts, profiles and layers: bytes, which nothing unpacks."""
_MAX_TAGS = 4096
_MAX_VALUES = 100_000
_MAX_XMP = 4 << 20


@dataclass(frozen=True)
class _Tag:
    kind: int
    count: int
    at: int
    """Where its values are."""


def tiff_header(stream: Stream, pixels: bool) -> Header:
    """Read the first directory of a TIFF, without its orientation tag, which Pillow reads in its own way.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; not used.

    Raises:
        HeaderError: the size is missing.
        CostError: tags of more data than any image of the size needs, or huge tiles.
    """
    order, tags = _directory(stream)
    width, height = (_first(stream, order, tags.get(tag), 0) for tag in (_WIDTH, _HEIGHT))
    size = height, width
    if min(size) <= 0:
        raise HeaderError(f"it has no pixels: {height} x {width} (height x width)")
    for number, each in tags.items():
        if number not in _BLOBS and each.count > _MAX_VALUES + height * width // 64:
            refuse(f"its tag {number} has {each.count:,} values")
    samples = _first(stream, order, tags.get(_SAMPLES), 1)
    bits = _first(stream, order, tags.get(_BITS), 1) * min(samples, 16)
    rows = _first(stream, order, tags.get(_TILE_HEIGHT, tags.get(_ROWS)), height)
    columns = _first(stream, order, tags.get(_TILE_WIDTH), width)
    if _TILE_HEIGHT not in tags:
        rows = min(rows, height)
    sizes = tags.get(_TILE_BYTES, tags.get(_STRIP_BYTES))
    largest = max(_integers(stream, order, sizes), default=0) if sizes is not None else 0
    needed = columns * rows * bits // 8 + min(largest, stream.seek(0, 2)) + 7 * height * width
    check_memory(size, needed, f"its strips or tiles have {rows} x {columns} pixels of {bits} bits")
    xmp = tags.get(_XMP)
    packet = read_at(stream, xmp.at, xmp.count) if xmp is not None and xmp.count <= _MAX_XMP else None
    return Header(size, orientation_of(None, packet))


def _directory(stream: Stream) -> tuple[str, dict[int, _Tag]]:
    """Read the byte order and the tags."""
    head = read_at(stream, 0, 4)
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:]
    (at,) = unpack_at(stream, 8, f"{order}Q") if big else unpack_at(stream, 4, f"{order}I")
    count_layout, layout, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    (count,) = unpack_at(stream, at, f"{order}{count_layout}")
    if count > _MAX_TAGS:
        raise HeaderError(f"it has {count:,} tags")
    at += struct.calcsize(f"{order}{count_layout}")
    length = struct.calcsize(f"{order}{layout}")
    tags: dict[int, _Tag] = {}
    total = 0
    for start in range(at, at + count * (length + inline), length + inline):
        number, kind, values = unpack_at(stream, start, f"{order}{layout}")
        size = values * _UNIT.get(kind, 0)
        where = start + length
        if size > inline:
            (where,) = unpack_at(stream, where, f"{order}{'Q' if big else 'I'}")
            total += size
        if kind in _UNIT:
            tags.setdefault(number, _Tag(kind, values, where))
    if total > MAX_METADATA + min(stream.seek(0, 2), MAX_METADATA):
        refuse(f"its tags have {total / 1e6:.0f} MB")
    return order, tags


def _integers(stream: Stream, order: str, tag: _Tag) -> tuple[int, ...]:
    """The values of a tag; those that lie in the file."""
    if tag.kind not in _INTEGERS:
        return ()
    unit = _UNIT[tag.kind]
    data = read_at(stream, tag.at, tag.count * unit)
    count = len(data) // unit
    return struct.unpack(f"{order}{count}{_INTEGERS[tag.kind]}", data[: count * unit])


def _first(stream: Stream, order: str, tag: _Tag | None, default: int) -> int:
    if tag is None:
        return default
    values = _integers(stream, order, _Tag(tag.kind, min(tag.count, 1), tag.at))
    return values[0] if values else default
