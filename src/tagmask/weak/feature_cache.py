"""Cache features of a frozen network on disk, for crops that repeat.

The key is a hash of the network's weights and of the crop's pixels, so another crop, flip or network never
gets a stale entry.
"""

import hashlib
import logging
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.files import write_bytes
from tagmask.tensor_files import read_tensors

__all__ = ["FeatureCache"]

_LOG = logging.getLogger(__name__)

_LARGEST: Final = 256_000_000
"""Limit on the size of an entry, in bytes; the features of a crop take some 20 MB."""


class FeatureCache:
    """Features of crops in files of a folder, up to a size limit.

    A full cache accepts no new entries. It evicts none either: crops repeat in cycles, so an evicted entry
    would be needed again soon.

    An entry is valid only with the checksum of its key and its tensors. One that is damaged, exchanged,
    edited or no regular file is removed, with one warning, and counts as missing.

    Args:
        folder: created with the first entry.
        network: hash of the weights that compute the features.
        limit: maximum size of all files, in bytes.
    """

    def __init__(self, folder: Path, network: str, limit: int) -> None:
        self._folder, self._network, self._limit = folder, network, limit
        self._size = sum(_size(file) for file in folder.glob("*/*.safetensors"))
        self._warned = False

    def key(self, pixels: Float[Tensor, "3 h w"]) -> str:
        """Cache key of a crop."""
        values = np.ascontiguousarray(pixels.detach().cpu().numpy())
        digest = hashlib.blake2b(f"{self._network} {values.shape} {values.dtype}".encode(), digest_size=20)
        digest.update(values.data)
        return digest.hexdigest()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Read an entry; None if there is no valid one."""
        path = self._path(key)
        try:
            tensors, metadata = read_tensors(path, _LARGEST, links=False)
            if metadata.get("checksum") == _checksum(key, tensors):
                return tensors
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except (OSError, ValueError):
            pass
        self._remove(path)
        return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Store an entry, unless it would exceed the size limit.

        Raises:
            OutputError: the disk is full, or the folder is not writable.
        """
        path = self._path(key)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self._size + size > self._limit or path.is_dir():
            return
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        write_bytes(path, safetensors.torch.save(copies, {"checksum": _checksum(key, copies)}))
        self._size += size

    def _remove(self, path: Path) -> None:
        if not self._warned:
            _LOG.warning("Cached features are damaged, as in %s; they are computed again.", path)
            self._warned = True
        size = _size(path)
        with suppress(OSError):  # a folder, or another process has removed it
            path.unlink()
            self._size -= size

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"


def _size(file: Path) -> int:
    """Size of a regular file; 0 for anything else."""
    try:
        status = file.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _checksum(key: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.blake2b(key.encode(), digest_size=20)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name!r} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
