"""Adaptations: what a tagger learned from a set of images, as a value and as a file."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from tagmask.errors import InputError
from tagmask.files import write_bytes
from tagmask.strict_json import json_text

__all__ = ["Adaptation", "read_adaptation", "write_adaptation"]


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
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in adaptation.arrays.items()}
    write_bytes(path, save(arrays, metadata))


def read_adaptation(path: str | os.PathLike[str]) -> Adaptation:
    """Read an adaptation from a file of `write_adaptation`.

    Raises:
        InputError: the file cannot be read, or tagmask did not write it.
    """
    file = Path(path).expanduser()
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"Adapter {file} cannot be read: {error}. Give a file written by --adapt."
        ) from error
    if metadata.get("tagmask") != "adaptation":
        raise InputError(f"{file} is not a tagmask adapter. Give a file written by --adapt.")
    return Adaptation(metadata["method"], tuple(json.loads(metadata["texts"])), metadata["weights"], arrays)
