"""The header of a PNG. Its decoder gets pixels, palette and transparency, never text, profiles or frames."""

import itertools
import struct
import zlib
from collections.abc import Iterator

from tagmask.images.header import ColourKey, Header, Part, Stream, read_at
from tagmask.images.limits import MAX_METADATA, MAX_PARTS, HeaderError, refuse
from tagmask.images.orientation import orientation_of

__all__ = ["png_header"]

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE, _GREY, _RGB = 3, 0, 2
_MAX_TEXT = 4 << 20
_BLOCK = 1 << 20
_Chunk = tuple[bytes, int, int]
"""Name, first byte of the content, length of the content."""


def png_header(stream: Stream, pixels: bool) -> Header:
    """Read the chunks of a PNG, also those after the pixels.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; then checksums are checked.

    Raises:
        HeaderError: a required chunk is missing, or a checksum is wrong.
        CostError: more chunks or data than any image of the size needs.
    """
    chunks = _chunks(stream)
    name, at, length = next(chunks, (b"", 0, 0))
    ihdr = read_at(stream, at, 13)
    if name != b"IHDR" or length != 13 or len(ihdr) < 13 or not _intact(stream, name, at, length):
        raise HeaderError("its IHDR chunk is missing or damaged")
    width, height, depth, colours = struct.unpack(">IIBB", ihdr[:10])
    parts: list[Part] = [(0, at + length + 4)]
    found: dict[bytes, bytes] = {}
    data = 0
    ended = False
    for name, at, length in chunks:
        if name == b"IDAT" and not ended:
            if pixels and not _intact(stream, name, at, length):
                raise HeaderError("the checksum of its pixels is wrong")
            data += length
        elif name in (b"PLTE", b"tRNS") and not data:
            if name == b"PLTE" and colours != _PALETTE:
                continue
            if not _intact(stream, name, at, length):
                raise HeaderError(f"the checksum of its {name.decode()} chunk is wrong")
            found[name] = read_at(stream, at, min(length, 768))
        elif name == b"IEND":
            parts.append((at - 8, at + length + 4))
            break
        else:
            ended = data > 0
            _note(stream, name, at, length, found)
            continue
        parts.append((at - 8, at + length + 4))
    if colours == _PALETTE and b"PLTE" not in found:
        raise HeaderError("it has palette colours, but no palette (PLTE chunk)")
    raw = height * (1 + width * depth * _SAMPLES.get(colours, 4) // 8)
    if data > 2 * raw + MAX_METADATA:
        refuse(f"it has {data / 1e6:.0f} MB of compressed data for {height} x {width} pixels")
    exif = found.get(b"eXIf") or _raw_profile(found.get(b"Raw profile type exif", b""))
    orientation = orientation_of(exif, found.get(b"XML:com.adobe.xmp"))
    key = _colour_key(found.get(b"tRNS", b""), depth, colours)
    return Header((height, width), orientation, parts, key)


def _chunks(stream: Stream) -> Iterator[_Chunk]:
    at = 8
    for number in itertools.count():
        if number == MAX_PARTS:
            refuse(f"it has more than {MAX_PARTS:,} chunks")
        head = read_at(stream, at, 8)
        if len(head) < 8:
            return  # cut off; the decoder says so, if pixels are missing
        length, name = struct.unpack(">I4s", head)
        yield name, at + 8, length
        at += length + 12


def _intact(stream: Stream, name: bytes, at: int, length: int) -> bool:
    """Whether the checksum is right; True for a chunk that is cut off."""
    crc = zlib.crc32(name)
    stream.seek(at)
    while length and (block := stream.read(min(length, _BLOCK))):
        crc = zlib.crc32(block, crc)
        length -= len(block)
    stored = stream.read(4)
    return len(stored) < 4 or struct.unpack(">I", stored)[0] == crc


def _note(stream: Stream, name: bytes, at: int, length: int, found: dict[bytes, bytes]) -> None:
    """Keep a chunk that may hold the orientation, unless it is damaged or huge."""
    if name not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt") or length > _MAX_TEXT:
        return
    content = read_at(stream, at, length)
    if name == b"eXIf":
        if _intact(stream, name, at, length):
            found[name] = content
        return
    key, _, text = content.partition(b"\0")
    if key not in (b"Raw profile type exif", b"XML:com.adobe.xmp") or not _intact(stream, name, at, length):
        return
    compressed = name == b"zTXt"
    if name == b"iTXt":
        compressed = text[:1] == b"\1"
        text = b"\0".join(text[2:].split(b"\0", 2)[2:])  # without language and translated key
    elif compressed:
        text = text[1:]  # without the method
    found[key] = _inflated(text) if compressed else text


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    r"""Decode ImageMagick's form: \nexif\n LENGTH \n HEX."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _colour_key(trns: bytes, depth: int, colours: int) -> ColourKey | None:
    """The transparent grey or colour in decoded values: Pillow gives it as stored, whatever the depth.

    Grey of less than 8 bits is decoded to 0..255; RGB of 16 bits to its high bytes.
    """
    count = {_GREY: 1, _RGB: 3}.get(colours)
    if count is None or len(trns) < 2 * count:
        return None
    stored: tuple[int, ...] = struct.unpack_from(f">{count}H", trns)
    values = [value & (1 << depth) - 1 for value in stored]
    if colours == _GREY:
        return values[0] * 255 // ((1 << depth) - 1) if depth < 8 else values[0]
    red, green, blue = (value >> 8 if depth == 16 else value for value in values)
    return red, green, blue
