"""Frozen features as files: float16, with what they are of and a checksum.

A file that is of another image, of other weights or settings, or that was damaged is not used. It holds what
the tower gave; what depends on the image's size alone is computed again.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence

import torch
from safetensors.torch import save
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.frozen_windows import FrozenWindows, StoredBatch
from tagmask.errors import InputError
from tagmask.pipelines.head import feature_settings
from tagmask.settings.recipes import MaskRecipe
from tagmask.strict_json import json_text, parse_json
from tagmask.tensor_files import read_tensors
from tagmask.types import Image

__all__ = ["encode_features", "read_features"]

_KIND = "frozen features"
_FORMS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LARGEST = 1 << 32
"""Limit on the size of a file, in bytes."""


def encode_features(clip: Clip, recipe: MaskRecipe, image: Image, windows: FrozenWindows) -> bytes:
    """Return the content of a file for the features of an image.

    Raises:
        InputError: a feature is too large for float16.
    """
    tensors: dict[str, Tensor] = {}
    forms: dict[str, str] = {}
    for number, batch in enumerate(windows.batches):
        for name, tensor in batch.named_tensors():
            half = tensor.to("cpu", torch.float16).contiguous()
            if not half.isfinite().all():
                raise InputError("The features have numbers that float16 cannot hold, and are not kept.")
            tensors[f"{number}/{name}"] = half
            forms[f"{number}/{name}"] = str(tensor.dtype).removeprefix("torch.")
    described = {
        "tagmask": _KIND,
        "of": _described(clip, recipe, image),
        "grids": json_text([batch.grid for batch in windows.batches]),
        "forms": json_text(forms, sort_keys=True),
    }
    return save(tensors, {**described, "checksum": _checksum(described, tensors)})


def read_features(
    path: str | os.PathLike[str], clip: Clip, recipe: MaskRecipe, image: Image
) -> Sequence[StoredBatch] | None:
    """Read the features of an image.

    Returns:
        What `freeze_windows` takes; None if the file is absent, damaged, or of something else.
    """
    try:
        tensors, described = read_tensors(path, _LARGEST, links=False)
        checksum = described.pop("checksum")
        if described["tagmask"] != _KIND or described["of"] != _described(clip, recipe, image):
            return None
        if checksum != _checksum(described, tensors):
            return None
        forms: Mapping[str, str] = parse_json(described["forms"])
        batches = []
        for number, grid in enumerate(parse_json(described["grids"])):
            prefix = f"{number}/"
            batch = {
                name.removeprefix(prefix): tensor.to(clip.device, _FORMS[forms[name]])
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            batches.append(StoredBatch((int(grid[0]), int(grid[1])), batch))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    return batches


def _described(clip: Clip, recipe: MaskRecipe, image: Image) -> str:
    """What decides the features of an image."""
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return json_text([clip.fingerprint, feature_settings(recipe), image.shape, digest], sort_keys=True)


def _checksum(described: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json_text(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
