"""Region proposals as numpy arrays: `.npz` files, which may come from anywhere, and arrays in memory."""

import zipfile
from pathlib import Path
from typing import Final

import numpy as np

from tagmask.array_files import array_header, check_archive, check_compression
from tagmask.errors import InputError
from tagmask.reading import open_regular
from tagmask.regions.proposals import ProposalBuilder, Proposals
from tagmask.types import Size

__all__ = ["of_array", "read_npz"]

_KEY: Final = "masks.npy"
_TYPES: Final = frozenset({"|b1", "|u1", "b1", "u1"})
_VALUES: Final = 1 << 32
"""Most values of a file: reading them takes seconds."""
_COPIES: Final = 10_000
"""Most masks of a file for each pixel of its image: as many as make `_VALUES` of 0.4 megapixels."""


def of_array(array: np.ndarray, size: Size) -> Proposals:
    """Return the regions of a boolean array (n, h, w), or of an index map (h, w) of whole numbers.

    Raises:
        InputError: another type or shape, or too many regions.
    """
    if array.dtype == bool and array.ndim == 3 and array.shape[1:] == size:
        return Proposals.of_masks(array, size)
    if array.dtype.kind in "iu" and array.shape == size:
        return Proposals.of_labels(array)
    raise InputError(
        f"the array is {array.shape} of {array.dtype}; expected bool (n, {size[0]}, {size[1]}), or whole "
        f"numbers ({size[0]}, {size[1]}) with 0 for no region"
    )


def read_npz(path: Path, size: Size) -> Proposals:
    """Read a `.npz` file with one array of masks (n, h, w), `masks` or the only one. Nothing in it is run.

    One mask at a time is in memory.

    Args:
        path: the file.
        size: (h, w) of the image.

    Raises:
        OSError, ValueError, zlib.error, zipfile.BadZipFile, ...: it cannot be read or does not fit.
    """
    with open_regular(path) as file:
        check_archive(file)
        with zipfile.ZipFile(file) as archive:
            return _read(archive, size)


def _read(archive: zipfile.ZipFile, size: Size) -> Proposals:
    names = archive.namelist()
    name = _KEY if _KEY in names else names[0] if len(names) == 1 else None
    if name is None:
        shown = ", ".join(sorted(names)[:4])[:80]
        raise ValueError(f"it has the arrays {shown}; call the masks 'masks'")
    check_compression(archive.getinfo(name))
    builder, (height, width) = ProposalBuilder(size), size
    with archive.open(name) as member:
        kind, shape, fortran = array_header(member.read)
        if kind not in _TYPES:
            raise ValueError(f"its masks have the type {kind[:8]}, not bool")
        if len(shape) != 3 or shape[1:] != size:
            raise ValueError(f"its masks are {shape}, expected (n, {height}, {width})")
        if fortran:
            raise ValueError("its masks are in column order; save numpy.ascontiguousarray of them")
        if shape[0] > _COPIES or shape[0] * height * width > _VALUES:
            raise ValueError(
                f"it has {shape[0]} masks of {height} x {width}; save run lengths (COCO) instead"
            )
        for _ in range(shape[0]):
            plane = member.read(height * width)
            if len(plane) < height * width:
                raise ValueError("it is cut off")
            builder.add_mask(np.frombuffer(plane, np.uint8).reshape(size) != 0)
        if member.read(1):  # the checksum is compared at the end
            raise ValueError("it is longer than its header says")
    return builder.proposals()
