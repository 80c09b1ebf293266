"""Read and check the JSON file that describes weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tagmask.clip.metadata import MetadataClaim
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.errors import WeightsError

__all__ = ["ModelConfig", "check_sizes", "configured_sizes", "read_json", "refuse_unsupported", "section"]

_MAX_BYTES: Final = 64 << 20
"""Largest JSON file that is read; a tokenizer.json has 4 MB."""
_GET_AGAIN: Final = "Download the folder again."


@dataclass(frozen=True)
class ModelConfig:
    """What a folder's config says about its weights."""

    claims: tuple[MetadataClaim, ...]
    kind: str = ""
    """The kind of folder, for display; empty if there is no config."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """The configured fields of `Geometry`."""
    by: str = ""
    """The file that gives them, for messages."""
    custom_text: bool = False
    """Whether the names of the text tower's tensors begin with "text."."""


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON file that holds an object.

    Raises:
        WeightsError: it cannot be read, or holds something else.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise WeightsError(f"{path} is too large for a config file. {_GET_AGAIN}")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON ({error}). {_GET_AGAIN}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not an object. {_GET_AGAIN}")
    return content


def section(parent: Mapping[str, object], key: str, by: str) -> dict[str, object]:
    """Return the object under a key, or {} if the key is missing or null.

    Raises:
        WeightsError: the value is not an object.
    """
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WeightsError(f"{by} gives {key} = {value!r}. Expected an object. {_GET_AGAIN}")
    return value


def _square_side(value: object, key: str, by: str) -> int:
    """Return the side of a square, given as one number or as two equal ones.

    Raises:
        WeightsError: anything else.
    """
    both = value if isinstance(value, list) and len(value) == 2 else [value, value]
    if both[0] != both[1] or not isinstance(both[0], int) or both[0] < 1:
        raise WeightsError(f"{by} gives {key} = {value!r}. Only square images and patches are supported.")
    return both[0]


def configured_sizes(sizes: Mapping[str, object], vision: Mapping[str, object], by: str) -> dict[str, int]:
    """Check configured sizes and add patch and grid.

    Args:
        sizes: by the names of `Geometry`; None where the config does not give one.
        vision: the image tower's config, with `patch_size` and `image_size`.
        by: the config file, for messages.

    Raises:
        WeightsError: an invalid size.
    """
    checked = {key: _square_side(value, key, by) for key, value in sizes.items() if value is not None}
    if "patch_size" in vision:
        checked["patch"] = _square_side(vision["patch_size"], "patch_size", by)
        if "image_size" in vision:
            checked["grid"] = _square_side(vision["image_size"], "image_size", by) // checked["patch"]
    return checked


def check_sizes(config: ModelConfig, geometry: Geometry) -> None:
    """Check that the tensors have the sizes that their config gives.

    Raises:
        WeightsError: naming all sizes that differ.
    """
    wrong = [
        f"{key} = {size} (the tensors: {getattr(geometry, key)})"
        for key, size in config.sizes.items()
        if getattr(geometry, key) != size
    ]
    if wrong:
        raise WeightsError(
            f"{config.by} does not match the weights: it gives {', '.join(wrong)}. "
            f"Heads must be {HEAD_WIDTH} wide. {_GET_AGAIN}"
        )


def refuse_unsupported(
    config: Mapping[str, object], supported: Mapping[str, tuple[object, ...]], where: str
) -> None:
    """Refuse unknown settings, and those that change what a CLIP ViT computes.

    Args:
        config: as read from JSON.
        supported: the supported values of each setting; an empty tuple allows any value.
        where: the file and section, for messages.

    Raises:
        WeightsError: naming the settings.
    """
    unsupported = [
        f"{key} = {value!r}"
        for key, value in config.items()
        if key not in supported or (supported[key] and value not in supported[key])
    ]
    if unsupported:
        raise WeightsError(
            f"{where} gives {', '.join(unsupported)}, which is not supported. "
            "Only CLIP's plain ViT towers with CLIP's tokenizer are."
        )
