"""Pictures side by side in one picture: columns with headings, rows with captions."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias, cast

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8
from PIL import ImageDraw, ImageFont

from tagmask.errors import ShapeError
from tagmask.types import Size

__all__ = ["Cell", "Heading", "Row", "fitted", "picture_sheet", "stretched"]

Cell: TypeAlias = UInt8[np.ndarray, "_ _ 3"]
"""A picture of any size, RGB."""

_PAPER, _INK, _QUIET = (253, 253, 251), (28, 29, 31), (98, 101, 106)
_EDGE, _GAP = 20, 10
"""Around the sheet and between pictures, in pixels."""
_NAME, _NOTE = 16, 12
"""Sizes of letters, in pixels."""
_LEAST = 100
"""Width of a column, in pixels, so that notes below its name stay readable."""
_LINE = 1.3
"""Height of a line, in sizes of letters."""


@dataclass(frozen=True)
class Heading:
    """What is written over a column."""

    name: str
    note: str = ""
    """What the name stands for, in small letters."""


@dataclass(frozen=True, eq=False)
class Row:
    """Pictures side by side."""

    cells: tuple[Cell, ...]
    caption: str = ""
    """Written below the first."""


def fitted(image: Cell, longest: int) -> Cell:
    """A picture whose longest side is so many pixels long, never without a pixel.

    Raises:
        ShapeError: no pixels.
    """
    if not image.size:
        raise ShapeError(f"a picture needs at least one pixel; it has shape {image.shape}")
    h, w = image.shape[:2]
    factor = longest / max(h, w)
    size = max(round(w * factor), 1), max(round(h * factor), 1)
    picture = PIL.Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(picture.resize(size, PIL.Image.Resampling.LANCZOS))


def stretched(grid: Float[np.ndarray, "gh gw"], size: Size) -> Float[np.ndarray, "h w"]:
    """A coarse map at a picture's size (h, w), bilinear."""
    h, w = size
    coarse = PIL.Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(coarse.resize((w, h), PIL.Image.Resampling.BILINEAR))


def picture_sheet(headings: Sequence[Heading], rows: Sequence[Row]) -> PIL.Image.Image:
    """One picture of all rows below the headings, on light paper.

    Args:
        headings: one a column. The font knows Latin letters.
        rows: with as many cells. A column is as wide as its widest cell, and its name.

    Raises:
        ShapeError: a row with more or fewer cells than there are headings, or no column or row.
    """
    if not headings or not rows or any(len(row.cells) != len(headings) for row in rows):
        raise ShapeError(
            f"rows hold {[len(row.cells) for row in rows]} pictures and there are {len(headings)} headings; "
            "give at least one row and one column, and a picture for each"
        )
    widths = [
        max(_LEAST, ceil(_font(_NAME).getlength(heading.name)), *(row.cells[i].shape[1] for row in rows))
        for i, heading in enumerate(headings)
    ]
    heights = [max(cell.shape[0] for cell in row.cells) for row in rows]
    below = [round(2 * _NOTE * _LINE) if row.caption else _GAP for row in rows]
    notes = [_wrapped(heading.note, width) for heading, width in zip(headings, widths, strict=True)]
    head = round(_NAME * _LINE + max(map(len, notes)) * _NOTE * _LINE) + _GAP
    size = (2 * _EDGE + sum(widths) + _GAP * (len(widths) - 1), 2 * _EDGE + head + sum(heights) + sum(below))
    canvas = PIL.Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    lefts = [_EDGE + sum(widths[:i]) + i * _GAP for i in range(len(widths))]
    for heading, lines, left in zip(headings, notes, lefts, strict=True):
        pen.text((left, _EDGE), heading.name, fill=_INK, font=_font(_NAME))
        for i, line in enumerate(lines):
            pen.text((left, _EDGE + (_NAME + i * _NOTE) * _LINE), line, fill=_QUIET, font=_font(_NOTE))
    top = _EDGE + head
    for row, height, gap in zip(rows, heights, below, strict=True):
        for cell, left in zip(row.cells, lefts, strict=True):
            canvas.paste(PIL.Image.fromarray(np.ascontiguousarray(cell)), (left, top))
        pen.text((_EDGE, top + height + 4), row.caption, fill=_QUIET, font=_font(_NOTE))
        top += height + gap
    return canvas


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words, none wider unless a single word is."""
    font, lines = _font(_NOTE), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines if text else []


def _font(size: int) -> ImageFont.FreeTypeFont:
    return cast("ImageFont.FreeTypeFont", ImageFont.load_default(size))
