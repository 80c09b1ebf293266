"""Rings: one closed line of points around a connected region, for formats whose polygons cannot hold holes.

A hole is cut open: the ring runs from the hole's leftmost side along the row of pixels to the next outline on
its left, and back. Those two lines coincide, so the area inside, by the even-odd rule, is that of the region.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from tagmask.regions.outlines import outline_loops

__all__ = ["centre_ring", "corner_ring"]

_EAST, _SOUTH, _WEST, _NORTH = range(4)
_OUTWARD = ((-1, -1), (1, -1), (1, 1), (-1, 1))
_HALF_LINE = 1 / 16
"""Half the width of a line of pixels: so small that readers that round points keep them in their pixel."""


def corner_ring(mask: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "points 2"]:
    """Return a region's outline along the edges of its pixels.

    Args:
        mask: the region, connected through edges of pixels.

    Returns:
        (x, y) of corners, clockwise; (0, 0) is the outer corner of the first pixel. The area inside is the
        region's number of pixels.

    Example:
        >>> corner_ring(np.ones((1, 2), bool)).tolist()
        [[0, 0], [2, 0], [2, 1], [0, 1]]
    """
    corners, _ = _cut_open(mask)
    return _without_straight(corners)


def centre_ring(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "points 2"]:
    """Return a region's outline through the centres of its outermost pixels.

    Rasterizers that fill a polygon and draw its outline too, such as OpenCV's fillPoly, give back the region.

    Args:
        mask: the region, connected through edges of pixels.

    Returns:
        (x, y) of points, clockwise, at least 3; 0 is the centre of the first pixel. A straight line of pixels
        is given as a rectangle an eighth of a pixel wide, because tools drop polygons without an area.

    Example:
        >>> centre_ring(np.ones((2, 3), bool)).tolist()
        [[2.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    """
    _, centres = _cut_open(mask)
    height, width = mask.shape
    if min(height, width) == 1:
        right, bottom = width - 1, height - 1
        around = [(0, 0), (right, 0), (right, bottom), (0, bottom)]
        ring: Float[np.ndarray, "points 2"] = np.array(around, float) + _HALF_LINE * np.array(_OUTWARD)
        return ring
    return _without_straight(centres).astype(float)


def _cut_open(
    mask: Bool[np.ndarray, "h w"],
) -> tuple[Int[np.ndarray, "edges 2"], Int[np.ndarray, "edges 2"]]:
    """Return the ring as corners, and as centres of the pixels inside those edges."""
    stride = mask.shape[1] + 1
    # The first loop holds the first pixel's upper edge, so it is the outer one.
    outer, *holes = outline_loops(mask)
    opened = dict(_openings(mask, holes, stride)) if holes else {}
    corners: list[tuple[int, int]] = []
    centres: list[tuple[int, int]] = []
    # A stack, not recursion: thousands of holes may stand in a row.
    pending: list[Iterator[int]] = [iter(outer.tolist())]
    returns: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]] = []
    while pending:
        edge = next(pending[-1], None)
        if edge is None:
            pending.pop()
            if returns:
                hole_corner, hole_centre, centre = returns.pop()
                corners.append(hole_corner)
                centres += [hole_centre, centre]
            continue
        corner, centre = _corner(edge, stride), _inside(edge, stride)
        corners.append(corner)
        centres.append(centre)
        hole = opened.get(edge)
        if hole is not None:
            end = corner[0], corner[1] - 1
            corners.append(end)
            returns.append((_corner(hole[0], stride), _inside(hole[0], stride), centre))
            pending.append(iter(hole))
    return np.array(corners), np.array(centres)


def _openings(
    mask: Bool[np.ndarray, "h w"], holes: Sequence[Int[np.ndarray, " _"]], stride: int
) -> Iterator[tuple[int, list[int]]]:
    """Yield, for each hole, the edge after which it is inserted and its loop, starting on its left side.

    That edge lies further left than all of the hole, so the insertions never form a circle.
    """
    for hole in holes:
        is_left = np.flatnonzero(hole % 4 == _SOUTH)
        start = is_left[np.argmin(hole[is_left] // 4 % stride)]
        loop = np.roll(hole, -int(start)).tolist()
        x, y = _inside(loop[0], stride)
        empty = np.flatnonzero(~mask[y, :x])
        left = int(empty[-1]) + 1 if len(empty) else 0
        yield 4 * ((y + 1) * stride + left) + _NORTH, loop


def _corner(edge: int, stride: int) -> tuple[int, int]:
    """Return (x, y) of an edge's first corner."""
    return edge // 4 % stride, edge // 4 // stride


def _inside(edge: int, stride: int) -> tuple[int, int]:
    """Return (x, y) of the pixel on the right of an edge."""
    x, y = _corner(edge, stride)
    direction = edge % 4
    return x - (direction in (_SOUTH, _WEST)), y - (direction in (_WEST, _NORTH))


def _without_straight(points: Int[np.ndarray, "points 2"]) -> Int[np.ndarray, "kept 2"]:
    """Remove repeated points, and points on the straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept: Int[np.ndarray, "kept 2"] = points[(cross != 0) | ((before * after).sum(axis=1) < 0)]
    return kept
