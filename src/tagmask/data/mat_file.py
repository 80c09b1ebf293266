"""Read an array from a MATLAB file (versions 5 to 7), the label format of two benchmarks.

An array's size is read before its values are decompressed, so a small file cannot fill the memory.
"""

import math
import stat
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from tagmask.errors import ImageError
from tagmask.printable import shortened

__all__ = ["read_array"]

_COMPRESSED, _MATRIX = 15, 14
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy type of an element's values, by MATLAB type number."""
_HEADER = 128
_MAX_VALUES = 1 << 25
"""Values of the largest array that is read: 33 million pixels."""
_MAX_BYTES = 8 * _MAX_VALUES + (1 << 20)
_START = 1 << 16
"""Bytes that hold the start of an array: its tags, shape and name."""
_MAX_ARRAYS = 10_000


def read_array(path: Path, name: str) -> np.ndarray:
    """Read a numeric array of two dimensions by name, as (h, w).

    Values keep their storage type; MATLAB stores integers in the smallest type that fits.

    Raises:
        ImageError: the file is missing, too large, damaged or of another format, or lacks the array; or the
            array is empty, too large, or has values that are no finite numbers.

    Source:
        MATLAB's description of its Level 5 MAT-file format.
    """
    data = memoryview(_content(path))
    head = bytes(data[:_HEADER])
    if len(head) < _HEADER or head[126:128] not in (b"IM", b"MI") or head[:10] != b"MATLAB 5.0":
        newer = head[:10] == b"MATLAB 7.3"
        reason = "it has version 7.3; save it with -v7" if newer else "or it is damaged"
        raise ImageError(f"{path} is not a MATLAB file of versions 5 to 7 ({reason}).")
    order = "<" if head[126:128] == b"IM" else ">"
    names: list[str] = []
    try:
        for kind, body in _elements(data[_HEADER:], order):
            if kind not in (_COMPRESSED, _MATRIX):
                continue
            start = _decompressed(body, _START) if kind == _COMPRESSED else body
            if kind == _COMPRESSED:
                found, size = struct.unpack_from(f"{order}II", start)
                if found != _MATRIX:
                    continue
                start = start[8:]
            else:
                size = len(body)
            parts = _elements(start, order)
            next(parts)  # flags and class; the storage type is enough
            _, dims = next(parts)
            _, encoded = next(parts)
            names.append(str(encoded, "latin-1"))
            if len(names) > _MAX_ARRAYS:
                raise ValueError("it has too many arrays")
            if names[-1] == name:
                shape = _shape(bytes(dims), order)
                if size > _MAX_BYTES:
                    raise ValueError(f"it claims {size} bytes")
                whole = _decompressed(body, 8 + size)[8:] if kind == _COMPRESSED else body
                if kind == _COMPRESSED and len(whole) < size:
                    raise ValueError("it ends early")
                kind, values = next(islice(_elements(whole, order), 3, None))
                return _array(values, order + _DTYPES[kind], shape)
    except (struct.error, zlib.error, ValueError, KeyError, StopIteration) as error:
        raise ImageError(f"{path} is damaged, or its {name!r} is not a numeric array ({error}).") from error
    shown = ", ".join(map(shortened, names[:8])) + (", …" if len(names) > 8 else "")
    raise ImageError(f"{path} has no array {name!r}. Its arrays are {shown or '(none)'}.")


def _content(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path} is not a regular file. Give the folder that contains the files.")
        if status.st_size > _MAX_BYTES:
            raise ImageError(f"{path} has {status.st_size} bytes, too many for an array of labels.")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path} is unreadable: {error.strerror}. Give the folder that contains it."
        ) from error


def _decompressed(body: memoryview, limit: int) -> memoryview:
    return memoryview(zlib.decompressobj().decompress(body, limit))


def _shape(dims: bytes, order: str) -> tuple[int, int]:
    shape = np.frombuffer(dims, f"{order}i4").tolist()
    if len(shape) != 2 or min(shape) < 1 or math.prod(shape) > _MAX_VALUES:
        raise ValueError(f"it claims the shape {tuple(shape[:4])}")
    return shape[0], shape[1]


def _array(values: memoryview, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    array = np.frombuffer(values, dtype).reshape(shape, order="F")
    if not np.isfinite(array).all():
        raise ValueError("it has values that are no finite numbers")
    return array


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield the type and content of consecutive elements."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # small element: up to four bytes of data inside the 8-byte tag
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError("a small element is too long")
            yield kind, data[at + 4 : at + 4 + size]
            at += 8
            continue
        if at + 8 + size > len(data):
            raise ValueError("it ends early")
        yield kind, data[at + 8 : at + 8 + size]
        # Values are padded to eight bytes, compressed elements are not.
        at += 8 + (size if kind == _COMPRESSED else -(-size // 8) * 8)
