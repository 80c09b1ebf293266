"""Mask output: index PNGs, which hold a class per pixel, and overlays, which show masks to people."""

import io
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import PIL.Image
from jaxtyping import Bool, Float, Int, UInt8, UInt16
from PIL import ImageDraw, ImageFont

from tagmask.errors import ImageError, InputError, ShapeError
from tagmask.images import decode
from tagmask.types import Image, Size

__all__ = ["IndexMap", "index_png", "overlay", "overlay_colours", "palette", "read_index_png"]

IndexMap: TypeAlias = UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"]
"""Class per pixel; the dtype's largest value is the ignore index."""

_BAND = 1 << 20
"""Pixels processed at a time, so that memory beyond the result does not grow with the image."""


_MAX_LETTERS = 32
"""Letters of a name on an overlay; longer names are shortened."""


def palette(n: int = 256) -> UInt8[np.ndarray, "n 3"]:
    """Return PASCAL VOC's colour map, which mask viewers know.

    The bits of the index go to red, green and blue in turn, to the highest bits first.

    Args:
        n: number of colours.

    Returns:
        RGB, 0..255.

    Source:
        VOCcolormap.m of the VOC development kit.

    Example:
        >>> palette()[[0, 1, 15, 255]].tolist()
        [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index = np.arange(n)[:, None]
    places = np.arange(8)
    bits = index[..., None] >> (3 * places + np.arange(3)[:, None]) & 1
    colours: UInt8[np.ndarray, "n 3"] = (bits << (7 - places)).sum(axis=-1).astype(np.uint8)
    return colours


def index_png(labels: IndexMap) -> bytes:
    """Encode labels as a PNG: 8-bit labels with PASCAL VOC's palette, 16-bit labels as 16-bit grey.

    Args:
        labels: class per pixel; every value is kept.

    Returns:
        The file's bytes; `read_index_png` reads the labels back.

    Raises:
        ShapeError: the labels have no pixels.

    Example:
        >>> read_index_png(index_png(np.array([[0, 7, 255]], np.uint8)))
        array([[  0,   7, 255]], dtype=uint8)
    """
    if not labels.size:
        raise ShapeError(f"A PNG needs at least one pixel; the labels have shape {labels.shape}.")
    image = PIL.Image.fromarray(np.ascontiguousarray(labels, dtype=labels.dtype.newbyteorder("=")))
    if labels.dtype == np.uint8:
        image.putpalette(palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def read_index_png(source: str | os.PathLike[str] | bytes) -> IndexMap:
    """Read the indices (not the colours) of a mask PNG.

    Args:
        source: a file path or the file's bytes; palette, 8-bit grey or 16-bit grey.

    Returns:
        uint8 for palette and 8-bit grey, uint16 for 16-bit grey.

    Raises:
        ImageError: the file cannot be read, is not a PNG, or holds colours instead of indices.
    """
    image = decode(source, formats=("PNG",))
    if isinstance(source, bytes):
        head = source[:25]
    else:
        with Path(source).open("rb") as file:
            head = file.read(25)
    # Pillow stretches grey of 1, 2 and 4 bits to 0..255, which would change the indices.
    if image.mode == "P" or (image.mode == "L" and head[24] == 8):
        return np.array(image, dtype=np.uint8)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.array(image, dtype=np.uint16)
    what = "The bytes given" if isinstance(source, bytes) else os.fspath(source)
    raise ImageError(
        f"{what}: got mode {image.mode} of {head[24]} bits; a mask is a PNG with a palette, or with 8- or "
        "16-bit grey. Save the indices, not their colours."
    )


def overlay_colours(n: int) -> UInt8[np.ndarray, "n 3"]:
    """Return colours that are easy to distinguish over photos; the first ones do not depend on `n`.

    PASCAL VOC's colours start with dark red, dark green and brown, which are hard to distinguish on a
    photo. Here each colour is the one farthest from all before it in OKLab, among those that are neither
    dark, pale, grey nor glaring. Lightness counts half, because a tinted region has the photo's lightness.
    Colours repeat after about a thousand.

    Source:
        Farthest-first choice after Glasbey et al. (2007), in Ottosson's OKLab (2020).
    """
    return _overlay_colours(n).copy()


@cache
def _overlay_colours(n: int) -> UInt8[np.ndarray, "n 3"]:
    """See `overlay_colours`; kept, because a run draws every image with the same number of words."""
    levels = np.linspace(0, 255, 18).round()
    rgb = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(rgb)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    usable = (lab[:, 0] > 0.58) & (lab[:, 0] < 0.86) & (chroma > 0.13) & (chroma < 0.2)
    rgb, lab = rgb[usable], lab[usable] * (0.5, 1, 1)
    chosen = [int(np.abs(rgb - (30, 144, 255)).sum(axis=1).argmin())]
    nearest = np.full(len(rgb), np.inf)
    while len(chosen) < min(n, len(rgb)):
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    colours: UInt8[np.ndarray, "n 3"] = rgb[np.resize(chosen, n)].astype(np.uint8)
    return colours


def _oklab(rgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    to_cones = [[0.4122214708, 0.2119034982, 0.0883024619],
                [0.5363325363, 0.6806995451, 0.2817188376],
                [0.0514459929, 0.1073969566, 0.6299787005]]  # fmt: skip
    to_lab = [[0.2104542553, 1.9779984951, 0.0259040371],
              [0.7936177850, -2.4285922050, 0.7827717662],
              [-0.0040720468, 0.4505937099, -0.8086757660]]  # fmt: skip
    lab: Float[np.ndarray, "n 3"] = np.cbrt(_linear(rgb) @ np.array(to_cones)) @ np.array(to_lab)
    return lab


def _linear(rgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Linear light, 0..1, from sRGB values 0..255."""
    share = rgb / 255
    light: Float[np.ndarray, "n 3"] = np.where(
        share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4
    )
    return light


