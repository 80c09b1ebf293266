"""Outlines of regions: closed loops of pixel edges."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

__all__ = ["outline_loops"]

_EAST, _SOUTH, _WEST, _NORTH = range(4)


def outline_loops(mask: Bool[np.ndarray, "h w"]) -> Iterator[Int[np.ndarray, " edges"]]:
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
