"""The header of a JPEG 2000: the size, and how finely the pixels are divided.

A few bytes of header can ask for millions of tiles, code-blocks or precincts, each of which costs hundreds of
bytes before anything is decoded. Encoders use tiles of 256 pixels or more, and blocks of 32 or 64.
"""

from tagmask.images.header import Header, Stream, read_at, unpack_at
from tagmask.images.limits import HeaderError, check_memory, refuse

__all__ = ["jpeg2000_header"]

_SOC, _SIZ, _COD, _COC, _SOT, _SOD, _EOC = 0xFF4F, 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9
_MAX_BOXES = 1000
_MAX_MARKERS = 100_000
_SMALL_TILE = 64 * 64
_SMALL_BLOCK = 16 * 16
_FEW_TILES = 64
_FEW_BLOCKS = 200_000
_FEW_PRECINCTS = 30_000
"""As many may be smaller."""
_MAX_LAYERS = 1024
_MAX_PACKETS = 4_000_000
_MAX_COMPONENTS = 4
_DATA = 32 << 20
_DATA_PER_PIXEL = 2
"""Bytes that are decoded in the time that an image may take."""


def jpeg2000_header(stream: Stream, pixels: bool) -> Header:
    """Read the main header of the code stream and those of its tiles.

    Args:
        stream: the file.
        pixels: whether the image will be decoded; then tiles are checked.

    Raises:
        HeaderError: the size is missing.
        CostError: the image is divided too finely.
    """
    at = _code_stream(stream)
    marker, length, _, right, bottom, left, top, tile_w, tile_h, _, _, components = unpack_at(
        stream, at + 2, ">HHHIIIIIIIIH"
    )
    size = bottom - top, right - left
    if marker != _SIZ or min(size) <= 0 or not tile_w or not tile_h:
        raise HeaderError("its SIZ segment is missing or damaged")
    if components > _MAX_COMPONENTS:
        raise HeaderError(f"it has {components} components")
    height, width = size
    tiles = -(-bottom // tile_h) * -(-right // tile_w)
    if tiles > _FEW_TILES + height * width // _SMALL_TILE:
        refuse(f"{height} x {width} pixels are divided into {tiles:,} tiles")
    tile = min(tile_h, height) * min(tile_w, width)
    needed = 5 * components * tile + 4 * height * width
    check_memory(size, needed, f"its tiles have {tile:,} pixels of {components} components")
    data = stream.seek(0, 2)
    if data > _DATA + _DATA_PER_PIXEL * height * width:
        refuse(f"it has {data / 1e6:.0f} MB of data for {height} x {width} pixels")
    if pixels:
        _check_blocks(stream, at + 4 + length, components * height * width)
    return Header(size)


def _code_stream(stream: Stream) -> int:
    """Where the code stream begins: at the start, or in the first `jp2c` box."""
    if read_at(stream, 0, 2) == b"\xff\x4f":
        return 0
    at = 0
    for _ in range(_MAX_BOXES):
        length, name = unpack_at(stream, at, ">I4s")
        start = at + 8
        if length == 1:
            (length,) = unpack_at(stream, start, ">Q")
            start += 8
        if name == b"jp2c":
            return start
        if length < 8:
            break
        at += length
    raise HeaderError("there is no image in it")


def _check_blocks(stream: Stream, at: int, samples: int) -> None:
    """Check the coding styles (COD, COC) of the image and of each tile."""
    tile_end: int | None = None
    for _ in range(_MAX_MARKERS):
        if len(head := read_at(stream, at, 4)) < 4:
            return
        marker, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big")
        if marker == _EOC:
            return
        if marker == _SOD:
            if tile_end is None:
                return
            at = tile_end
            continue
        if marker == _SOT:
            (part,) = unpack_at(stream, at + 6, ">I")
            tile_end = at + max(part, 12) if part else None  # 0: up to the end
        elif marker in (_COD, _COC):
            content = read_at(stream, at + 4, max(0, length - 2))
            _check_style(content if marker == _COD else content[1:], marker == _COD, samples)
        at += 2 + max(length, 2)
    refuse(f"it has more than {_MAX_MARKERS:,} segments")


def _check_style(content: bytes, main: bool, samples: int) -> None:
    """Check the layers, code-blocks and precincts."""
    start = 5 if main else 1
    if len(content) < start + 5:
        return
    block = 16 << (content[start + 1] & 15) + (content[start + 2] & 15)
    if samples // block > _FEW_BLOCKS + samples // _SMALL_BLOCK:
        refuse(f"its code-blocks have {block} samples")
    # One byte for each resolution, the smallest first; each has a quarter of the samples of the next.
    sides = content[start + 5 :] if content[0] & 1 else b""
    precincts = sum(
        (samples >> 2 * level) >> (side & 15) + (side >> 4) for level, side in enumerate(reversed(sides))
    )
    if precincts > _FEW_PRECINCTS + samples // _SMALL_TILE:
        refuse(f"it is divided into {precincts:,} precincts")
    layers = int.from_bytes(content[2:4], "big") if main else 1
    if layers > _MAX_LAYERS or layers * precincts > _MAX_PACKETS + samples:
        refuse(f"it has {layers:,} layers")