def overlay(
    image: Image,
    labels: IndexMap,
    names: Sequence[str],
    *,
    skip: Collection[int] = frozenset(),
    opacity: float = 0.5,
    outlines: bool = True,
) -> PIL.Image.Image:
    """Draw labels over their image: tinted regions, each with a thin outline and its class's name.

    The name is written once per class, on a chip in the class's colour inside its largest region, unless
    the class covers less than 0.5 % of the image or no chip fits. The font has Latin letters only.

    Args:
        image: upright RGB, 0..255.
        labels: class per pixel, at the image's size; the dtype's largest value is never tinted.
        names: the name of each label.
        skip: labels without tint and name, such as the background.
        opacity: of the tint, 0 (outlines and names only) to 1 (flat colours).
        outlines: whether regions have outlines. In a small picture they hide what is small.

    Returns:
        An RGB image of the same size.

    Raises:
        ShapeError: image and labels differ in size.
        InputError: a label has no name, or the opacity is outside 0..1.
    """
    if labels.shape != image.shape[:2] or not labels.size:
        raise ShapeError(
            f"Labels have size {labels.shape}, their image has {image.shape[:2]} (h, w). "
            "Give the image that was masked."
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"The opacity is {opacity}. Give a number from 0 to 1.")
    areas = _areas(labels)
    ignore_index = len(areas) - 1
    shown = [int(c) for c in np.flatnonzero(areas[:ignore_index]) if c not in skip]
    if shown and shown[-1] >= len(names):
        raise InputError(f"Label {shown[-1]} has no name: there are {len(names)} names, from label 0 on.")
    table = np.full(len(areas), ignore_index, labels.dtype)
    table[shown] = shown
    regions = np.empty_like(labels)
    for band in _bands(labels.shape):
        regions[band] = table[labels[band]]
    colours = overlay_colours(len(names))
    canvas = PIL.Image.fromarray(_tinted(image, regions, colours, opacity, outlines))
    large = [c for c in shown if areas[c] >= 0.005 * labels.size]
    for chip in _placed(regions, sorted(large, key=lambda c: int(areas[c])), names):
        red, green, blue = colours[chip.label].tolist()
        _draw(canvas, chip, (red, green, blue))
    return canvas


