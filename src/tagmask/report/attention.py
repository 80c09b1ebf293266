"""Draw attention maps: the image with a marked point, then the attention of that patch by method."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Float
from PIL import ImageDraw

from tagmask.catalogue import method, method_names
from tagmask.errors import ShapeError
from tagmask.report.contact_sheet import PAPER, Heading, Row, contact_sheet, resize_longest, upsample_map
from tagmask.report.heatmap import heat_overlay
from tagmask.report.text import data_uri, escaped
from tagmask.types import Image

__all__ = ["AttentionExample", "attention_section", "attention_sheet", "layer_sheet"]

_SHEET_SIDE, _LAYER_SIDE, _PAGE_SIDE = 300, 220, 360
"""Longest side of a cell, in pixels, in a sheet, in a sheet of layers, and in a page."""
_BLOCK = 5
"""Maps side by side in a sheet of layers."""
_SUPERSAMPLING = 4
"""Rings are drawn this much larger and then averaged, because Pillow does not antialias shapes."""


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """One image and the attention maps of some of its patches."""

    image: Image
    points: tuple[tuple[int, int], ...]
    """(x, y) in pixels; one row each."""
    methods: tuple[str, ...]
    """One column each."""
    weights: Float[np.ndarray, "methods points gh gw"]
    """Attention of the patch at each point, from `attention_maps.patch_attention`."""

    def __post_init__(self) -> None:
        if self.weights.ndim != 4 or self.weights.shape[:2] != (len(self.methods), len(self.points)):
            raise ShapeError(
                f"The weights have shape {self.weights.shape}. Expected {len(self.methods)} methods, "
                f"{len(self.points)} points, and the rows and columns of the grid."
            )


def attention_sheet(example: AttentionExample) -> PIL.Image.Image:
    """Draw all maps in one picture, with a row per point and a column per method.

    Each map is relative to its own maximum.
    """
    return _sheet(example, _cells(example, _SHEET_SIDE), range(len(example.methods)))


def layer_sheet(example: AttentionExample) -> PIL.Image.Image:
    """Draw many maps as `attention_sheet` does, in several blocks, one below the other."""
    cells = _cells(example, _LAYER_SIDE)
    count = len(example.methods)
    blocks = [
        _sheet(example, cells, range(first, min(first + _BLOCK, count))) for first in range(0, count, _BLOCK)
    ]
    sheet = PIL.Image.new(
        "RGB", (max(block.width for block in blocks), sum(block.height for block in blocks)), PAPER
    )
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _sheet(example: AttentionExample, cells: list[list[Image]], maps: Sequence[int]) -> PIL.Image.Image:
    """Draw the image and some of the maps."""
    names = [example.methods[i] for i in maps]
    rows = [
        Row((row[0], *(row[1 + i] for i in maps)), f"patch at {x},{y}")
        for (x, y), row in zip(example.points, cells, strict=True)
    ]
    return contact_sheet([Heading("image"), *(Heading(name, _summary(name)) for name in names)], rows)


def attention_section(example: AttentionExample, title: str, lead: str) -> str:
    """Return the maps as an HTML section that wraps on narrow screens."""
    rows = ""
    summaries = {name: _summary(name) for name in example.methods}
    for (x, y), (image, *maps) in zip(example.points, _cells(example, _PAGE_SIDE), strict=True):
        figures = _figure(image, f"Image, marked at {x},{y}", "image", f"patch at {x},{y}")
        for name, cell in zip(example.methods, maps, strict=True):
            figures += _figure(cell, f"Attention of the patch at {x},{y}: {name}", name, summaries[name])
        summaries = dict.fromkeys(summaries, "")  # print each only once
        rows += f'<div class="attention-row" style="--n:{len(maps) + 1}">{figures}</div>\n'
    return (
        f'<section class="attention"><h2>{escaped(title)}</h2>\n<p class="lead">{escaped(lead)}</p>\n'
        f"{rows}</section>\n"
    )


def _figure(cell: Image, alt: str, name: str, note: str) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(cell).save(file, "JPEG", quality=85, optimize=True)
    h, w = cell.shape[:2]
    return (
        f'<figure><img src="{data_uri("image/jpeg", file.getvalue())}" width="{w}" height="{h}"'
        f' alt="{escaped(alt)}" loading="lazy" decoding="async">'
        f"<figcaption><b>{escaped(name)}</b> {escaped(note)}</figcaption></figure>"
    )


def _summary(name: str) -> str:
    return method(name, "masks").summary if name in method_names("masks") else ""


def _cells(example: AttentionExample, longest: int) -> list[list[Image]]:
    """Return the image and its maps, all marked, for each point."""
    image = resize_longest(example.image, longest)
    size = (image.shape[0], image.shape[1])
    h, w = example.image.shape[:2]
    rows = []
    for p, (x, y) in enumerate(example.points):
        centre = ((x + 0.5) * size[1] / w, (y + 0.5) * size[0] / h)
        maps = [grid / max(float(grid.max()), 1e-30) for grid in example.weights[:, p]]
        # The ring surrounds the patch without covering it.
        radius = max(size[0] / example.weights.shape[2], size[1] / example.weights.shape[3], 6.0)
        cells = [image, *(heat_overlay(image, upsample_map(grid, size)) for grid in maps)]
        rows.append([_with_ring(cell, centre, radius) for cell in cells])
    return rows


def _with_ring(cell: Image, centre: tuple[float, float], radius: float) -> Image:
    """Draw a white ring with black edges, visible on any background."""
    canvas = PIL.Image.fromarray(cell)
    line = max(1.5, 0.007 * max(cell.shape))
    for margin, ink in ((0.4 * line, (0, 0, 0)), (0.0, (255, 255, 255))):
        stencil = PIL.Image.new("L", (_SUPERSAMPLING * canvas.width, _SUPERSAMPLING * canvas.height))
        x, y = (_SUPERSAMPLING * part for part in centre)
        outer = _SUPERSAMPLING * (radius + margin)
        ImageDraw.Draw(stencil).ellipse(
            (x - outer, y - outer, x + outer, y + outer),
            outline=255,
            width=round(_SUPERSAMPLING * (line + 2 * margin)),
        )
        canvas.paste(ink, (0, 0), stencil.reduce(_SUPERSAMPLING))
    return np.asarray(canvas)
