"""Write activation maps in the layout of CLIP-ES's program, for other programs of the field.

    numpy.load(path, allow_pickle=True).item() -> {"keys": int64 (k), "attn_highres": float16 (k, h, w)}

The file is what `numpy.save` makes of such a dict with NumPy 1. NumPy 2 reads it too, but would itself write
names that NumPy 1 does not know. `cam_files` reads the file without unpickling it.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float16, Int64

from tagmask.errors import ShapeError
from tagmask.files import atomic_open

__all__ = ["write_stacked_cams"]

_NEW_ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
_NO_FIELDS = b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"


def write_stacked_cams(path: Path, keys: Sequence[int], maps: Float16[np.ndarray, "k h w"]) -> None:
    """Write maps to a `.npy` file, atomically.

    Args:
        path: the file.
        keys: the class of each map, counted from 0 without the background.
        maps: 0..1, at the image's size.

    Raises:
        ShapeError: another number of keys than of maps.
        OutputError: the file cannot be written.
    """
    if len(keys) != len(maps):
        raise ShapeError(f"Got {len(keys)} keys and {len(maps)} maps. Give one key for each map.")
    with atomic_open(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(b"\x80\x04")
        # The dict is the only object of an array without dimensions.
        file.write(_NEW_ARRAY + b"(K\x01)" + _type(b"O8", b"|", flags=63) + b"\x89]}(")
        for name, array in ((b"keys", np.asarray(keys, "<i8")), (b"attn_highres", maps.astype("<f2"))):
            file.write(b"\x8c" + bytes([len(name)]) + name)
            _write_array(file, array)
        file.write(b"uatb.")


def _write_array(file: BinaryIO, array: Int64[np.ndarray, " k"] | Float16[np.ndarray, "k h w"]) -> None:
    shape = b"".join(b"J" + struct.pack("<i", side) for side in array.shape)
    kind = _type(array.dtype.str[1:].encode(), b"<", flags=0)
    file.write(_NEW_ARRAY + b"(K\x01(" + shape + b"t" + kind + b"\x89")
    file.write(b"\x8e" + struct.pack("<Q", array.nbytes))
    file.write(np.ascontiguousarray(array).data)
    file.write(b"tb")


def _type(code: bytes, order: bytes, *, flags: int) -> bytes:
    """A NumPy type; `flags` is 63 for objects."""
    made = b"cnumpy\ndtype\n\x8c" + bytes([len(code)]) + code + b"\x89\x88\x87R"
    return made + b"(K\x03\x8c\x01" + order + _NO_FIELDS + b"K" + bytes([flags]) + b"tb"
