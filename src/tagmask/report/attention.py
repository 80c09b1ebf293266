"""Where patches look, as pictures: the point marked, then the attention under each method."""

import io
from dataclasses import dataclass

import numpy as np
import PIL.Image
from jaxtyping import Float
from PIL import ImageDraw

from tagmask.catalogue import method, method_names
from tagmask.errors import ShapeError
from tagmask.report.contact_sheet import Heading, Row, fitted, picture_sheet, stretched
from tagmask.report.heatmap import warmed
from tagmask.report.text import data_uri, escaped
from tagmask.types import Image

__all__ = ["AttentionExample", "attention_section", "attention_sheet"]

_ON_SHEET, _ON_PAGE = 300, 360
"""Longest sides of a cell, in pixels."""
_FINE = 4
"""Marks are drawn so many times larger, then averaged, as Pillow does not smooth shapes."""


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """One picture, and where some of its patches look."""

    image: Image
    points: tuple[tuple[int, int], ...]
    """(x, y) of pixels; one row each."""
    methods: tuple[str, ...]
    """One column each."""
    weights: Float[np.ndarray, "methods points gh gw"]
    """As `attention_maps.patch_attention` gives them."""

    def __post_init__(self) -> None:
        if self.weights.ndim != 4 or self.weights.shape[:2] != (len(self.methods), len(self.points)):
            raise ShapeError(
                f"weights have shape {self.weights.shape}; wanted are {len(self.methods)} methods, "
                f"{len(self.points)} points, and the grid's rows and columns"
            )


def attention_sheet(look: AttentionExample) -> PIL.Image.Image:
    """One picture: a row a point, a column a method; warm is what the patch at the point takes most from.

    Each map is drawn in shares of its own strongest patch.
    """
    headings = [Heading("picture"), *(Heading(name, _summary(name)) for name in look.methods)]
    rows = [
        Row(tuple(cells), f"patch at {x},{y}")
        for (x, y), cells in zip(look.points, _cells(look, _ON_SHEET), strict=True)
    ]
    return picture_sheet(headings, rows)


def attention_section(look: AttentionExample, title: str, lead: str) -> str:
    """The same as a section of the page, which wraps where the page is narrow."""
    rows = ""
    said = {name: _summary(name) for name in look.methods}
    for (x, y), (picture, *maps) in zip(look.points, _cells(look, _ON_PAGE), strict=True):
        figures = _figure(picture, f"Picture, marked at {x},{y}", "picture", f"patch at {x},{y}")
        for name, cell in zip(look.methods, maps, strict=True):
            figures += _figure(cell, f"What the patch at {x},{y} looks at: {name}", name, said[name])
        said = dict.fromkeys(said, "")  # once is enough
        rows += f'<div class="gaze" style="--n:{len(maps) + 1}">{figures}</div>\n'
    return (
        f'<section class="look"><h2>{escaped(title)}</h2>\n<p class="lead">{escaped(lead)}</p>\n'
        f"{rows}</section>\n"
    )


def _figure(cell: Image, described: str, name: str, said: str) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(cell).save(file, "JPEG", quality=85, optimize=True)
    h, w = cell.shape[:2]
    return (
        f'<figure><img src="{data_uri("image/jpeg", file.getvalue())}" width="{w}" height="{h}"'
        f' alt="{escaped(described)}" loading="lazy" decoding="async">'
        f"<figcaption><b>{escaped(name)}</b> {escaped(said)}</figcaption></figure>"
    )


def _summary(name: str) -> str:
    return method(name, "masks").summary if name in method_names("masks") else ""


def _cells(look: AttentionExample, longest: int) -> list[list[Image]]:
    """For each point the marked picture and the marked maps."""
    picture = fitted(look.image, longest)
    size = (picture.shape[0], picture.shape[1])
    h, w = look.image.shape[:2]
    rows = []
    for p, (x, y) in enumerate(look.points):
        at = ((x + 0.5) * size[1] / w, (y + 0.5) * size[0] / h)
        maps = [grid / max(float(grid.max()), 1e-30) for grid in look.weights[:, p]]
        # The ring is round the patch, which it must not hide.
        reach = max(size[0] / look.weights.shape[2], size[1] / look.weights.shape[3], 6.0)
        cells = [picture, *(warmed(picture, stretched(grid, size)) for grid in maps)]
        rows.append([_marked(cell, at, reach) for cell in cells])
    return rows


def _marked(cell: Image, at: tuple[float, float], radius: float) -> Image:
    """A light ring with dark rims around a place, so that it is seen on any ground."""
    canvas = PIL.Image.fromarray(cell)
    line = max(1.5, 0.007 * max(cell.shape))
    for grow, ink in ((0.4 * line, (0, 0, 0)), (0.0, (255, 255, 255))):
        plate = PIL.Image.new("L", (_FINE * canvas.width, _FINE * canvas.height))
        x, y = (_FINE * part for part in at)
        outer = _FINE * (radius + grow)
        ImageDraw.Draw(plate).ellipse(
            (x - outer, y - outer, x + outer, y + outer), outline=255, width=round(_FINE * (line + 2 * grow))
        )
        canvas.paste(ink, (0, 0), plate.reduce(_FINE))
    return np.asarray(canvas)
