"""Adaptations: what a tagger learned from a set of images, as a value and as a file."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from safetensors.numpy import save

from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.strict_json import json_text, parse_json
from tagmask.tensor_files import read_tensors

__all__ = ["Adaptation", "read_adaptation", "write_adaptation"]

_LARGEST = 1_000_000_000
"""Limit on the size of an adapter's file, in bytes."""


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What one method learned from a set of images; valid with the same method, words and weights only."""

    method: str
    texts: tuple[str, ...]
    """The class names and templates it was learned for, in order, with the settings that affect it."""
    weights: str
    """Fingerprint of the text tower."""
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]
    """The learned values, by name."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything in it."""
        digest = hashlib.sha256(json_text([self.method, self.texts, self.weights]).encode())
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def write_adaptation(adaptation: Adaptation, path: str | os.PathLike[str]) -> None:
    """Write an adaptation to a safetensors file.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {
        "tagmask": "adaptation",
        "method": adaptation.method,
        "texts": json_text(adaptation.texts),
        "weights": adaptation.weights,
        "fingerprint": adaptation.fingerprint,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in adaptation.arrays.items()}
    write_bytes(path, save(arrays, metadata))


def read_adaptation(path: str | os.PathLike[str]) -> Adaptation:
    """Read an adaptation from a file of `write_adaptation`.

    Raises:
        InputError: the file cannot be read, tagmask did not write it, or it was changed since.
    """
    advice = "Give a file written by --adapt."
    try:
        file = Path(path).expanduser()
        tensors, metadata = read_tensors(file, _LARGEST)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home folder
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Adapter {path} cannot be read: {reason}. {advice}") from error
    if metadata.get("tagmask") != "adaptation":
        raise InputError(f"{file} is not a tagmask adapter. {advice}")
    try:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        texts = tuple(parse_json(metadata["texts"]))
        adaptation = Adaptation(metadata["method"], texts, metadata["weights"], arrays)
        same = metadata["fingerprint"] == adaptation.fingerprint
    except (KeyError, TypeError, ValueError):  # TypeError: of a type that NumPy lacks
        same = False
    if not same:
        raise InputError(f"Adapter {file} is damaged, or from an earlier tagmask. Adapt again.")
    return adaptation
