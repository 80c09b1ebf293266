"""Outlines of regions as SVG paths: small, sharp at any zoom, and coloured by the style sheet."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

__all__ = ["path_data"]

_EAST, _SOUTH, _WEST, _NORTH = range(4)


def path_data(mask: Bool[np.ndarray, "h w"]) -> str:
    """Return a region's outline as an SVG path, with holes, to be filled by the even-odd rule.

    The path connects the midpoints of the pixels' edges, which turns stairs into slopes. It extends beyond
    the image's border so that no stroke is drawn there. Pixels that touch only at a corner are separate.

    Args:
        mask: the region.

    Returns:
        Path data in half pixels: the image's view box is `0 0 2w 2h`. Empty for an empty region.

    Example:
        >>> path_data(np.pad(np.ones((1, 2), bool), 1))
        'M3 2l2 0 1 1-1 1-2 0-1-1z'
    """
    if not mask.any():
        return ""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    h, w = mask.shape
    pieces = []
    for loop in _loops(part):
        points = _edge_midpoints(loop, part.shape[1] + 1) + 2 * np.array([left, top])
        pieces.append(_subpath(_extend_past_border(points, 2 * w, 2 * h)))
    return "".join(pieces)


def _loops(mask: Bool[np.ndarray, "h w"]) -> Iterator[Int[np.ndarray, " edges"]]:
    """Yield the closed loops of pixel edges around a region, with the region on the right.

    An edge's index is four times the index of its first corner, plus its direction.
    """
    h, w = mask.shape
    stride = w + 1
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    neighbours = (
        (_EAST, padded[:-2, 1:-1], 0),
        (_SOUTH, padded[1:-1, 2:], 1),
        (_WEST, padded[2:, 1:-1], stride + 1),
        (_NORTH, padded[1:-1, :-2], stride),
    )
    exists = np.zeros(4 * stride * (h + 1), bool)
    for direction, neighbour, offset in neighbours:
        y, x = np.nonzero(inner & ~neighbour)
        exists[4 * (y * stride + x + offset) + direction] = True
    edges = np.flatnonzero(exists)
    corners, directions = edges // 4 + np.array([1, stride, -1, -stride])[edges % 4], edges % 4
    right, ahead, left = (4 * corners + (directions + turn) % 4 for turn in (1, 0, 3))
    # Turn right first: where two pixels touch at a corner, the loop stays on its own pixel.
    following = np.where(exists[right], right, np.where(exists[ahead], ahead, left))
    after = np.searchsorted(edges, following).tolist()
    unvisited = [True] * len(edges)
    for start in range(len(edges)):
        loop, at = [], start
        while unvisited[at]:
            unvisited[at] = False
            loop.append(at)
            at = after[at]
        if loop:
            yield edges[loop]


def _edge_midpoints(edges: Int[np.ndarray, " edges"], stride: int) -> Int[np.ndarray, "points 2"]:
    """Return (x, y) of the edges' midpoints, in half pixels."""
    corners, directions = edges // 4, edges % 4
    ahead = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[directions]
    midpoints: Int[np.ndarray, "points 2"] = (
        2 * np.stack([corners % stride, corners // stride], axis=1) + ahead
    )
    return midpoints


def _extend_past_border(
    points: Int[np.ndarray, "points 2"], width: int, height: int
) -> Int[np.ndarray, "points 2"]:
    corner = np.array([width, height])
    extended: Int[np.ndarray, "points 2"] = np.where(
        points == 0, -4, np.where(points == corner, corner + 4, points)
    )
    return extended


def _subpath(points: Int[np.ndarray, "points 2"]) -> str:
    """Return one closed part of a path, without points on the straight line between their neighbours."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    corners = points[(cross != 0) | ((before * after).sum(axis=1) < 0)]
    steps = " ".join(f"{x} {y}" for x, y in np.diff(corners, axis=0).tolist()).replace(" -", "-")
    return f"M{corners[0, 0]} {corners[0, 1]}l{steps}z"
