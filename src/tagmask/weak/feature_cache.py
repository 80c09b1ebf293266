"""Cache features of a frozen network on disk, for crops that repeat.

The key is a hash of the network's weights and of the crop's pixels, so another crop, flip or network never
gets a stale entry.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
from jaxtyping import Float
from torch import Tensor

from tagmask.files import write_bytes

__all__ = ["FeatureCache"]


class FeatureCache:
    """Features of crops in files of a folder, up to a size limit.

    A full cache accepts no new entries. It evicts none either: crops repeat in cycles, so an evicted entry
    would be needed again soon.

    Args:
        folder: created with the first entry.
        network: hash of the weights that compute the features.
        limit: maximum size of all files, in bytes.
    """

    def __init__(self, folder: Path, network: str, limit: int) -> None:
        self._folder, self._network, self._limit = folder, network, limit
        self._size = sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))

    def key(self, pixels: Float[Tensor, "3 h w"]) -> str:
        """Cache key of a crop."""
        values = np.ascontiguousarray(pixels.detach().cpu().numpy())
        digest = hashlib.blake2b(f"{self._network} {values.shape} {values.dtype}".encode(), digest_size=20)
        digest.update(values.data)
        return digest.hexdigest()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Read an entry; None if it does not exist or cannot be read."""
        try:
            return safetensors.torch.load_file(self._path(key))
        except (OSError, safetensors.SafetensorError):
            return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Store an entry, unless it would exceed the size limit.

        Raises:
            OutputError: the disk is full, or the folder is not writable.
        """
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self._size + size > self._limit:
            return
        copies = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        write_bytes(self._path(key), safetensors.torch.save(copies))
        self._size += size

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"
