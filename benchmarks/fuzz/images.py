"""Kinds of image files: every mode that Pillow writes, and PNGs of every depth, also interlaced."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image
from PIL import features

from benchmarks.fuzz.archives import BOMB, zlib_bomb
from benchmarks.fuzz.kind import Believed, Kind
from benchmarks.fuzz.mutate import Mutator, mutate_bytes
from benchmarks.fuzz.pieces import AVIF, JP2, JPEG, PNG, WEBP, Piece, by_pieces, repeated_piece
from tagmask.images import image_size, read_image
from tagmask.masks import index_png, read_index_png

__all__ = ["IMAGES"]

SIZE = (23, 17)
"""(width, height) of most samples."""

_EXIF = b"Exif\0\0II*\0" + struct.pack("<IHHHIIHHIIIII", 8, 2, 0x0112, 3, 1, 6, 0x011A, 5, 1, 38, 0, 1, 1)
"""Orientation 6 and a fraction."""
_BIG_SIDES = (1, 2, 255, 16_384, 65_535, 89_000_000, 2**31 - 1, 2**32 - 1)
_NEAR_LIMIT = ((1, 89_000_000), (89_000_000, 1), (9_400, 9_400), (65_000, 1_370), (1_370, 65_000))
"""(width, height) of almost as many pixels as Pillow accepts."""


def _claimed_size(rng: Random) -> tuple[int, int]:
    """A size (width, height) for a header: seldom one that takes seconds to read."""
    if rng.random() < 0.04:
        return rng.choice(_NEAR_LIMIT)
    return rng.choice((0, 1, 9, 300, 2_000)), rng.choice((0, 1, 9, 300, 2_000, 65_535))


def _picture(mode: str, size: tuple[int, int] = SIZE) -> PIL.Image.Image:
    width, height = size
    noise = np.random.default_rng(len(mode)).integers(0, 256, (height, width, 4), dtype=np.uint8)
    noise[: height // 2] //= 32  # flat parts, as in drawings
    if mode in ("I;16", "I", "F"):
        values = noise[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        return PIL.Image.fromarray(values)
    return PIL.Image.fromarray(noise[..., :3]).convert(mode) if mode != "RGBA" else PIL.Image.fromarray(noise)


def _saved(format_: str, mode: str, size: tuple[int, int] = SIZE, **options: object) -> bytes:
    file = io.BytesIO()
    _picture(mode, size).save(file, format_, **options)
    return file.getvalue()


def _read(path: Path) -> int:
    """Read an image and its size, which must agree."""
    height, width, _ = read_image(path).shape
    if image_size(path) != (height, width):
        raise Believed(f"its size is {image_size(path)}, but {(height, width)} pixels are read")
    return height * width


def _claimed(path: Path) -> int:
    """Pixels that an image's header claims, if they are not too many."""
    try:
        with PIL.Image.open(path) as image:
            pixels = image.width * image.height
    except Exception:  # too many, or unreadable
        return 0
    return pixels if pixels <= (PIL.Image.MAX_IMAGE_PIXELS or 0) else 0


def _kind(samples: Sequence[bytes], *mutators: Mutator) -> Kind:
    return Kind(samples, _read, mutators or (mutate_bytes,), "input.image", claimed_pixels=_claimed)


# -- PNG -----------------------------------------------------------------------------------------------------

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bit depths by colour type."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Interlaced: x and y of the first pixel of each pass, and the steps."""


