"""Read Ultralytics segmentation labels: a line per object, with the outline as shares of the image's sides.

Outlines run through the centres of pixels, which are part of the object; so do those that tagmask exports.
"""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
from jaxtyping import Float

from tagmask.errors import InputError
from tagmask.importers.class_map import ClassMap
from tagmask.importers.foreign import ForeignImage, ImportOptions
from tagmask.importers.names_list import names_in_yaml
from tagmask.importers.source import Source
from tagmask.masks import IndexMap
from tagmask.printable import shortened
from tagmask.relative_paths import without_ending
from tagmask.types import Size

__all__ = ["read_yolo"]

_SLACK = 0.01
"""Pixels by which rounded shares may lie before the pixel that is meant."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?")
_LARGEST, _LARGEST_YAML = 40_000_000, 2_000_000
"""Bytes of a label file, and of a data.yaml."""


def read_yolo(source: Source, classes: ClassMap, options: ImportOptions) -> Iterator[ForeignImage]:
    """Read the images that have a label file in a folder `labels`; an empty one means no object.

    Raises:
        InputError: there are none, or no names of the classes.
    """
    files = [name for name in source.named(".txt") if "labels" in name.split("/")[:-1]]
    if source.is_file or not files:
        raise InputError(
            f"{source.path} has no label files, labels/NAME.txt. Give the data set's own folder."
        )
    names = _class_names(source)
    for name in files:
        parts = without_ending(name).split("/")
        below = parts[parts.index("labels") + 1 :]
        called = ["/".join(below)]
        if len(below) > 1:  # labels/SPLIT/NAME.txt
            called.insert(0, "/".join(below[1:]))
        yield ForeignImage(tuple(called), partial(_labels, source, name, names, classes))


def _class_names(source: Source) -> dict[int, str]:
    described = sorted(source.named(".yaml", ".yml"), key=lambda name: (name.count("/"), name))
    for name in described:
        names = names_in_yaml(source.text(name, _LARGEST_YAML), source.where(name))
        if names is not None:
            return names
    listed = sorted(
        (name for name in source.named("classes.txt") if name.split("/")[-1] == "classes.txt"),
        key=lambda name: (name.count("/"), name),
    )
    if listed:
        lines = [line.strip() for line in source.text(listed[0]).splitlines()]
        return dict(enumerate(line for line in lines if line))
    raise InputError(
        f"{source.path} does not name its classes. Give a folder with data.yaml, which has `names:`, or with "
        "classes.txt."
    )


def _labels(source: Source, name: str, names: dict[int, str], classes: ClassMap, size: Size) -> IndexMap:
    canvas = classes.canvas(size)
    for number, line in enumerate(source.text(name, _LARGEST).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            index = int(fields[0]) if fields[0].isdecimal() and len(fields[0]) < 9 else -1
            if index not in names:
                raise InputError(f"the class {shortened(fields[0])} has no name")
            label = classes.label(names[index])
            canvas.paint_polygon(label, _points(fields[1:], size))
        except InputError as error:
            raise InputError(f"line {number} of {source.where(name)}: {error}") from error
    return canvas.labels


def _points(fields: list[str], size: Size) -> Float[np.ndarray, "points 2"]:
    if len(fields) == 4:
        raise InputError("it is a box; only outlines can be imported")
    if len(fields) < 6 or len(fields) % 2:
        raise InputError(f"{len(fields)} numbers are no outline, which has at least three pairs")
    if not all(map(_NUMBER.fullmatch, fields)):
        raise InputError("an outline holds something that is no number")
    shares = np.array(fields, np.float64).reshape(-1, 2)
    if not ((shares >= -0.5) & (shares <= 1.5)).all():
        raise InputError("an outline leaves the image; its numbers are shares of the sides, 0 to 1")
    points: Float[np.ndarray, "points 2"] = shares * np.array(size[::-1]) + _SLACK
    return points
