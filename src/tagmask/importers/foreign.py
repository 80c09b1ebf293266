"""What an importer finds in another tool's files, and how it reads them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float

from tagmask.errors import ImageError, InputError
from tagmask.images import decode
from tagmask.importers.class_map import ClassMap
from tagmask.importers.source import Source, png_limit
from tagmask.masks import IndexMap
from tagmask.printable import short_repr
from tagmask.strict_json import parse_json
from tagmask.types import Size

__all__ = [
    "ForeignImage",
    "ImportOptions",
    "Reader",
    "check_png_size",
    "covered",
    "decode_png",
    "entry_of",
    "list_of",
    "number_of",
    "points_of",
    "read_json",
    "read_png",
    "text_of",
    "whole_of",
]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to import."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Words of the run for other names of classes in the files."""
    replace: bool = False
    """Replace corrections that the run has already."""
    skip_refused: bool = False
    """Import the other images where some are refused. Else nothing is imported then."""
    tasks: Path | None = None
    """label-studio: the JSON export that says which task is which image, for an export as PNG."""


@dataclass(frozen=True)
class ForeignImage:
    """An image that a person may have corrected, as another tool's files have it."""

    names: tuple[str, ...]
    """What it may be called in the run, the best first."""
    labels: Callable[[Size], IndexMap]
    """Gives its label map at a size (h, w). Raises InputError, saying why, as part of a sentence."""
    address: bool = False
    """Its names are ends of addresses, below no known folder."""


Reader = Callable[[Source, ClassMap, ImportOptions], Iterable[ForeignImage]]
"""Reads the images of another tool's files, one after the other. Raises InputError where they as a whole are
invalid; what is wrong with one image, its `labels` say."""


def read_json(source: Source, name: str, limit: int) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a JSON file.

    Raises:
        InputError: it cannot be read, is too large or is not JSON.
    """
    try:
        return parse_json(source.read(name, limit).removeprefix(b"\xef\xbb\xbf"))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{source.where(name)} is not valid JSON ({error}). Export it again.") from error


def read_png(source: Source, name: str, size: Size) -> PIL.Image.Image:
    """Read a PNG of an image's size.

    Raises:
        InputError: it cannot be read, or has another size.
    """
    return decode_png(source.read(name, png_limit(size[0] * size[1])), source.where(name), size)


def decode_png(data: bytes, what: str, size: Size) -> PIL.Image.Image:
    """Decode a PNG of a known size.

    Args:
        data: the file.
        what: its name, for messages.
        size: (h, w) that it should have.

    Raises:
        InputError: it is no PNG, is damaged or has another size.
    """
    check_png_size(data, what, size)
    try:
        return decode(data, formats=("PNG",))
    except ImageError as error:
        raise InputError(f"{what} cannot be read: {error}") from error


def check_png_size(data: bytes, what: str, size: Size) -> None:
    """Check the size that a PNG states, before it is decoded.

    Raises:
        InputError: it is another one.
    """
    height, width = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if data[:8] == b"\x89PNG\r\n\x1a\n" and (height, width) != size:
        raise InputError(
            f"{what} has {height} x {width} pixels (height x width), expected are {size[0]} x {size[1]}"
        )


def covered(image: PIL.Image.Image) -> Bool[np.ndarray, "h w"]:
    """Return where a mask of one class is not 0, of whatever kind of PNG."""
    values = np.asarray(image)
    mask: Bool[np.ndarray, "h w"] = np.asarray(values > 0 if values.ndim == 2 else values.any(axis=2))
    return mask


def entry_of(value: object, what: str) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, dict):
        raise InputError(f"{what} is {short_repr(value)}, not an object")
    return value


def list_of(fields: Mapping[str, Any], name: str, what: str) -> list[Any]:
    """Return a field that is a list.

    Raises:
        InputError: it is something else or absent.
    """
    value = fields.get(name)
    if not isinstance(value, list):
        raise InputError(f"{name} of {what} is {short_repr(value)}, not a list")
    return value


def text_of(fields: Mapping[str, Any], name: str, what: str) -> str:
    """Return a field that is a text.

    Raises:
        InputError: it is something else or absent.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} of {what} is {short_repr(value)}, not a text")
    return value


def whole_of(fields: Mapping[str, Any], name: str, what: str) -> int:
    """Return a field that is a whole number of at most 64 bits.

    Raises:
        InputError: it is something else or absent.
    """
    value = fields.get(name)
    if type(value) is not int or abs(value) >= 2**63:
        raise InputError(f"{name} of {what} is {short_repr(value)}, not a whole number")
    return value


def number_of(fields: Mapping[str, Any], name: str, what: str) -> float:
    """Return a field that is a number.

    Raises:
        InputError: it is something else or absent.
    """
    value = fields.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e30:
        raise InputError(f"{name} of {what} is {short_repr(value)}, not a number")
    return float(value)


def points_of(value: object, what: str) -> Float[np.ndarray, "points 2"]:
    """Return pairs of numbers.

    Raises:
        InputError: they are something else, or fewer than one.
    """
    if not isinstance(value, list) or not value or len(value) > 1_000_000:
        raise InputError(f"{what} has no list of points")
    for point in value:
        if not isinstance(point, list) or len(point) != 2:
            raise InputError(f"a point of {what} is {short_repr(point)}, not x and y")
        for number in point:
            if type(number) not in (int, float) or abs(number) > 1e30:
                raise InputError(f"a point of {what} is {short_repr(point)}, not x and y")
    return np.array(value, np.float64)
