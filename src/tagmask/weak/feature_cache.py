"""What a fixed network says of a crop, kept on disk for the next time the very same crop comes.

Kept under a hash of the network and of the crop's own pixels, so nothing old is ever taken for new: another
crop, another flip, another network is another name.
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
    """Tensors of crops, in files of a folder, up to a size.

    Once it is full nothing is added: crops come in rounds, and whatever is thrown out would be the next to be
    wanted.

    Args:
        folder: made when something is kept.
        network: hash of the weights that the features come from.
        limit: bytes that files may take together.
    """

    def __init__(self, folder: Path, network: str, limit: int) -> None:
        self._folder, self._network, self._limit = folder, network, limit
        self._taken = sum(file.stat().st_size for file in folder.glob("*/*.safetensors"))

    def key(self, pixels: Float[Tensor, "3 h w"]) -> str:
        """The name of a crop's features."""
        values = np.ascontiguousarray(pixels.detach().cpu().numpy())
        digest = hashlib.blake2b(f"{self._network} {values.shape} {values.dtype}".encode(), digest_size=20)
        digest.update(values.data)
        return digest.hexdigest()

    def get(self, key: str) -> dict[str, Tensor] | None:
        """What is kept under a name; None where nothing is, or where it cannot be read."""
        try:
            return safetensors.torch.load_file(self._path(key))
        except (OSError, safetensors.SafetensorError):
            return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, if there is room.

        Raises:
            OutputError: the disk is full, or the folder is not to be written to.
        """
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self._taken + size > self._limit:
            return
        own = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        write_bytes(self._path(key), safetensors.torch.save(own))
        self._taken += size

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.safetensors"
