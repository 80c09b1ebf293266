"""Take files of common formats apart and put them together again, with lengths and checksums repaired.

A damaged length or checksum is noticed by the first lines of a reader. Only pieces that are valid one by one,
but missing, doubled, in another order or with another content, reach the code behind.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from benchmarks.fuzz.mutate import MAX_SIZE, Mutator, mutate_bytes

__all__ = ["AVIF", "JP2", "JPEG", "PNG", "WEBP", "Format", "Piece", "by_pieces", "isobmff", "repeated_piece"]


@dataclass(frozen=True)
class Piece:
    """A chunk, segment, box, entry or operation."""

    tag: bytes
    """Its type or name; b"" for bytes outside any."""
    body: bytes


@dataclass(frozen=True)
class Format:
    """How files of a format are taken apart and put together."""

    split: Callable[[bytes], list[Piece]]
    """Never fails: what cannot be understood is one last piece."""
    join: Callable[[Sequence[Piece]], bytes]


def by_pieces(format_: Format, inside: Mutator = mutate_bytes) -> Mutator:
    """Return a mutator that drops, repeats, swaps, borrows and changes pieces.

    Args:
        format_: of the file.
        inside: changes the body of a piece.
    """

    def mutate(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
        pieces = format_.split(data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            if not pieces:
                break
            _change(pieces, others, rng)
        return format_.join(pieces)

    def _change(pieces: list[Piece], others: Sequence[bytes], rng: Random) -> None:
        at = rng.randrange(len(pieces))
        match rng.randrange(8):
            case 0:
                del pieces[at]
            case 1:
                times = min(1 << rng.randrange(6), 1 + MAX_SIZE // (1 + len(pieces[at].body)))
                pieces[at:at] = [pieces[at]] * times
            case 2:
                pieces.insert(rng.randrange(len(pieces)), pieces.pop(at))
            case 3:
                found = format_.split(rng.choice(others))
                if found:
                    pieces[at] = rng.choice(found)
            case 4:
                pieces[at] = replace(pieces[at], tag=rng.choice(pieces).tag)
            case _:
                bodies = [piece.body for piece in pieces]
                pieces[at] = replace(pieces[at], body=inside(pieces[at].body, bodies, rng))

    return mutate


def repeated_piece(format_: Format, *tags: bytes, times: int) -> Mutator:
    """Return a mutator that repeats neighbouring pieces many times: the scans of a JPEG, frames."""

    def mutate(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
        pieces = format_.split(data)
        places = [at for at, piece in enumerate(pieces) if piece.tag in tags]
        if not places:
            return data
        first = rng.choice(places)
        last = first + 1
        while last < len(pieces) and pieces[last].tag in tags:
            last += 1
        most = MAX_SIZE // (1 + sum(len(piece.body) for piece in pieces[first:last]))
        pieces[last:last] = pieces[first:last] * min(rng.randrange(1, times), most)
        return format_.join(pieces)

    return mutate


# -- PNG: length, type, data, CRC ----------------------------------------------------------------------------

_PNG_START = b"\x89PNG\r\n\x1a\n"


def _split_png(data: bytes) -> list[Piece]:
    pieces, at = [], len(_PNG_START)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        pieces.append(Piece(data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return pieces


def _join_png(pieces: Sequence[Piece]) -> bytes:
    return _PNG_START + b"".join(
        struct.pack(">I", len(body := piece.body)) + piece.tag + body + _crc(piece.tag + body)
        for piece in pieces
    )


def _crc(data: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(data))


# -- JPEG: marker, length, data; after "start of scan" data until the next marker ----------------------------

_ALONE = (0x01, *range(0xD0, 0xDA))
"""Markers without a length."""
_SCAN = 0xDA


def _split_jpeg(data: bytes) -> list[Piece]:
    pieces, at = [], 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _ALONE:
            pieces.append(Piece(data[at : at + 2], b""))
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        pieces.append(Piece(data[at : at + 2], data[at + 4 : at + 2 + length]))
        at += 2 + length
        if marker == _SCAN:
            start = at
            while at + 2 <= len(data) and not (data[at] == 0xFF and data[at + 1] not in (0, *_ALONE[1:9])):
                at += 1
            pieces.append(Piece(b"", data[start:at]))
    return [*pieces, Piece(b"", data[at:])]


def _join_jpeg(pieces: Sequence[Piece]) -> bytes:
    return b"".join(
        piece.tag + piece.body
        if not piece.tag or piece.tag[1] in _ALONE
        else piece.tag + struct.pack(">H", min(len(piece.body) + 2, 0xFFFF)) + piece.body[:0xFFFD]
        for piece in pieces
    )


# -- RIFF (WebP): type, length, data, padded to two bytes ----------------------------------------------------


def _split_webp(data: bytes) -> list[Piece]:
    pieces, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        pieces.append(Piece(data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return pieces


def _join_webp(pieces: Sequence[Piece]) -> bytes:
    content = b"WEBP" + b"".join(
        piece.tag + struct.pack("<I", len(piece.body)) + piece.body + bytes(len(piece.body) % 2)
        for piece in pieces
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


# -- ISO boxes (AVIF, JPEG 2000): length, type, data; some boxes hold boxes ----------------------------------


def isobmff(*folders: bytes) -> Format:
    """Return the format of files of boxes; boxes of the types `folders` are taken apart too.

    The path of a box is its tag: b"meta/iprp/ipco/ispe".
    """

    def split(data: bytes, path: bytes = b"") -> list[Piece]:
        pieces, at = [], 4 if path.endswith(b"meta/") else 0
        pieces += [Piece(path, data[:at])] if at else []
        while at + 8 <= len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            end = at + length if 8 <= length <= len(data) - at else len(data)
            body = data[at + 8 : end]
            pieces += split(body, path + kind + b"/") if kind in folders else [Piece(path + kind, body)]
            at = end
        return pieces

    def join(pieces: Sequence[Piece], depth: int = 0) -> bytes:
        content, at = b"", 0
        while at < len(pieces):
            names = pieces[at].tag.split(b"/")
            name = names[depth] if depth < len(names) else b""
            last = at + 1
            if len(names) > depth + 1:
                while last < len(pieces) and pieces[last].tag.split(b"/")[: depth + 1] == names[: depth + 1]:
                    last += 1
                body = join(pieces[at:last], depth + 1)
            else:
                body = pieces[at].body
            content += struct.pack(">I", 8 + len(body)) + name.ljust(4)[:4] + body if name else body
            at = last
        return content

    return Format(split, join)


PNG = Format(_split_png, _join_png)
JPEG = Format(_split_jpeg, _join_jpeg)
WEBP = Format(_split_webp, _join_webp)
AVIF = isobmff(b"meta", b"iprp", b"ipco")
JP2 = isobmff(b"jp2h")
