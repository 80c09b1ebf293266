"""Outlines of regions as SVG paths: small, sharp at any zoom, and coloured by the style sheet."""

import numpy as np
from jaxtyping import Bool, Int

from tagmask.regions import outline_loops

__all__ = ["path_data"]


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
    for loop in outline_loops(part):
        points = _edge_midpoints(loop, part.shape[1] + 1) + 2 * np.array([left, top])
        pieces.append(_subpath(_extend_past_border(points, 2 * w, 2 * h)))
    return "".join(pieces)


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
