"""Fill polygons whose points are pixels: the area inside and the outline itself."""

import numpy as np
from jaxtyping import Bool, Int

from tagmask.types import Size

__all__ = ["filled_polygon"]


def filled_polygon(
    points: Int[np.ndarray, "points 2"], size: Size
) -> tuple[Bool[np.ndarray, "_ _"], int, int]:
    """Fill a polygon and draw its outline, as OpenCV's fillPoly and the tools that use it do.

    Of `centre_ring`'s outline it gives back the region.

    Args:
        points: (x, y) of pixels; the last is joined to the first. They may lie outside of the image.
        size: (h, w) of the image, which cuts the polygon off.

    Returns:
        The pixels inside a box, and the box's first row and column. Inside is meant by the even-odd rule.

    Example:
        >>> filled_polygon(np.array([[1, 0], [3, 2], [1, 2]]), (4, 4))[0].astype(int).tolist()
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    low = points.min(axis=0, initial=max(size)).clip(0)
    high = np.minimum(points.max(axis=0, initial=-1) + 1, size[::-1])
    (left, top), (width, height) = low.tolist(), (high - low).clip(0).tolist()
    points = points - low
    ends = np.roll(points, -1, axis=0)
    # Each edge changes what is inside on its rows, from the crossing on: the upper end counts, the lower not.
    y0, y1 = points[:, 1], ends[:, 1]
    rows = np.abs(y1 - y0)
    step = _counted(rows)
    edge = np.repeat(np.arange(len(points)), rows)
    y = np.minimum(y0, y1)[edge] + step
    slope = (ends[:, 0] - points[:, 0]) / np.where(y0 == y1, 1, y1 - y0)
    x = np.ceil(points[edge, 0] + (y - y0[edge]) * slope[edge] - 1e-9).astype(np.int64)
    within = (y >= 0) & (y < height)
    places, times = np.unique(y[within] * (width + 1) + x[within].clip(0, width), return_counts=True)
    changes = np.zeros((height, width + 1), np.uint8)
    changes.reshape(-1)[places] = times % 2
    mask: Bool[np.ndarray, "_ _"] = np.bitwise_xor.accumulate(changes[:, :width], axis=1).view(bool)
    line_x, line_y = _outline(points, ends)
    shown = (line_x >= 0) & (line_x < width) & (line_y >= 0) & (line_y < height)
    mask[line_y[shown], line_x[shown]] = True
    return mask, top, left


def _outline(
    starts: Int[np.ndarray, "edges 2"], ends: Int[np.ndarray, "edges 2"]
) -> tuple[Int[np.ndarray, " pixels"], Int[np.ndarray, " pixels"]]:
    """Return (x, y) of the pixels on the edges."""
    steps = np.abs(ends - starts).max(axis=1)
    edge = np.repeat(np.arange(len(starts)), steps + 1)
    share = _counted(steps + 1) / np.maximum(steps, 1)[edge]
    pixels = np.floor(starts[edge] + (ends - starts)[edge] * share[:, None] + 0.5).astype(np.int64)
    return pixels[:, 0], pixels[:, 1]


def _counted(counts: Int[np.ndarray, " n"]) -> Int[np.ndarray, " total"]:
    """Return 0, 1, ... up to each of the counts, one after the other."""
    ends = np.cumsum(counts)
    counted: Int[np.ndarray, " total"] = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(
        ends - counts, counts
    )
    return counted
