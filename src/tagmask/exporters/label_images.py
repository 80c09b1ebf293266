"""Masks as images: the labels themselves, or a number per region as a colour that other tools know."""

import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Int, UInt8

from tagmask.exporters.export import ExportedImage
from tagmask.masks import index_png, palette
from tagmask.regions import Region
from tagmask.types import Size

__all__ = ["PaintedRegion", "colour_png", "label_png", "paint"]


@dataclass(frozen=True)
class PaintedRegion:
    """What is known of a region once its pixels are in an image of numbers."""

    label: int
    area: int
    box: tuple[int, int, int, int]
    """(x0, y0, x1, y1) in pixels, half-open."""


def paint(regions: Iterable[Region], size: Size) -> tuple[Int[np.ndarray, "h w"], list[PaintedRegion]]:
    """Number regions from 1, in order; other pixels are 0. One region is held at a time.

    Args:
        regions: that do not overlap.
        size: (h, w) of the image.

    Returns:
        The number of each pixel's region, and the regions: number n is entry n - 1.
    """
    numbers = np.zeros(size, np.int32)
    painted = []
    for number, region in enumerate(regions, 1):
        x0, y0, x1, y1 = region.box
        numbers[y0:y1, x0:x1][region.mask] = number
        painted.append(PaintedRegion(region.label, region.area, region.box))
    return numbers, painted


def label_png(image: ExportedImage, words: int, ignore_index: int) -> bytes:
    """Encode a mask's labels, with the ignore index that readers expect of so many classes.

    Args:
        image: the image.
        words: number of classes, background included.
        ignore_index: of the run's masks.

    Returns:
        A PNG: 8 bits with 255 for ignored pixels, or above 255 classes 16 bits with 65535.
    """
    dtype = np.uint8 if words <= 255 else np.uint16
    labels = image.labels
    values = labels.astype(dtype)
    values[labels == ignore_index] = np.iinfo(dtype).max
    return index_png(values)


def colour_png(numbers: Int[np.ndarray, "h w"], *, rgb: bool) -> bytes:
    """Encode numbers in the colours of PASCAL VOC's map, which are all different.

    Args:
        numbers: from 0; at most 255 with a palette.
        rgb: colours themselves, not indices of a palette.
    """
    if not rgb:
        return index_png(numbers.astype(np.uint8))
    colours: UInt8[np.ndarray, "n 3"] = palette(int(numbers.max()) + 1)
    file = io.BytesIO()
    PIL.Image.fromarray(colours[numbers]).save(file, "PNG")
    return file.getvalue()
