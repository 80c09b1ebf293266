"""Rings: one closed line of points around a connected region, for formats whose polygons cannot hold holes.

A hole is cut open: the ring runs from the hole's leftmost side along the row of pixels to the next outline on
its left, and back. Those two lines coincide, so the area inside, by the even-odd rule, is that of the region.
"""

from collections.abc import Sequence

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
) -> tuple[Int[np.ndarray, "corners 2"], Int[np.ndarray, "centres 2"]]:
    """Return the ring as corners, and as centres of the pixels inside its edges."""
    stride = mask.shape[1] + 1
    # The first loop holds the first pixel's upper edge, so it is the outer one.
    outer, *holes = outline_loops(mask)
    steps = _joined(mask, outer, holes) if holes else 4 * outer
    edges, kinds = steps // 4, steps % 4
    x, y, direction = edges // 4 % stride, edges // 4 // stride, edges % 4
    corners = np.stack([x, y - (kinds == _ARRIVE)], axis=1)[kinds != _BACK]
    inside = [x - np.isin(direction, (_SOUTH, _WEST)), y - np.isin(direction, (_WEST, _NORTH))]
    return corners, np.stack(inside, axis=1)[kinds != _ARRIVE]


_ALONG, _ARRIVE, _LEAVE, _BACK = range(4)
"""Steps of a ring: along an edge; to the end of the edge where a hole is inserted; from the hole's end to its
beginning; back to the pixel of that edge."""


def _joined(
    mask: Bool[np.ndarray, "h w"], outer: Int[np.ndarray, " _"], holes: Sequence[Int[np.ndarray, " _"]]
) -> Int[np.ndarray, " steps"]:
    """Return the outer loop with all holes inserted: four times an edge, plus the kind of step.

    A hole is inserted where the row of its leftmost side meets the next outline on its left. That outline
    begins further left than all of the hole, so the insertions never form a circle.
    """
    stride = mask.shape[1] + 1
    starts, targets, lefts = [], [], []
    for hole in holes:
        on_left = np.flatnonzero(hole % 4 == _SOUTH)
        start = int(on_left[np.argmin(hole[on_left] // 4 % stride)])
        x, y = hole[start] // 4 % stride - 1, hole[start] // 4 // stride
        empty = np.flatnonzero(~mask[y, :x])
        left = int(empty[-1]) + 1 if len(empty) else 0
        starts.append(start)
        targets.append(4 * ((y + 1) * stride + left) + _NORTH)
        lefts.append(int(x))
    loops = [outer, *(np.roll(hole, -start) for hole, start in zip(holes, starts, strict=True))]
    edges = np.concatenate(loops)
    ends = np.cumsum([len(loop) for loop in loops])
    order = np.argsort(edges)
    found = order[np.searchsorted(edges, targets, sorter=order)]
    owners = np.searchsorted(ends, found, side="right")
    inserted: list[list[tuple[int, Int[np.ndarray, " _"]]]] = [[] for _ in loops]
    for hole in np.argsort(lefts, kind="stable")[::-1].tolist():  # what is inserted into a hole comes first
        owner = int(owners[hole])
        place = int(found[hole] - ends[owner] + len(loops[owner]))
        inserted[owner].append((place, _with_insertions(loops[hole + 1], inserted[hole + 1])))
    return _with_insertions(outer, inserted[0])


def _with_insertions(
    loop: Int[np.ndarray, " edges"], inserted: list[tuple[int, Int[np.ndarray, " _"]]]
) -> Int[np.ndarray, " steps"]:
    pieces, at = [], 0
    for place, hole in sorted(inserted, key=lambda each: each[0]):
        target = 4 * loop[place]
        pieces += [4 * loop[at : place + 1], [target + _ARRIVE], hole, [hole[0] + _LEAVE, target + _BACK]]
        at = place + 1
    return np.concatenate([*pieces, 4 * loop[at:]])


def _without_straight(points: Int[np.ndarray, "points 2"]) -> Int[np.ndarray, "kept 2"]:
    """Remove repeated points, and points on the straight line between their neighbours."""
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    kept: Int[np.ndarray, "kept 2"] = points[(cross != 0) | ((before * after).sum(axis=1) < 0)]
    return kept
