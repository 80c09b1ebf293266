"""Read PASCAL VOC segmentation masks by the colours of their `labelmap.txt`, as CVAT writes them too."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import numpy as np
import PIL.Image
from jaxtyping import Int

from tagmask.errors import InputError
from tagmask.importers.class_map import ClassMap
from tagmask.importers.foreign import ForeignImage, ImportOptions, read_png
from tagmask.importers.source import Source
from tagmask.masks import IndexMap
from tagmask.printable import short_repr
from tagmask.types import Size

__all__ = ["LABELMAP", "read_voc"]

LABELMAP: Final = "labelmap.txt"
_MASKS: Final = "SegmentationClass"
_BORDER: Final = 224 << 16 | 224 << 8 | 192
"""VOC's colour of pixels without a class, unless the label map gives it to a word of the run."""
_BACKGROUND: Final = "background"


def read_voc(source: Source, classes: ClassMap, options: ImportOptions) -> Iterator[ForeignImage]:
    """Read the masks in `SegmentationClass`.

    Raises:
        InputError: there are none, or there is no valid `labelmap.txt`.
    """
    labelmaps = [name for name in source.named(LABELMAP) if name.split("/")[-1] == LABELMAP]
    if source.is_file or len(labelmaps) != 1:
        found = "several files" if labelmaps else "no file"
        raise InputError(f"{source.path} has {found} {LABELMAP}. Give the folder or archive that holds it.")
    root = labelmaps[0].removesuffix(LABELMAP)
    colours = _colours(source.text(labelmaps[0]), source.where(labelmaps[0]))
    prefix = f"{root}{_MASKS}/"
    masks = [name for name in source.named(".png") if name.startswith(prefix)]
    if not masks:
        raise InputError(f"{source.path} has no masks, {prefix}NAME.png.")
    for name in masks:
        called = name[len(prefix) : -len(".png")]
        yield ForeignImage((called,), partial(_labels, source, name, colours, classes))


def _colours(text: str, where: str) -> dict[int, str]:
    """Read lines `name:r,g,b:parts:actions`: names by colour."""
    colours: dict[int, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.split(":")
        values = [value.strip() for value in fields[1].split(",")] if len(fields) > 1 else []
        numbers = [int(value) for value in values if value.isdecimal() and len(value) < 4]
        if len(values) != 3 or len(numbers) != 3 or max(numbers) > 255 or not fields[0].strip():
            raise InputError(f"Line {number} of {where} is not name:r,g,b::, but {short_repr(line)}.")
        colour = numbers[0] << 16 | numbers[1] << 8 | numbers[2]
        if colour in colours:
            raise InputError(
                f"{where} gives {short_repr(colours[colour])} and {short_repr(fields[0])} one colour."
            )
        colours[colour] = fields[0].strip()
    if not colours:
        raise InputError(f"{where} names no class.")
    return colours


def _labels(source: Source, name: str, colours: dict[int, str], classes: ClassMap, size: Size) -> IndexMap:
    image = read_png(source, name, size)
    table = np.full(1 << 24, -1, np.int32)
    unknown: list[str] = []
    for colour, named in colours.items():
        try:
            table[colour] = classes.ground if named == _BACKGROUND else classes.label(named)
        except InputError as error:  # matters only where the class occurs
            unknown.append(str(error))
            table[colour] = -1 - len(unknown)
    if table[_BORDER] < 0:
        table[_BORDER] = classes.ignore_index
    coded = _coded(image, source.where(name))
    labels = table[coded]
    lowest = int(labels.min())
    if lowest == -1:
        colour = int(coded.ravel()[np.argmin(labels)])
        shown = f"{colour >> 16},{colour >> 8 & 255},{colour & 255}"
        raise InputError(f"{source.where(name)} has the colour {shown}, which {LABELMAP} does not name")
    if lowest < -1:
        raise InputError(unknown[-2 - lowest])
    typed: IndexMap = labels.astype(classes.dtype)
    return typed


def _coded(image: PIL.Image.Image, where: str) -> Int[np.ndarray, "h w"]:
    """Return the colour of each pixel, as one number."""
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [], np.int32).reshape(-1, 3)
        whole = np.full(256, -1, np.int32)
        whole[: len(palette)] = palette @ np.array([1 << 16, 1 << 8, 1])
        values: Int[np.ndarray, "h w"] = whole[np.asarray(image)]
        if (values < 0).any():
            raise InputError(f"{where} has a value that its palette does not hold")
        return values
    if image.mode not in ("1", "L", "RGB", "RGBA"):
        raise InputError(f"{where} is a PNG of mode {image.mode}, expected are colours")
    rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    coded: Int[np.ndarray, "h w"] = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    return coded
