"""Read an array from a MATLAB file (versions 5 to 7), the label format of two benchmarks."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tagmask.errors import ImageError

__all__ = ["read_array"]

_COMPRESSED, _MATRIX = 15, 14
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy type of an element's values, by MATLAB type number."""
_HEADER = 128


def read_array(path: Path, name: str) -> np.ndarray:
    """Read a numeric array by name, as (h, w).

    Values keep their storage type; MATLAB stores integers in the smallest type that fits.

    Raises:
        ImageError: the file is missing, damaged or of another format, or lacks the array.

    Source:
        MATLAB's description of its Level 5 MAT-file format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path} is unreadable: {error.strerror}. Give the folder that contains it."
        ) from error
    if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI") or data[:10] != b"MATLAB 5.0":
        newer = data[:10] == b"MATLAB 7.3"
        reason = "it has version 7.3; save it with -v7" if newer else "or it is damaged"
        raise ImageError(f"{path} is not a MATLAB file of versions 5 to 7 ({reason}).")
    order = "<" if data[126:128] == b"IM" else ">"
    names: list[str] = []
    try:
        for kind, body in _elements(data[_HEADER:], order):
            if kind == _COMPRESSED:
                kind, body = next(_elements(zlib.decompress(body), order))
            if kind != _MATRIX:
                continue
            parts = _elements(body, order)
            next(parts)  # flags and class; the storage type is enough
            _, dims = next(parts)
            _, encoded = next(parts)
            names.append(encoded.decode("latin-1"))
            if names[-1] == name:
                kind, values = next(parts)
                shape = np.frombuffer(dims, f"{order}i4").tolist()
                return np.frombuffer(values, order + _DTYPES[kind]).reshape(shape, order="F")
    except (struct.error, zlib.error, ValueError, KeyError, StopIteration) as error:
        raise ImageError(f"{path} is damaged, or its {name!r} is not a numeric array ({error}).") from error
    raise ImageError(f"{path} has no array {name!r}. Its arrays are {', '.join(names) or '(none)'}.")


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and content of consecutive elements."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # small element: up to four bytes of data inside the 8-byte tag
            kind, size = kind & 0xFFFF, kind >> 16
            yield kind, data[at + 4 : at + 4 + size]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError("it ends early")
        yield kind, data[at + 8 : at + 8 + size]
        # Values are padded to eight bytes, compressed elements are not.
        at += 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
