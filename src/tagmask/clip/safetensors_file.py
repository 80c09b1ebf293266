"""Find the tensors of a safetensors file: 8 bytes of length, a JSON header with their places, their bytes."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Final

import torch
from safetensors import safe_open

from tagmask.clip.stored import DataFile, StoredTensor
from tagmask.strict_json import parse_json

__all__ = ["find_tensors"]

_DTYPES: Final[Mapping[str, torch.dtype]] = MappingProxyType(
    {
        "BF16": torch.bfloat16,
        "BOOL": torch.bool,
        "C64": torch.complex64,
        "F16": torch.float16,
        "F32": torch.float32,
        "F64": torch.float64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I16": torch.int16,
        "I32": torch.int32,
        "I64": torch.int64,
        "I8": torch.int8,
        "U16": torch.uint16,
        "U32": torch.uint32,
        "U64": torch.uint64,
        "U8": torch.uint8,
    }
)


def find_tensors(path: Path, header_bytes: int) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors of a file by name, not yet read, and its metadata.

    Args:
        path: a safetensors file.
        header_bytes: the length that its first 8 bytes give.

    Raises:
        Exception: any error of the parsers on an invalid header.
    """
    # The library checks the whole header, but its tensors are memory-mapped and keep the file in memory.
    with safe_open(path, framework="pt", device="cpu") as checked:
        names = list(checked.keys())
        metadata = dict(checked.metadata() or {})
    file = DataFile(path)
    header = parse_json(file.bytes(8, header_bytes))
    return {name: _stored(file, 8 + header_bytes, **header[name]) for name in names}, metadata


def _stored(
    file: DataFile, data_start: int, *, dtype: str, shape: list[int], data_offsets: list[int]
) -> StoredTensor:
    begin, end = data_offsets
    torch_dtype = _DTYPES[dtype]
    stride = [prod(shape[dimension + 1 :]) for dimension in range(len(shape))]
    if prod(shape) * torch_dtype.itemsize != end - begin or not 0 <= begin <= end <= file.size - data_start:
        raise ValueError(f"a tensor of shape {shape} from {begin} to {end}")
    return file.tensor(data_start + begin, torch_dtype, shape, stride)
