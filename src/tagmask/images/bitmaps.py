"""The headers of BMP and of PBM, PGM and PPM, whose decoders are partly in Python."""

import re

from tagmask.images.header import Header, Stream, read_at, unpack_at
from tagmask.images.limits import HeaderError, refuse

__all__ = ["bmp_header", "pnm_header"]

_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_RLE = (1, 2)
_MAX_RLE = 8 << 20

_PNM_HEAD = 1 << 16
_TOKEN = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*([^\s#]{1,10})(?=[\s#])")
_PLAIN = (b"P1", b"P2", b"P3")
_SAMPLES = {b"P3": 3, b"P6": 3, b"P0CMYK": 4, b"PyRGBA": 4, b"PyCMYK": 4}
_MAX_COMMENTS = 1000
_SLOW = 4_000_000
_SLOW_PER_PIXEL = 0.6
"""Samples that Python decodes in the time that an image may take."""


def bmp_header(stream: Stream, pixels: bool) -> Header:
    """Read the header of a BMP.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; not used.

    Raises:
        HeaderError: an unknown kind of header.
        CostError: more run lengths than pixels.
    """
    (kind,) = unpack_at(stream, 14, "<I")
    if kind not in _BMP_HEADERS:
        raise HeaderError(f"its header has {kind} bytes")
    if kind == 12:
        width, height = unpack_at(stream, 18, "<HH")
        return Header((height, width))
    width, height, _, _, compression = unpack_at(stream, 18, "<IIHHI")
    if height >> 24 == 0xFF:  # negative: the rows are in order
        height = 2**32 - height
    length = stream.seek(0, 2)
    if compression in _RLE and length > _MAX_RLE + 5 * height * width // 4:
        refuse(f"it has {length / 1e6:.0f} MB of run lengths for {height} x {width} pixels")
    return Header((height, width))


def pnm_header(stream: Stream, pixels: bool) -> Header:
    """Read the header of a PBM, PGM, PPM or PFM.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; not used.

    Raises:
        HeaderError: a number is missing.
        CostError: samples that must be decoded one by one, or comments, are too many.
    """
    head = read_at(stream, 0, _PNM_HEAD)
    kind = re.split(rb"\s", head[:7])[0]
    numbers: list[int] = []
    at = len(kind)
    needed = 2 if kind in (b"P1", b"P4", b"Pf") else 3
    while len(numbers) < needed:
        found = _TOKEN.match(head, at)
        if found is None or not found[1].isdigit():
            raise HeaderError("its size is missing")
        numbers.append(int(found[1]))
        at = found.end()
    width, height, *maximum = numbers
    samples = height * width * _SAMPLES.get(kind, 1)
    plain = kind in _PLAIN
    by_sample = maximum and maximum[0] != 255 and (kind, maximum[0]) != (b"P5", 65535)
    if (plain or by_sample) and samples > _SLOW + _SLOW_PER_PIXEL * height * width:
        refuse(f"{samples:,} samples are written as text or in a range other than 0..255")
    if plain and _comments(stream) > _MAX_COMMENTS:
        refuse(f"it has more than {_MAX_COMMENTS:,} comments")
    return Header((height, width))


def _comments(stream: Stream) -> int:
    stream.seek(0)
    count = 0
    while block := stream.read(1 << 20):
        count += block.count(b"#")
    return count
