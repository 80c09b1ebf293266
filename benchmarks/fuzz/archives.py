"""Change zip archives, arrays, safetensors and MATLAB files, with their lengths and checksums repaired."""

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Collection, Sequence
from functools import reduce
from random import Random
from typing import Final

import safetensors.torch
from torch import Tensor

from benchmarks.fuzz.mutate import MAX_SIZE, hostile_number, mutate_bytes
from benchmarks.fuzz.pickles import mutate_pickle, numpy_pickle
from benchmarks.fuzz.pieces import Format, Piece, by_pieces
from benchmarks.fuzz.values import change_tree, dump

__all__ = [
    "BOMB",
    "mutate_mat",
    "mutate_npy",
    "mutate_safetensors",
    "mutate_zip",
    "safetensors_bytes",
    "sorted_safetensors",
    "zlib_bomb",
]

BOMB = 700 << 20
"""Zeros in a bomb; more than the budget."""


_ZEROS: Final = bytes(1 << 20)


def deflated_zeros(length: int) -> bytes:
    """Return this many zeros as a raw deflate stream, without compressing each of them."""
    packer = zlib.compressobj(9, wbits=-15)
    # After a full flush nothing refers to what came before, so that the part can be repeated.
    part = packer.compress(_ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    return part * (length >> 20) + packer.compress(bytes(length % (1 << 20))) + packer.flush()


def zlib_bomb(length: int) -> bytes:
    """Return this many zeros as a zlib stream."""
    # Of n zeros the checksum is 1 in its low half and n in its high half, both modulo 65521.
    return b"\x78\x01" + deflated_zeros(length) + struct.pack(">HH", length % 65521, 1)


# -- Zip -----------------------------------------------------------------------------------------------------


def _split_zip(data: bytes) -> list[Piece]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            pieces = [Piece(info.filename.encode(), _start(archive, info)) for info in archive.infolist()]
    except Exception:  # damage
        pieces = []
    return pieces or [Piece(b"archive/data.pkl", data)]


def _start(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the first bytes of an entry, which may be a bomb."""
    with archive.open(info) as file:
        return file.read(MAX_SIZE >> 2)


def _entry(name: bytes, body: bytes, start: int, method: int, crc: int, size: int) -> tuple[bytes, bytes]:
    """Return an entry that starts at an offset, and its line in the directory.

    Stored data lie at multiples of 64, as torch's reader expects.
    """
    padding = -(start + 30 + len(name) + 4) % 64
    extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    fields = struct.pack("<HHHHHIIIH", 20, 0, method, 0, 0x21, crc, len(body), size, len(name))
    local = b"PK\3\4" + fields + struct.pack("<H", len(extra)) + name + extra + body
    return local, b"PK\1\2\x14\0" + fields + struct.pack("<HHHHII", 0, 0, 0, 0, 0, start) + name


def _join_zip(pieces: Sequence[Piece], packed: Collection[int] = (), bomb: int | None = None) -> bytes:
    """Write entries of any names, also names that are there twice.

    Args:
        pieces: name and content of each.
        packed: numbers of the entries to compress.
        bomb: number of the entry that begins as it is and goes on with zeros.
    """
    whole, directory = b"", b""
    for at, piece in enumerate(pieces):
        if at == bomb:
            head = piece.body[:128]
            packer = zlib.compressobj(wbits=-15)
            body = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH) + deflated_zeros(BOMB)
            crc = reduce(lambda crc, _: zlib.crc32(_ZEROS, crc), range(BOMB >> 20), zlib.crc32(head))
            written = _entry(piece.tag, body, len(whole), 8, crc, len(head) + BOMB)
        elif at in packed:
            body = zlib.compress(piece.body, 1, wbits=-15)
            written = _entry(piece.tag, body, len(whole), 8, zlib.crc32(piece.body), len(piece.body))
        else:
            written = _entry(piece.tag, piece.body, len(whole), 0, zlib.crc32(piece.body), len(piece.body))
        whole, directory = whole + written[0], directory + written[1]
    end = struct.pack("<HHHHIIH", 0, 0, len(pieces), len(pieces), len(directory), len(whole), 0)
    return whole + directory + b"PK\5\6" + end


ZIP = Format(_split_zip, _join_zip)


def mutate_zip(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change entries of an archive: pickles by operations, arrays by their headers, others by bytes."""
    choice = rng.randrange(400)
    if choice == 0:
        pieces = _split_zip(data)
        return _join_zip(pieces, (), rng.randrange(len(pieces)))
    if choice < 20:
        pieces = _split_zip(data)
        return _join_zip(pieces, range(len(pieces)) if choice < 10 else [rng.randrange(len(pieces))])
    if choice < 120:
        return mutate_bytes(data, others, rng)
    if choice < 280:
        pieces = _split_zip(data)
        special = [i for i, piece in enumerate(pieces) if piece.tag.endswith((b".pkl", b".npy"))]
        at = rng.choice(special or range(len(pieces)))
        inside = mutate_npy if pieces[at].tag.endswith(b".npy") else mutate_pickle
        pieces[at] = Piece(pieces[at].tag, inside(pieces[at].body, [pieces[at].body], rng))
        return _join_zip(pieces)
    return _BY_ENTRIES(data, others, rng)


_BY_ENTRIES = by_pieces(ZIP)


# -- npy: magic, version, length of the header, header, data -------------------------------------------------

_DTYPES = (
    "<f4", ">f8", "<f2", "|O", "|V8", "V0", "|S0", "<U9", "<M8[ns]", "<i8", "|b1", "<c16", "|u1", "O8",
    "float128", "x", "", "(2,3)<f4", "|S2000000000",
)  # fmt: skip
_SHAPES = ("()", "(0,)", "(1,)", "(3, 4)", "(-1,)", f"({1 << 40},)", "(1 << 40,)", "(1, 0)", "(1.5,)", "None",
           "(" * 50 + ")" * 50, "(9**9**9,)", f"({1 << 31}, {1 << 31}, {1 << 31})", "[3]")  # fmt: skip


def mutate_npy(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change the header of an array, or its pickle, if it has one."""
    if rng.random() < 0.25 or len(data) < 10:
        return mutate_bytes(data, others, rng)
    (length,) = struct.unpack_from("<H", data, 8)
    header, body = data[10 : 10 + length], data[10 + length :]
    if rng.random() < 0.3:
        header = _npy_header(header, rng)
    elif b"|O" in header:
        body = numpy_pickle(rng) if rng.random() < 0.3 else mutate_pickle(body, [body], rng)
    else:
        body = mutate_bytes(body, [body], rng)
    version = data[:8] if rng.random() < 0.9 else data[:6] + rng.randbytes(2)
    return version + struct.pack("<H", len(header) & 0xFFFF) + header + body


def _npy_header(header: bytes, rng: Random) -> bytes:
    if rng.random() < 0.2:
        return rng.choice(
            (b"[" * 3000, b"(" * 90 + b")" * 90, b"{}", b"-" * 9000 + b"1", mutate_bytes(header, [b""], rng))
        )
    fields = {
        "descr": repr(rng.choice(_DTYPES)),
        "fortran_order": rng.choice(("False", "True", "2", "None")),
        "shape": rng.choice(_SHAPES),
    }
    if rng.random() < 0.2:
        fields["descr"] = rng.choice(
            ("[('a', '<f4')]", "[('', '|O')] * 9", "None", "[('a', [('b', '|V4')])]")
        )
    if rng.random() < 0.2:
        del fields[rng.choice(sorted(fields))]
    text = "{" + ", ".join(f"{name!r}: {value}" for name, value in fields.items()) + "}"
    return text.encode().ljust(117) + b"\n"


# -- safetensors: length of the header, header in JSON, data -------------------------------------------------


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Write tensors with their names in order: safetensors itself writes metadata in a random order."""
    header, data = _split_safetensors(safetensors.torch.save(tensors, metadata))
    return _join_safetensors(json.dumps(json.loads(header), sort_keys=True).encode(), data)


def sorted_safetensors(data: bytes) -> bytes:
    """Sort the names in the header of a file, so that each process makes the same one."""
    header, rest = _split_safetensors(data)
    return _join_safetensors(json.dumps(json.loads(header), sort_keys=True).encode(), rest)


def _split_safetensors(data: bytes) -> tuple[bytes, bytes]:
    stop = 8 + int.from_bytes(data[:8], "little")
    return data[8:stop], data[stop:]


def _join_safetensors(header: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def mutate_safetensors(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change the header as a tree, or the file as bytes."""
    header, rest = _split_safetensors(data)
    if rng.random() < 0.3:
        return mutate_bytes(data, others, rng)
    try:
        tree = json.loads(header)
        if isinstance(tree, dict) and "__metadata__" in tree and rng.random() < 0.5:
            tree["__metadata__"] = change_tree(tree["__metadata__"], rng)
        elif rng.random() < 0.2:
            rest = _poisoned(rest, rng)
        else:
            for _ in range(rng.choice((1, 1, 2, 4))):
                tree = change_tree(tree, rng)
        return _join_safetensors(dump(tree, rng), rest)
    except (ValueError, RecursionError):  # damaged or deep already
        return mutate_bytes(data, others, rng)


def _poisoned(data: bytes, rng: Random) -> bytes:
    """Write a NaN or an infinity somewhere: in float32, float16 or bfloat16."""
    at = rng.randrange(max(1, len(data) // 4)) * 4
    value = rng.choice(
        (b"\0\0\xc0\x7f", b"\0\x7e\0\x7e", b"\0\0\x80\x7f", b"\xc0\x7f\xc0\x7f", b"\xff\xff\xff\xff")
    )
    return data[:at] + value + data[at + 4 :]


# -- MATLAB: type, length, data; some compressed -------------------------------------------------------------

_COMPRESSED = 15


def mutate_mat(data: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Change the elements of a file, inside compressed ones too."""
    choice = rng.randrange(100)
    if choice < 25:
        return mutate_bytes(data, others, rng)
    pieces = _split_mat(data[128:])
    if choice == 25:
        bomb = zlib_bomb(rng.choice((1 << 20, BOMB)))
        pieces.insert(rng.randrange(len(pieces) + 1), Piece(b"\x0f\0\0\0", bomb))
        return data[:128] + _join_mat(pieces)
    at = rng.randrange(len(pieces))
    body = pieces[at].body
    if pieces[at].tag[0] == _COMPRESSED:
        try:
            inner = zlib.decompressobj().decompress(body, MAX_SIZE >> 4)
        except zlib.error:
            inner = body
        body = zlib.compress(rng.choice((_BY_ELEMENTS, mutate_bytes, _mat_fields))(inner, [inner], rng))
    else:
        body = rng.choice((_BY_ELEMENTS, mutate_bytes, _mat_fields))(body, [body], rng)
    pieces[at] = Piece(pieces[at].tag, body)
    return data[:128] + _join_mat(pieces)


def _mat_fields(data: bytes, _: Sequence[bytes], rng: Random) -> bytes:
    """Write hostile numbers over one of the first words: types, lengths, flags and dimensions."""
    at = 4 * rng.randrange(max(1, min(16, len(data) // 4)))
    return data[:at] + struct.pack("<I", hostile_number(rng, 4, len(data))) + data[at + 4 :]


def _split_mat(data: bytes) -> list[Piece]:
    pieces, at = [], 0
    while at + 8 <= len(data):
        (size,) = struct.unpack_from("<I", data, at + 4)
        pieces.append(Piece(data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + (size if data[at] == _COMPRESSED else -(-size // 8) * 8)
    return pieces or [Piece(b"\0\0\0\0", data)]


def _join_mat(pieces: Sequence[Piece]) -> bytes:
    return b"".join(
        piece.tag
        + struct.pack("<I", len(piece.body))
        + piece.body
        + (b"" if piece.tag[0] == _COMPRESSED else bytes(-len(piece.body) % 8))
        for piece in pieces
    )


_BY_ELEMENTS = by_pieces(Format(_split_mat, _join_mat))
