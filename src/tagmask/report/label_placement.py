"""Positions of word labels on their regions."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from tagmask.report.item import Slots, subsample

__all__ = ["label_positions"]

_WIDTH = 340.0
"""Assumed width of an image on screen, in pixels: on a phone or in a column of the page."""
_LETTER, _MARGIN, _HEIGHT = 6.4, 12.0, 20.0
"""Width of a letter, horizontal margin and height of a label, in pixels on screen."""
_MIN_SHARE = 0.015
"""Smallest share of the image for which a region gets a label."""
_CELLS = 120
"""Longest side of the grid of candidate positions."""
_TRIES = 200
"""Largest number of positions tried per word, deepest first."""


def label_positions(slots: Slots, names: Mapping[int, str]) -> dict[int, tuple[float, float]]:
    """Place each label deep inside its region, without overlapping earlier labels.

    Args:
        slots: word of each pixel.
        names: the words to place.

    Returns:
        Centre of each label that fits: (x, y) as fractions of the image's width and height.
    """
    grid, _ = subsample(slots, _CELLS)
    h, w = grid.shape
    areas = {slot: int((grid == slot).sum()) for slot in names}
    boxes: list[tuple[float, float, float, float]] = []
    positions: dict[int, tuple[float, float]] = {}
    # Small regions first: they have the fewest candidate positions.
    for slot in sorted(names, key=lambda slot: (areas[slot], slot)):
        if areas[slot] < _MIN_SHARE * grid.size:
            continue
        half_x = (_LETTER * len(names[slot]) + _MARGIN) / _WIDTH / 2
        half_y = _HEIGHT / (_WIDTH * slots.shape[0] / slots.shape[1]) / 2
        if max(half_x, half_y) > 0.4:
            continue
        depth = _depth(grid == slot)
        deepest = np.argsort(-depth, axis=None, kind="stable")[: min(areas[slot], _TRIES)]
        for cell in deepest.tolist():
            x = float(np.clip((cell % w + 0.5) / w, half_x + 0.01, 0.99 - half_x))
            y = float(np.clip((cell // w + 0.5) / h, half_y + 0.01, 0.99 - half_y))
            box = (x - half_x, y - half_y, x + half_x, y + half_y)
            if all(_disjoint(box, other) for other in boxes):
                boxes.append(box)
                positions[slot] = (x, y)
                break
    return positions


def _depth(region: Bool[np.ndarray, "gh gw"]) -> Int[np.ndarray, "gh gw"]:
    """Return each cell's distance, in steps, to the nearest cell outside the region or the image."""
    depth = np.zeros(region.shape, np.int64)
    while region.any():
        depth += region
        padded = np.pad(region, 1)
        region = region & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return depth


def _disjoint(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