def _bands(size: Size) -> Iterator[slice]:
    rows = max(1, _BAND // size[1])
    return (slice(top, top + rows) for top in range(0, size[0], rows))


def _areas(labels: IndexMap) -> Int[np.ndarray, "labels"]:
    areas = np.zeros(np.iinfo(labels.dtype).max + 1, np.int64)
    for band in _bands(labels.shape):
        areas += np.bincount(labels[band].ravel(), minlength=len(areas))
    return areas


def _tinted(
    image: Image, regions: IndexMap, colours: UInt8[np.ndarray, "c 3"], opacity: float, outlines: bool
) -> Image:
    ignore_index = np.iinfo(regions.dtype).max
    weight = round(256 * opacity)
    tints = np.zeros((ignore_index + 1, 3), np.uint16)
    tints[: min(len(colours), ignore_index)] = colours[:ignore_index].astype(np.uint16) * weight
    lines = _borders(regions) if outlines else np.zeros(regions.shape, bool)
    tinted = image.copy()
    for band in _bands(regions.shape):
        mixed = (image[band].astype(np.uint16) * (256 - weight) + tints[regions[band]] + 128) >> 8
        np.copyto(tinted[band], mixed.astype(np.uint8), where=(regions[band] != ignore_index)[..., None])
        tinted[band][lines[band]] = 255
    return tinted


def _borders(regions: IndexMap) -> Bool[np.ndarray, "h w"]:
    """Outlines of regions: 1 pixel wide in thumbnails, 2 in small photos, 20 in 24 megapixels."""
    width = round(_scale(regions.shape) / 250)
    lines = np.zeros(regions.shape, bool)
    for axis in (0, 1):
        change = np.not_equal(*_shifted(regions, axis))
        for side in _shifted(lines, axis)[: max(1, width)]:
            side |= change
    for _ in range(width // 2 - 1):
        before = lines.copy()
        for axis in (0, 1):
            for side, other in zip(_shifted(lines, axis), _shifted(before, axis)[::-1], strict=True):
                side |= other
    return lines


def _shifted(x: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Views without the last and without the first entry along an axis."""
    return (x[:-1], x[1:]) if axis == 0 else (x[:, :-1], x[:, 1:])


def _scale(size: Sequence[int]) -> float:
    """Side of a square of the image's area, in pixels."""
    return float(np.sqrt(size[0] * size[1]))


@dataclass(frozen=True)
class _Chip:
    """A name on a rounded plate; sizes and positions in pixels."""

    label: int
    text: str
    font: ImageFont.FreeTypeFont
    height: int
    width: int
    top: int = 0
    left: int = 0


def _placed(regions: IndexMap, labels: Sequence[int], names: Sequence[str]) -> list[_Chip]:
    """Place a chip for each label that has room; pass small regions first, as they have the least room."""
    step = -(-max(regions.shape) // 256)
    rows, cols = (np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in regions.shape)
    grid = regions[np.ix_(rows, cols)]
    points = sorted({max(9, round(_scale(regions.shape) / part)) for part in (28, 35, 44)}, reverse=True)
    fonts = [cast("ImageFont.FreeTypeFont", ImageFont.load_default(point)) for point in points]
    taken = np.zeros(grid.shape, bool)
    chips = []
    for label in labels:
        chip = None
        for chip in _fitting(label, names[label], regions.shape, fonts):
            top, left, cover = _best_place(chip, grid == label, taken, step, regions.shape)
            chip = replace(chip, top=top * step, left=left * step)
            if cover > 0.6:
                break
        if chip is not None:
            chips.append(chip)
            taken[_cells(chip, step)] = True
    return chips


def _best_place(
    chip: _Chip, region: Bool[np.ndarray, "gh gw"], taken: Bool[np.ndarray, "gh gw"], step: int, size: Size
) -> tuple[int, int, float]:
    """Find where the chip lies deepest in the region: grid row, grid column, share of the chip inside.

    Depth is the region's share of the chip's box and of wider boxes around it. This prefers bulky parts to
    thin ones without computing connected components. If the chip can only overlap others, its share is 0.
    """
    rows, cols = (size[0] - chip.height) // step + 1, (size[1] - chip.width) // step + 1
    high, wide = -(-chip.height // step), -(-chip.width // step)
    reach = 4 * high + 1  # how far the widest boxes, of chips at the rim, leave the grid
    inside, occupied = _sums(region, reach), _sums(taken, reach)

    def share(sums: Int[np.ndarray, "_ _"], margin: int) -> Float[np.ndarray, "_ _"]:
        top, left, bottom, right = (
            reach - margin,
            reach - margin,
            reach + high + margin,
            reach + wide + margin,
        )
        below, above = sums[bottom : bottom + rows], sums[top : top + rows]
        boxes = below[:, right : right + cols] - above[:, right : right + cols]
        boxes += above[:, left : left + cols] - below[:, left : left + cols]
        shares: Float[np.ndarray, "_ _"] = boxes / ((high + 2 * margin) * (wide + 2 * margin))
        return shares

    cover = share(inside, 0)
    depth = 2 * cover + sum(share(inside, factor * high) for factor in (1, 2, 4))
    free = (share(occupied, 0) == 0) & (cover > 0)
    best = np.where(free, depth, depth - 10).argmax()
    row, column = np.unravel_index(best, depth.shape)
    return int(row), int(column), float(cover[row, column] * free[row, column])


def _sums(cells: Bool[np.ndarray, "gh gw"], reach: int) -> Int[np.ndarray, "_ _"]:
    """Summed-area table: entry (reach + y, reach + x) counts the cells above y and left of x."""
    padded = np.pad(cells, (reach + 1, reach))
    sums: Int[np.ndarray, "_ _"] = padded.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    return sums


def _cells(chip: _Chip, step: int) -> tuple[slice, slice]:
    return (
        slice(chip.top // step, -(-(chip.top + chip.height) // step)),
        slice(chip.left // step, -(-(chip.left + chip.width) // step)),
    )


def _fitting(label: int, name: str, size: Size, fonts: Sequence[ImageFont.FreeTypeFont]) -> list[_Chip]:
    """The chips that fit the image, largest first; if none does, one with a shortened name."""
    text = " ".join(name.split())
    if not text:
        return []
    if len(text) > _MAX_LETTERS:
        text = f"{text[: _MAX_LETTERS - 3].rstrip()}..."
    whole = [_chip(label, text, font) for font in fonts]
    shortened = (_chip(label, f"{text[:n].rstrip()}...", fonts[-1]) for n in range(len(text) - 1, 1, -1))
    fitting = [chip for chip in whole if chip.height <= size[0] and chip.width <= size[1]]
    return fitting or [chip for chip in shortened if chip.height <= size[0] and chip.width <= size[1]][:1]


def _chip(label: int, text: str, font: ImageFont.FreeTypeFont) -> _Chip:
    height = sum(font.getmetrics()) + font.size // 4
    return _Chip(label, text, font, round(height), round(font.getlength(text) + 0.9 * font.size))


def _draw(canvas: PIL.Image.Image, chip: _Chip, colour: tuple[int, int, int]) -> None:
    corner, rim = (chip.left, chip.top), max(1, chip.height // 20)
    canvas.paste((255, 255, 255), corner, _plate(chip, 0))
    canvas.paste(colour, corner, _plate(chip, rim))
    # WCAG 2.1: at this relative luminance black and white contrast alike.
    light = float((_linear(np.array([colour], np.float64)) @ (0.2126, 0.7152, 0.0722))[0])
    text = (0, 0, 0) if light > 0.179 else (255, 255, 255)
    middle = (chip.left + chip.width / 2, chip.top + chip.height / 2)
    ImageDraw.Draw(canvas).text(middle, chip.text, fill=text, font=chip.font, anchor="mm")


def _plate(chip: _Chip, inset: int) -> PIL.Image.Image:
    fine = 4  # drawn larger, then averaged: Pillow does not antialias shapes
    plate = PIL.Image.new("L", (fine * chip.width, fine * chip.height))
    box = (fine * inset, fine * inset, plate.width - fine * inset - 1, plate.height - fine * inset - 1)
    ImageDraw.Draw(plate).rounded_rectangle(box, radius=fine * (chip.height // 4 - inset // 2), fill=255)
    return plate.reduce(fine)
