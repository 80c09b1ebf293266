"""Read the small safetensors files that tagmask writes: caches, adapters, projections."""

import os

import safetensors
import safetensors.torch
from torch import Tensor

from tagmask.reading import read_regular
from tagmask.strict_json import parse_json

__all__ = ["read_tensors"]


def read_tensors(
    path: str | os.PathLike[str], limit: int, *, links: bool = True
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Args:
        path: the file.
        limit: largest size, in bytes.
        links: follow a link at `path`.

    Raises:
        OSError: it is no regular file, is too large, or cannot be read; `strerror` says why.
        ValueError: it is not a safetensors file.
    """
    data = read_regular(path, limit, links=links)
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        header = parse_json(data[8 : 8 + size])
    except (ValueError, KeyError, safetensors.SafetensorError) as error:  # KeyError: a type torch lacks
        raise ValueError(f"it is not a safetensors file ({error})") from error
    return tensors, header.get("__metadata__", {})
