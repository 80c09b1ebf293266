"""Contact sheets: several pictures in a grid with column headings and row captions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias, cast

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8
from PIL import ImageDraw, ImageFont

from tagmask.errors import ShapeError
from tagmask.types import Size

__all__ = [
    "PAPER",
    "Cell",
    "Heading",
    "Row",
    "contact_sheet",
    "legend",
    "resize_longest",
    "stacked",
    "upsample_map",
]

Cell: TypeAlias = UInt8[np.ndarray, "_ _ 3"]
"""An RGB picture of any size."""

PAPER = (253, 253, 251)
"""Colour of the background."""
_INK, _QUIET = (28, 29, 31), (98, 101, 106)
_EDGE, _GAP = 20, 10
"""Margin around the sheet and gap between pictures, in pixels."""
_NAME, _NOTE = 16, 12
"""Font sizes of names and notes, in pixels."""
_MIN_WIDTH = 100
"""Smallest width of a column, in pixels, so that notes stay readable."""
_LINE = 1.3
"""Line height, relative to the font size."""


@dataclass(frozen=True)
class Heading:
    """Text above a column."""

    name: str
    note: str = ""
    """Description of the name, in a small font."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row of pictures."""

    cells: tuple[Cell, ...]
    caption: str = ""
    """Text below the first picture."""


def resize_longest(image: Cell, longest: int) -> Cell:
    """Resize an image so that its longest side has `longest` pixels and the other at least one.

    Raises:
        ShapeError: the image has no pixels.
    """
    if not image.size:
        raise ShapeError(f"The image has shape {image.shape}. It needs at least one pixel.")
    h, w = image.shape[:2]
    factor = longest / max(h, w)
    size = max(round(w * factor), 1), max(round(h * factor), 1)
    source = PIL.Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(source.resize(size, PIL.Image.Resampling.LANCZOS))


def upsample_map(grid: Float[np.ndarray, "gh gw"], size: Size) -> Float[np.ndarray, "h w"]:
    """Resize a coarse map to size (h, w), bilinearly."""
    h, w = size
    coarse = PIL.Image.fromarray(np.ascontiguousarray(grid, dtype=np.float32))
    return np.asarray(coarse.resize((w, h), PIL.Image.Resampling.BILINEAR))


def contact_sheet(headings: Sequence[Heading], rows: Sequence[Row]) -> PIL.Image.Image:
    """Draw all rows below the headings, on a light background.

    Args:
        headings: one per column. The font supports Latin letters.
        rows: each has one cell per column. A column is as wide as its widest cell or its name.

    Raises:
        ShapeError: a row's cells differ from the headings in number, or there is no row or column.
    """
    if not headings or not rows or any(len(row.cells) != len(headings) for row in rows):
        raise ShapeError(
            f"The rows have {[len(row.cells) for row in rows]} pictures, the headings are {len(headings)}. "
            "Give at least one row and column, and one picture per heading in each row."
        )
    widths = [
        max(_MIN_WIDTH, ceil(_font(_NAME).getlength(heading.name)), *(row.cells[i].shape[1] for row in rows))
        for i, heading in enumerate(headings)
    ]
    heights = [max(cell.shape[0] for cell in row.cells) for row in rows]
    below = [round(2 * _NOTE * _LINE) if row.caption else _GAP for row in rows]
    notes = [_wrapped(heading.note, width) for heading, width in zip(headings, widths, strict=True)]
    head = round(_NAME * _LINE + max(map(len, notes)) * _NOTE * _LINE) + _GAP
    size = (2 * _EDGE + sum(widths) + _GAP * (len(widths) - 1), 2 * _EDGE + head + sum(heights) + sum(below))
    canvas = PIL.Image.new("RGB", size, PAPER)
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


def legend(colours: Mapping[str, tuple[int, int, int]], width: int) -> PIL.Image.Image:
    """Draw a line of names, each behind a square of its colour; wrapped where it is too long.

    Args:
        colours: RGB of each name; at least one.
        width: of the result, in pixels.
    """
    font, line = _font(_NOTE + 1), round(2 * _NOTE)
    places: list[tuple[int, int]] = []
    left, top = _EDGE, 0
    for name in colours:
        needed = 2 * _NOTE + ceil(font.getlength(name))
        if places and left + needed > width - _EDGE:
            left, top = _EDGE, top + line
        places.append((left, top))
        left += needed + _NOTE
    canvas = PIL.Image.new("RGB", (width, top + line + _EDGE // 2), PAPER)
    pen = ImageDraw.Draw(canvas)
    for (name, colour), (x, y) in zip(colours.items(), places, strict=True):
        pen.rectangle((x, y + 2, x + _NOTE, y + 2 + _NOTE), fill=colour)
        pen.text((x + _NOTE + 6, y), name, fill=_INK, font=font)
    return canvas


def stacked(sheets: Sequence[PIL.Image.Image]) -> PIL.Image.Image:
    """Put sheets below each other, flush left.

    Args:
        sheets: at least one; the result is as wide as the widest.
    """
    canvas = PIL.Image.new(
        "RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), PAPER
    )
    top = 0
    for sheet in sheets:
        canvas.paste(sheet, (0, top))
        top += sheet.height
    return canvas


def _wrapped(text: str, width: int) -> list[str]:
    """Wrap text to lines of at most `width` pixels; only a single word may be wider."""
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
