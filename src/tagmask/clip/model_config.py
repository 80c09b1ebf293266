"""Read and check the JSON file that describes weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tagmask.clip.metadata import MetadataClaim
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.errors import WeightsError
from tagmask.printable import short_repr, shortened

__all__ = ["ModelConfig", "check_sizes", "configured_sizes", "read_json", "refuse_unsupported", "section"]

_MAX_BYTES: Final = 8 << 20
"""Largest JSON file that is read; a tokenizer.json has 4 MB."""
_MAX_DEPTH: Final = 32
"""Deepest nesting of lists and objects; a config has 5 levels. Comparing far deeper ones is an error."""
_MAX_SIDE: Final = 1 << 24
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
        reason = shortened(str(error))
        raise WeightsError(f"{path} is not valid JSON ({reason}). {_GET_AGAIN}") from error
    if _is_deep(content):
        raise WeightsError(f"{path} is no config file: it is nested too deeply. {_GET_AGAIN}")
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not an object. {_GET_AGAIN}")
    return content


def _is_deep(content: object) -> bool:
    level = [content]
    for _ in range(_MAX_DEPTH):
        nodes = [node for node in level if isinstance(node, dict | list)]
        level = [child for node in nodes for child in (node.values() if isinstance(node, dict) else node)]
    return bool(level)


def section(parent: Mapping[str, object], key: str, by: str) -> dict[str, object]:
    """Return the object under a key, or {} if the key is missing or null.

    Raises:
        WeightsError: the value is not an object.
    """
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WeightsError(f"{by} gives {key} = {short_repr(value)}. Expected an object. {_GET_AGAIN}")
    return value


def _square_side(value: object, key: str, by: str) -> int:
    """Return the side of a square, given as one number or as two equal ones.

    Raises:
        WeightsError: anything else.
    """
    both = value if isinstance(value, list) and len(value) == 2 else [value, value]
    side = both[0]
    if not isinstance(side, int) or both[1] != side or not 1 <= side <= _MAX_SIDE:
        raise WeightsError(
            f"{by} gives {key} = {short_repr(value)}. Only square images and patches are supported."
        )
    return side


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
        f"{shortened(key)} = {short_repr(value)}"
        for key, value in config.items()
        if key not in supported or (supported[key] and value not in supported[key])
    ]
    if unsupported:
        more = f" and {len(unsupported) - 4} more" if len(unsupported) > 4 else ""
        raise WeightsError(
            f"{where} gives {', '.join(unsupported[:4])}{more}, which is not supported. "
            "Only CLIP's plain ViT towers with CLIP's tokenizer are."
        )
