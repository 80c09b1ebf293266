"""Small files that cost or pretend much, built byte by byte."""

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

Size = tuple[int, int]


def encoded(image: PIL.Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(
    size: Size,
    depth: int,
    colours: int,
    rows: bytes,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
) -> bytes:
    """A PNG of size (h, w); `rows` has a filter byte for each row."""
    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colours, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *before, pixels, *after, chunk(b"IEND", b"")]
    )


def webp(size: Size) -> bytes:
    """A lossless WebP of one colour: its codes have one symbol, so that the pixels take no bits."""
    fields = [(size[1] - 1, 14), (size[0] - 1, 14), (0, 1), (0, 3), (0, 1), (0, 1), (0, 1)]
    fields += [(1, 1), (0, 1), (0, 1), (0, 1)] * 5
    bits = length = 0
    for value, count in fields:
        bits |= value << length
        length += count
    content = b"\x2f" + bits.to_bytes(-(-length // 8), "little")
    content += bytes(len(content) % 2)
    return riff([(b"VP8L", content)])


def riff(chunks: Sequence[tuple[bytes, bytes]]) -> bytes:
    content = b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def tiff(tags: Sequence[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A TIFF of tags (number, type, count, value); `data` follows, at byte `8 + 2 + 12 * tags + 4`."""
    entries = b"".join(
        struct.pack("<HHIHH" if kind == 3 and count == 1 else "<HHII", number, kind, count, value, *(
            (0,) if kind == 3 and count == 1 else ()
        ))
        for number, kind, count, value in tags
    )  # fmt: skip
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def grey_tiff(values: np.ndarray, *, white_is_zero: bool = False) -> bytes:
    """An uncompressed TIFF of grey, at the depth of its values."""
    bits, signed = 8 * values.dtype.itemsize, values.dtype.kind == "i"
    height, width = values.shape
    at = 8 + 2 + 12 * 10 + 4
    tags = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 1, bits), (259, 3, 1, 1)]
    tags += [(262, 3, 1, 0 if white_is_zero else 1), (273, 4, 1, at), (277, 3, 1, 1), (278, 3, 1, height)]
    tags += [(279, 4, 1, values.nbytes), (339, 3, 1, 2 if signed else 1)]
    return tiff(tags, values.astype(values.dtype.newbyteorder("<")).tobytes())


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encoded(PIL.Image.new("RGB", (16, 16), (200, 10, 10)), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xd9")
    last = data[data.rindex(b"\xff\xc4") : end]
    return data[:end] + last * (count - data.count(b"\xff\xda")) + data[end:]


def exif(orientation: int, order: str = ">") -> bytes:
    head = b"MM\0*" if order == ">" else b"II*\0"
    return head + struct.pack(f"{order}IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def jpeg2000(size: Size, *, precincts: int | None = None, layers: int = 1, tile: Size | None = None) -> bytes:
    """A code stream whose precincts have sides of 2 ** `precincts`."""
    options = {} if tile is None else {"tile_size": tile}
    data = encoded(PIL.Image.new("RGB", size[::-1]), "JPEG2000", no_jp2=True, **options)
    at = data.index(b"\xff\x52")
    (length,) = struct.unpack_from(">H", data, at + 2)
    style = bytearray(data[at + 4 : at + 2 + length])
    style[2:4] = struct.pack(">H", layers)
    if precincts is not None:
        style[0] |= 1
        style = style[:10] + bytes([precincts * 0x11]) * (style[5] + 1)
    return data[: at + 2] + struct.pack(">H", len(style) + 2) + style + data[at + 2 + length :]
