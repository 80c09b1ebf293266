"""What a JSON file beside the weights says of them, checked for what this version computes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tagmask.clip.metadata import MetadataClaim
from tagmask.clip.state_dict import HEAD_WIDTH, Geometry
from tagmask.errors import WeightsError

__all__ = ["ModelConfig", "check_sizes", "configured_sizes", "fields", "only", "read_json"]

_LARGEST: Final = 64 << 20
"""Bytes of the largest JSON file that is read; a tokenizer.json has 4 MB."""


@dataclass(frozen=True)
class ModelConfig:
    """A folder's own description of its weights."""

    claims: tuple[MetadataClaim, ...]
    kind: str = ""
    """Whose form of description it is; empty: there is none."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Fields of `Geometry` that were stated."""
    by: str = ""
    """The file that states them."""
    custom_text: bool = False
    """The text tower's names begin with "text." """


def read_json(path: Path) -> dict[str, object]:
    """The object of a JSON file.

    Raises:
        WeightsError: it cannot be read or is no object.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise WeightsError(f"{path} is too large for a description of weights. Get the folder again.")
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error}). Get the folder again.") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not an object. Get the folder again.")
    return found


def fields(parent: Mapping[str, object], key: str, by: str) -> dict[str, object]:
    """The object under a key; {} where there is none.

    Raises:
        WeightsError: something else is there.
    """
    found = parent.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise WeightsError(f"{by} gives {key} = {found!r}; an object was wanted. Get the folder again.")
    return found


def side(value: object, key: str, by: str) -> int:
    """The side of a square, given as one number or as two equal ones.

    Raises:
        WeightsError: anything else.
    """
    both = value if isinstance(value, list) and len(value) == 2 else [value, value]
    if both[0] != both[1] or not isinstance(both[0], int) or both[0] < 1:
        raise WeightsError(
            f"{by} gives {key} = {value!r}; this version reads square images and patches only."
        )
    return both[0]


def configured_sizes(stated: Mapping[str, object], vision: Mapping[str, object], by: str) -> dict[str, int]:
    """Sizes by the names of `Geometry`: those `stated`, and patch and grid from the image tower's own terms.

    Raises:
        WeightsError: a size that is none.
    """
    sizes = {key: side(value, key, by) for key, value in stated.items() if value is not None}
    if "patch_size" in vision:
        sizes["patch"] = side(vision["patch_size"], "patch_size", by)
        if "image_size" in vision:
            sizes["grid"] = side(vision["image_size"], "image_size", by) // sizes["patch"]
    return sizes


def check_sizes(config: ModelConfig, geometry: Geometry) -> None:
    """Make sure that the tensors have the sizes that their description states.

    Raises:
        WeightsError: naming all that differ.
    """
    wrong = [
        f"{key} = {stated} (the tensors: {getattr(geometry, key)})"
        for key, stated in config.sizes.items()
        if getattr(geometry, key) != stated
    ]
    if wrong:
        raise WeightsError(
            f"{config.by} does not belong to these weights: it states {', '.join(wrong)}. Heads are "
            f"{HEAD_WIDTH} wide in this version. Get the folder again, or give the right description."
        )


def only(config: Mapping[str, object], allowed: Mapping[str, tuple[object, ...]], where: str) -> None:
    """Refuse settings that change what a CLIP ViT computes, and those that nobody here knows.

    Args:
        config: as read.
        allowed: by name, the values that mean what this version does; none listed: any value.
        where: for messages.

    Raises:
        WeightsError: naming the settings.
    """
    strange = [
        f"{key} = {value!r}"
        for key, value in config.items()
        if key not in allowed or (allowed[key] and value not in allowed[key])
    ]
    if strange:
        raise WeightsError(
            f"{where} states {', '.join(strange)}, which this version does not compute: it reads CLIP's "
            "plain ViT towers with CLIP's own tokenizer only."
        )
