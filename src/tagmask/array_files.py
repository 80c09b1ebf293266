"""Headers of numpy's `.npy` and `.npz` files, read as data: nothing in them is evaluated or believed."""

import os
import re
import zipfile
from collections.abc import Callable
from typing import BinaryIO, Final

__all__ = ["array_header", "check_archive", "check_compression"]

_HEADER: Final = re.compile(
    rb"\{'descr': '([<>|=]?[a-zA-Z][0-9]{0,3})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,10}L?(?:, ?[0-9]{1,10}L?){0,7},?)?)\),? ?\}[ \n]*"
)
"""As numpy.save writes it: Python code, which is not evaluated here."""
_DIRECTORY: Final = 1 << 20
"""Largest list of contents of a zip file, in bytes."""


def array_header(read: Callable[[int], bytes]) -> tuple[str, tuple[int, ...], bool]:
    """Read the header of an array that numpy.save wrote.

    Args:
        read: returns the next bytes, at most so many.

    Returns:
        Type code, shape, and whether the array is in column order.

    Raises:
        ValueError: it is no such header.
    """
    magic = read(8)
    if magic[:6] != b"\x93NUMPY" or magic[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("it is not an array saved by numpy.save")
    wide = 2 if magic[6] == 1 else 4
    size = int.from_bytes(read(wide), "little")
    found = _HEADER.fullmatch(read(size)) if size < 4096 else None
    if found is None:
        raise ValueError("its header describes no array of numbers, or is damaged")
    shape = tuple(int(side.strip(b" L")) for side in found[3].split(b",") if side.strip())
    return found[1].decode("ascii"), shape, found[2] == b"True"


def check_archive(file: BinaryIO) -> None:
    """Check a `.npz` file before `zipfile` opens it.

    Raises:
        ValueError: its list of contents is large, or `zipfile` might look for it elsewhere.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 42))
    tail = file.read(42)
    end = tail[-22:]
    if end[:4] != b"PK\5\6" or end[20:] != b"\0\0" or tail[:4] == b"PK\6\7":
        raise ValueError("it is cut off, or not a .npz file of numpy")
    if int.from_bytes(end[12:16], "little") > _DIRECTORY:
        raise ValueError("it has too many arrays")


def check_compression(info: zipfile.ZipInfo) -> None:
    """Check that a file in a `.npz` is compressed as numpy does it.

    Raises:
        ValueError: it is not.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename[:40]!r} is compressed in a way that numpy does not use")
