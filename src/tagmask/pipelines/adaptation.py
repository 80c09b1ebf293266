"""What a tagger has learned from a set of images, as a value and as a file."""

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

__all__ = ["Adaptation", "read_adaptation", "write_adaptation"]


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What one method learned; of use only with the same method, words and weights."""

    method: str
    texts: tuple[str, ...]
    """Texts that it was learned for, in order, with the settings that shaped it."""
    weights: str
    """Hash of the text tower that they were asked of."""
    arrays: Mapping[str, Shaped[np.ndarray, "..."]]


def write_adaptation(learned: Adaptation, path: str | os.PathLike[str]) -> None:
    """Keep it as safetensors.

    Raises:
        OutputError: the file cannot be written.
    """
    metadata = {
        "tagmask": "adaptation",
        "method": learned.method,
        "asked": json.dumps(learned.texts),
        "weights": learned.weights,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in learned.arrays.items()}
    write_bytes(path, save(arrays, metadata))


def read_adaptation(path: str | os.PathLike[str]) -> Adaptation:
    """What a file holds.

    Raises:
        InputError: a file that cannot be read, or that tagmask did not write.
    """
    file = Path(path).expanduser()
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"adapter {file} cannot be read: {error}; give a file that --adapt has written"
        ) from error
    if metadata.get("tagmask") != "adaptation":
        raise InputError(f"{file} is no adapter of tagmask; give a file that --adapt has written")
    return Adaptation(metadata["method"], tuple(json.loads(metadata["asked"])), metadata["weights"], arrays)
