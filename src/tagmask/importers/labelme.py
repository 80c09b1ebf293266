"""Read labelme's JSON files, one per image; shapes are drawn as labelme draws them."""

import base64
import binascii
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from tagmask.errors import InputError
from tagmask.importers.canvas import Canvas
from tagmask.importers.class_map import ClassMap
from tagmask.importers.foreign import (
    ForeignImage,
    ImportOptions,
    covered,
    decode_png,
    entry_of,
    list_of,
    points_of,
    read_json,
    text_of,
)
from tagmask.importers.source import Source, png_limit
from tagmask.masks import IndexMap
from tagmask.printable import shortened
from tagmask.types import Size

__all__ = ["read_labelme"]

_LARGEST = 256_000_000
"""Bytes of a file, which may hold its photo."""
_CIRCLE = 256
"""Corners of a circle."""


def read_labelme(source: Source, classes: ClassMap, options: ImportOptions) -> Iterator[ForeignImage]:
    """Read the images of a folder of labelme's files, or of one.

    Raises:
        InputError: there are none, or one is not labelme's.
    """
    files = source.named(".json")
    if not files:
        raise InputError(f"{source.path} has no .json file. Give the folder that labelme saved to.")
    for name in files:
        described = read_json(source, name, _LARGEST)
        try:
            photo = text_of(entry_of(described, "it"), "imagePath", "it").replace("\\", "/")
            list_of(described, "shapes", "it")
        except InputError as error:
            raise InputError(f"{source.where(name)} is not a file of labelme: {error}.") from error
        beside = name.rpartition("/")[0]
        path = f"{beside}/{photo}" if beside and not photo.startswith(("/", "..")) else photo
        called = (name.removesuffix(".json"), path)
        yield ForeignImage(called[source.is_file :], partial(_labels, source, name, classes))


def _labels(source: Source, name: str, classes: ClassMap, size: Size) -> IndexMap:
    described = read_json(source, name, _LARGEST)
    stated = described.get("imageHeight"), described.get("imageWidth")
    if None not in stated and stated != size:
        shown = shortened(stated)
        raise InputError(
            f"{source.where(name)} gives its size as {shown} (h, w), but it is {size}. Was it resized?"
        )
    canvas = classes.canvas(size)
    for number, shape in enumerate(described["shapes"], start=1):
        what = f"shape {number}"
        try:
            fields = entry_of(shape, "it")
            _draw(canvas, fields, classes.label(text_of(fields, "label", "it")))
        except InputError as error:
            raise InputError(f"{what} of {source.where(name)}: {error}") from error
    return canvas.labels


def _draw(canvas: Canvas, shape: dict[str, Any], label: int) -> None:
    kind = shape.get("shape_type") or "polygon"
    points = points_of(shape.get("points"), "it")
    if kind in ("polygon", "oriented_rectangle") and len(points) >= 3:
        canvas.paint_polygon(label, points)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points.tolist()
        canvas.paint_polygon(label, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))
    elif kind == "circle" and len(points) == 2:
        angles = np.arange(_CIRCLE) * (2 * np.pi / _CIRCLE)
        radius = float(np.hypot(*(points[1] - points[0])))
        canvas.paint_polygon(label, points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    elif kind == "mask" and len(points) == 2:
        _paste(canvas, shape, label, points.round().astype(np.int64).tolist())
    else:
        raise InputError(
            f"a {shortened(kind)} of {len(points)} points covers no area; draw polygons, rectangles or masks"
        )


def _paste(canvas: Canvas, shape: dict[str, Any], label: int, corners: list[list[int]]) -> None:
    (left, top), (right, bottom) = corners
    height, width = canvas.size
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        raise InputError(f"its box {corners} is not one of an image of {height} x {width} (height x width)")
    inside = bottom + 1 - top, right + 1 - left
    text = text_of(shape, "mask", "it")
    if len(text) > 2 * png_limit(inside[0] * inside[1]):
        raise InputError("its mask is too large for its box")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("its mask is not in Base64") from error
    canvas.paint(label, covered(decode_png(data, "its mask", inside)), top, left)
