"""Tensors of a file that are read one at a time, when they are needed, each into its own memory.

So a model needs no more memory than its weights while it is loaded, and a file that is cut off or overwritten
later gives an error rather than a crash, as the access to a memory-mapped file does.
"""

import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from weakref import finalize

import numpy as np
import torch
from torch import Tensor

from tagmask.errors import WeightsError

__all__ = ["DataFile", "StoredTensor", "stacked", "transposed"]


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that has not been read yet."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    """Reads the values; raises WeightsError if the file has changed or cannot be read."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in memory."""
        return prod(self.shape) * self.dtype.itemsize


def transposed(stored: StoredTensor) -> StoredTensor:
    """Exchange the two dimensions of a matrix."""
    return StoredTensor(stored.shape[::-1], stored.dtype, lambda: stored.read().mT.contiguous())


def stacked(parts: Sequence[StoredTensor]) -> StoredTensor:
    """Concatenate tensors of one shape, which has at least one dimension, along the first."""
    first, *rest = parts
    dtype = first.dtype
    for part in rest:
        dtype = torch.promote_types(dtype, part.dtype)
    shape = (len(parts) * first.shape[0], *first.shape[1:])
    return StoredTensor(shape, dtype, lambda: torch.cat([part.read() for part in parts]))


class DataFile:
    """A file of tensors. It stays open, so that another file put in its place is never read by mistake.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("rb", buffering=0)
        finalize(self, self._file.close)
        self.size = os.fstat(self._file.fileno()).st_size

    def bytes(self, start: int, count: int) -> bytes:
        """Read bytes; fewer if the file ends before."""
        self._file.seek(start)
        return self._file.read(count)

    def tensor(
        self, start: int, dtype: torch.dtype, size: Sequence[int], stride: Sequence[int]
    ) -> StoredTensor:
        """Describe a tensor in the file.

        Args:
            start: the offset of its first value, in bytes.
            dtype: of its values.
            size: its shape.
            stride: values from one to the next along each dimension, not negative.
        """
        return StoredTensor(tuple(size), dtype, partial(self._read, start, dtype, size, stride))

    def _read(self, start: int, dtype: torch.dtype, size: Sequence[int], stride: Sequence[int]) -> Tensor:
        try:
            if _is_dense(size, stride):
                return self._read_values(start, dtype, prod(size)).as_strided(size, stride)
            return self._read_spread(start, dtype, size, stride)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{self.path} cannot be read, or has changed meanwhile: {error}.") from error

    def _read_values(self, start: int, dtype: torch.dtype, count: int) -> Tensor:
        values = torch.empty(count, dtype=dtype)
        left = values.view(torch.uint8).numpy().data
        self._file.seek(start)
        while left.nbytes:  # one call reads 2 GB at most
            read = self._file.readinto(left)
            if not read:
                raise ValueError("it ends early")
            left = left[read:]
        return values

    def _read_spread(
        self, start: int, dtype: torch.dtype, size: Sequence[int], stride: Sequence[int]
    ) -> Tensor:
        """Read values with gaps between them, or that repeat, without what lies between."""
        steps = [s * dtype.itemsize for s in stride]
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            values = np.ndarray(size, f"V{dtype.itemsize}", mapped, start, steps).copy()
        return torch.from_numpy(values.reshape(-1).view(np.uint8)).view(dtype).reshape(tuple(size))


def _is_dense(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether values lie in consecutive places, each once, in any order of the dimensions."""
    expected = 1
    for step, count in sorted(zip(stride, size, strict=True)):
        if count != 1:
            if step != expected:
                return 0 in size
            expected *= count
    return True