def _png(colour: int, depth: int, *, interlaced: bool, exif: str = "") -> bytes:
    """Write a PNG of random pixels.

    Args:
        colour: PNG's colour type.
        depth: bits per channel.
        interlaced: in seven passes.
        exif: where the orientation stands: "before" or "after" the pixels.
    """
    width, height = SIZE
    rng = Random(colour * 16 + depth)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    lines = b""
    for x, y, dx, dy in passes:
        bits = -(-(width - x) // dx) * depth * _CHANNELS[colour]
        for _ in range(-(-(height - y) // dy)):
            lines += bytes([rng.randrange(5)]) + rng.randbytes(-(-bits // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    palette = [Piece(b"PLTE", rng.randbytes(3 << depth)), Piece(b"tRNS", rng.randbytes(1 << depth))]
    orientation = Piece(b"eXIf", _EXIF[6:])
    return PNG.join(
        [
            Piece(b"IHDR", header),
            Piece(b"gAMA", struct.pack(">I", 45455)),
            *(
                palette
                if colour == 3
                else [Piece(b"tRNS", bytes(2 * _CHANNELS[colour]))]
                if colour in (0, 2)
                else []
            ),
            *([orientation] if exif == "before" else []),
            Piece(b"IDAT", zlib.compress(lines)),
            *([orientation] if exif == "after" else []),
            Piece(b"tEXt", b"Comment\0text"),
            Piece(b"IEND", b""),
        ]
    )


def _png_header(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Claim another size, depth, colour type or interlacing."""
    pieces = PNG.split(data)
    if not pieces or len(pieces[0].body) != 13:
        return data
    fields = list(struct.unpack(">IIBBBBB", pieces[0].body))
    which = rng.randrange(5)
    if which < 2:
        fields[which] = rng.choice(_BIG_SIDES)
    elif which == 2:
        fields[0], fields[1] = _claimed_size(rng)
    else:
        fields[rng.randrange(2, 7)] = rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return PNG.join([Piece(b"IHDR", struct.pack(">IIBBBBB", *fields)), *pieces[1:]])


def _png_bomb(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Add a text or a profile that is much larger than its file; or pixels near the limit of their number."""
    if rng.random() > 0.02:
        return _png_header(data, (), rng)
    pieces = PNG.split(data)
    if rng.random() < 0.5:
        packed = zlib_bomb(BOMB)
        chunk = rng.choice(
            (
                Piece(b"zTXt", b"Raw profile type exif\0\0" + packed),
                Piece(b"iCCP", b"profile\0\0" + packed),
                Piece(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
            )
        )
        pieces.insert(rng.randrange(1, len(pieces) + 1), chunk)
        return PNG.join(pieces)
    (width, height), depth, colour = rng.choice(_NEAR_LIMIT), rng.choice((1, 8)), rng.choice((0, 3, 2))
    depth = 8 if colour == 2 else depth
    length = height * (1 + -(-width * depth * _CHANNELS[colour] // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib_bomb(length if rng.random() < 0.5 else length // 50)
    palette = [Piece(b"PLTE", bytes(3 << depth))] if colour == 3 else []
    return PNG.join([Piece(b"IHDR", header), *palette, Piece(b"IDAT", body), Piece(b"IEND", b"")])


def _png_texts(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Add texts that viewers read an orientation from, and many others."""
    pieces = PNG.split(data)
    profile = f"\nexif\n{len(_EXIF):8}\n{_EXIF.hex()}\n".encode()
    xmp = b"<x:xmpmeta><rdf:Description tiff:Orientation='6'/></x:xmpmeta>"
    texts = (
        Piece(b"tEXt", b"Raw profile type exif\0" + profile),
        Piece(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        Piece(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        Piece(b"eXIf", _EXIF[rng.choice((0, 6)) :]),
        Piece(b"eXIf", mutate_bytes(_EXIF[6:], [b""], rng)),
        Piece(b"tEXt", b"a\0" + bytes(rng.randrange(100))),
    )
    at = rng.randrange(1, len(pieces) + 1) if pieces else 0
    pieces[at:at] = [rng.choice(texts)] * rng.choice((1, 1, 1, 2000))
    return PNG.join(pieces)


def _png_kind() -> Kind:
    samples = [
        _png(colour, depth, interlaced=interlaced, exif=exif)
        for colour, depths in _DEPTHS.items()
        for depth in depths
        for interlaced, exif in ((False, ""), (True, "before"), (False, "after"))
    ]
    samples.append(_saved("PNG", "RGB", (90, 70)))
    return _kind(samples, mutate_bytes, by_pieces(PNG), by_pieces(PNG), _png_header, _png_bomb, _png_texts)


# -- Other formats -------------------------------------------------------------------------------------------


def _field(*places: tuple[int, int], order: str) -> Mutator:
    """Return a mutator that writes hostile sizes at places (offset, width) of the header."""

    def mutate(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
        at, width = rng.choice(places)
        side = rng.choice((*_BIG_SIDES, *(side for pair in _NEAR_LIMIT for side in pair)))
        number = (side % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
        return data[:at] + number + data[at + width :]

    return mutate


def _jpeg_kind() -> Kind:
    samples = [
        _saved("JPEG", mode, size, **options)
        for mode in ("RGB", "L", "CMYK")
        for size in (SIZE, (90, 70))
        for options in ({}, {"progressive": True}, {"exif": _EXIF}, {"subsampling": 0, "quality": 95})
    ]
    samples.append(_saved("JPEG", "RGB", restart_marker_blocks=1))
    pieces = by_pieces(JPEG)
    return _kind(samples, mutate_bytes, pieces, pieces, pieces, _jpeg_size, _jpeg_scans)


_SCANS = repeated_piece(JPEG, b"\xff\xda", b"\xff\xc4", b"", times=300)


def _jpeg_scans(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Repeat scans, seldom of a large image: a decoder goes through all its pixels for each."""
    repeated = _SCANS(data, others, rng)
    return _jpeg_claim(repeated, 3_000, 3_000) if rng.random() < 0.04 else repeated


def _jpeg_size(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Claim another size."""
    width, height = _claimed_size(rng)
    return _jpeg_claim(data, width & 0xFFFF, height & 0xFFFF)


def _jpeg_claim(data: bytes, width: int, height: int) -> bytes:
    pieces = JPEG.split(data)
    for at, piece in enumerate(pieces):
        if piece.tag[1:2] in (b"\xc0", b"\xc1", b"\xc2"):
            size = struct.pack(">HH", height, width)
            pieces[at] = Piece(piece.tag, piece.body[:1] + size + piece.body[5:])
    return JPEG.join(pieces)


def _webp_kind() -> Kind:
    samples = [
        _saved("WEBP", mode, **options)
        for mode in ("RGB", "RGBA")
        for options in ({}, {"lossless": True}, {"exif": _EXIF}, {"quality": 5})
    ]
    frames = [_picture("RGBA"), _picture("RGB"), _picture("L").convert("RGB")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    samples.append(file.getvalue())
    samples.append(WEBP.join([_webp_claim(40, 30)]))
    sizes = _field((24, 3), (27, 3), (26, 2), (28, 2), (21, 4), order="little")
    frames_repeated = repeated_piece(WEBP, b"ANMF", times=500)
    return _kind(samples, mutate_bytes, by_pieces(WEBP), by_pieces(WEBP), sizes, frames_repeated, _webp_size)


def _webp_claim(width: int, height: int) -> Piece:
    """The chunk of a lossless image that ends after its size."""
    return Piece(b"VP8L", b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little") + bytes(9))


def _webp_size(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Claim another size, seldom with more pixels than may be read; libwebp allocates them on opening."""
    width, height = (max(side, 1) for side in _claimed_size(rng))
    if rng.random() < 0.02:
        width, height = 13_000, 13_000
    if rng.random() < 0.5:
        return WEBP.join([_webp_claim(min(width, 16_384), min(height, 16_384))])
    pieces = WEBP.split(data)
    canvas = (width - 1).to_bytes(4, "little")[:3] + (height - 1).to_bytes(4, "little")[:3]
    return WEBP.join([Piece(b"VP8X", rng.choice((b"\0\0\0\0", b"\2\0\0\0")) + canvas), *pieces])


def _tiff_kind() -> Kind:
    modes = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB", "YCbCr")
    samples = [_saved("TIFF", mode) for mode in modes]
    samples += [
        _saved("TIFF", mode, compression=compression)
        for mode in ("L", "RGB")
        for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ]
    samples.append(_saved("TIFF", "1", compression="group4"))
    return _kind(samples, mutate_bytes, _tiff_entries, _tiff_entries, _tiff_entries)


def _tiff_entries(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Change one of the entries of the first directory: its tag, type, count or value."""
    if len(data) < 8 or data[:2] != b"II":
        return mutate_bytes(data, [data], rng)
    (directory,) = struct.unpack_from("<I", data, 4)
    if directory + 2 > len(data):
        return mutate_bytes(data, [data], rng)
    (entries,) = struct.unpack_from("<H", data, directory)
    at = directory + 2 + 12 * rng.randrange(max(1, min(entries, 100)))
    if at + 12 > len(data):
        return mutate_bytes(data, [data], rng)
    fields = list(struct.unpack_from("<HHII", data, at))
    which = rng.randrange(4)
    fields[which] = (
        rng.choice(
            (254, 256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 317, 320, 322, 324, 338, 339, 347)
        ),
        rng.randrange(1, 19),
        rng.choice((0, 1, 2, 3, 100, 65_536, 2**31)),
        rng.choice((0, 1, 2, 5, 7, 8, 12, 16, 32, 65_535, 89_000_000, 2**31, 2**32 - 1, directory)),
    )[which]
    return data[:at] + struct.pack("<HHII", *fields) + data[at + 12 :]


def _gif_kind() -> Kind:
    samples = [_saved("GIF", mode) for mode in ("1", "L", "P", "RGB")]
    samples += [_saved("GIF", "P", interlace=1), _saved("GIF", "P", transparency=1)]
    file = io.BytesIO()
    _picture("P").save(file, "GIF", save_all=True, append_images=[_picture("L"), _picture("RGB")])
    samples.append(file.getvalue())
    return _kind(samples, mutate_bytes, mutate_bytes, _field((6, 2), (8, 2), order="little"))


def _bmp_kind() -> Kind:
    samples = [_saved("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]
    header = _field((10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (46, 4), order="little")
    return _kind(samples, mutate_bytes, header)


def _ppm_kind() -> Kind:
    samples = [_saved("PPM", mode) for mode in ("1", "L", "RGB", "I;16")]
    samples += [
        b"P1\n# a\n3 2\n101010",
        b"P2 3 2 255 1 2 3 4 5 6",
        b"P3\n2 1\n65535\n1 2 3 4 5 6\n",
        b"Pf\n1 1\n-1.0\n\0\0\0\0",
    ]
    return _kind(samples, mutate_bytes, _ppm_numbers)


def _ppm_numbers(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Change a number of the header."""
    words = data.split(None, 4)
    if words:
        words[rng.randrange(len(words))] = rng.choice(
            (b"0", b"-1", b"1", b"9" * 30, b"5000000", b"65536", b"1e9")
        )
    return b" ".join(words)


def _jpeg2000_kind() -> Kind:
    samples = [_saved("JPEG2000", mode) for mode in ("L", "LA", "RGB", "RGBA")]
    samples.append(_saved("JPEG2000", "RGB", no_jp2=True))
    sizes = _field((48, 4), (52, 4), (8, 4), (12, 4), (16, 4), (24, 4), order="big")
    return _kind(samples, mutate_bytes, by_pieces(JP2), sizes)


def _avif_kind() -> Kind:
    samples = [
        _saved("AVIF", mode, **options) for mode in ("RGB", "RGBA") for options in ({}, {"exif": _EXIF})
    ]
    return _kind(samples, mutate_bytes, by_pieces(AVIF), by_pieces(AVIF))


def _mask_kind() -> Kind:
    """Masks, which people edit in other programs."""
    labels = np.random.default_rng(0).integers(0, 21, SIZE[::-1])
    samples = [index_png(labels.astype(kind)) for kind in (np.uint8, np.uint16)]
    samples.append(_saved("PNG", "1"))

    def read(path: Path) -> int:
        found = read_index_png(path)
        return int(found.size)

    mutators = (mutate_bytes, by_pieces(PNG), by_pieces(PNG), _png_header, _png_bomb)
    return Kind(samples, read, mutators, "input.png", claimed_pixels=_claimed)


IMAGES: Mapping[str, Callable[[], Kind]] = {
    "png": _png_kind,
    "jpeg": _jpeg_kind,
    "webp": _webp_kind,
    "tiff": _tiff_kind,
    "gif": _gif_kind,
    "bmp": _bmp_kind,
    "ppm": _ppm_kind,
    "jpeg2000": _jpeg2000_kind,
    **({"avif": _avif_kind} if features.check("avif") else {}),
    "mask": _mask_kind,
}
"""Image files, by name. Each makes its samples when it is called."""
