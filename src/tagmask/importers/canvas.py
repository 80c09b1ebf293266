"""Draw the regions of one image into its label map."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from tagmask.data.regions import RegionError, RegionWork, region_runs
from tagmask.errors import InputError
from tagmask.masks import IndexMap
from tagmask.regions.polygons import filled_polygon
from tagmask.types import Size

__all__ = ["Canvas", "Draw"]

_POINTS, _OUTLINES = 1_000_000, 10_000_000
"""Most points of a polygon, and most pixels of the outlines of an image's polygons."""


class Canvas:
    """A label map to draw on. Where regions overlap, the smaller lies on top; of equal ones, the later.

    Args:
        size: (h, w) of the image.
        ground: label of the pixels that no region covers.
        dtype: of the labels.
    """

    def __init__(self, size: Size, ground: int, dtype: np.dtype[Any]) -> None:
        self.size = size
        self.labels: IndexMap = np.full(size, ground, dtype)
        self._area = np.full(size, np.iinfo(np.uint32).max, np.uint32)
        self._work = RegionWork(size[0] * size[1])
        self._outlines = float(_OUTLINES)

    def paint(self, label: int, mask: Bool[np.ndarray, "_ _"], top: int = 0, left: int = 0) -> None:
        """Draw a region, given inside a box of the image.

        Raises:
            InputError: the image's regions cover it far too many times.
        """
        self._spend(mask.size)
        box = slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1])
        area = int(np.count_nonzero(mask))
        on_top = self._area[box] >= area
        on_top &= mask
        self.labels[box][on_top] = label
        self._area[box][on_top] = area

    def paint_segmentation(self, label: int, region: object) -> None:
        """Draw COCO's polygons or run lengths, as pycocotools does.

        Raises:
            InputError: it is neither, does not fit the image, or pycocotools is needed and not installed.
        """
        try:
            parts = [np.cumsum(runs) for runs in region_runs(region, self.size, self._work)]
        except RegionError as error:
            raise InputError(f"a region is invalid: {error}") from error
        starts = np.concatenate([ends[:-1:2] for ends in parts] or [np.zeros(0, np.int64)])
        stops = np.concatenate([ends[1::2] for ends in parts] or [np.zeros(0, np.int64)])
        mask, left, top = self._spans(starts, stops, self.size[::-1])
        self.paint(label, mask.T, top, left)

    def paint_spans(self, label: int, starts: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"]) -> None:
        """Draw spans of pixels, counted row by row.

        Args:
            label: of the region.
            starts: the first pixel of each.
            stops: the one after the last of each.

        Raises:
            InputError: the image's regions cover it far too many times.
        """
        mask, top, left = self._spans(starts, stops, self.size)
        self.paint(label, mask, top, left)

    def paint_polygon(self, label: int, points: Float[np.ndarray, "points 2"]) -> None:
        """Draw a polygon through pixels, with its outline.

        Args:
            label: of the region.
            points: (x, y) in pixels; the pixel that a point lies in is part of the region.

        Raises:
            InputError: a point lies far outside of the image or is no number, or there are too many.
        """
        low, high = -max(self.size), 2 * max(self.size)
        if not ((points >= low) & (points <= high)).all():  # nor NaN
            raise InputError("a polygon lies far outside of the image")
        edges = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1, initial=0)
        self._outlines -= len(points) + float(edges.sum())
        if len(points) > _POINTS or self._outlines < 0:
            raise InputError("a polygon's outline is too long for an image")
        mask, top, left = filled_polygon(np.floor(points).astype(np.int64), self.size)
        self.paint(label, mask, top, left)

    def _spans(
        self, starts: Int[np.ndarray, " n"], stops: Int[np.ndarray, " n"], size: Size
    ) -> tuple[Bool[np.ndarray, "_ _"], int, int]:
        """Return the mask of spans inside their box, its first line, and its first place in the lines.

        Args:
            starts: the first pixel of each span.
            stops: the one after the last of each.
            size: number of lines, which are rows or columns, and pixels of each.
        """
        some = stops > starts
        starts, stops = starts[some], stops[some]
        if not len(starts):
            return np.zeros((0, 0), bool), 0, 0
        whole = size[1]
        line, last_line = starts // whole, (stops - 1) // whole
        first, lines = int(line.min()), int(last_line.max()) + 1 - int(line.min())
        left, width = 0, whole
        if (line == last_line).all():
            left = int((starts % whole).min())
            width = int(((stops - 1) % whole).max()) + 1 - left
        moved = (line - first) * width + starts % whole - left
        steps = np.zeros(lines * width + 1, np.int32)
        np.add.at(steps, moved, 1)
        np.add.at(steps, moved + stops - starts, -1)
        np.cumsum(steps, out=steps)
        mask: Bool[np.ndarray, "_ _"] = (steps[:-1] > 0).reshape(lines, width)
        return mask, first, left

    def _spend(self, pixels: int) -> None:
        try:
            self._work.paint(pixels)
        except RegionError as error:
            raise InputError(f"a region is invalid: {error}") from error


Draw = Callable[[Canvas], None]
"""Draws the regions of an image."""
