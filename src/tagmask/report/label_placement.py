"""Where a word can be written on its region."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from tagmask.report.item import Slots, sampled

__all__ = ["places"]

_WIDTH = 340.0
"""Pixels of the screen across which a picture is shown, on a phone or in a column of the sheet."""
_LETTER, _MARGIN, _HEIGHT = 6.4, 12.0, 20.0
"""Of a written word, in pixels of the screen."""
_LEAST = 0.015
"""Share of the picture below which a region goes without a name."""
_CELLS = 120
"""Longest side of the grid on which places are sought."""
_TRIES = 200
"""Places tried for a word, deepest first."""


def places(slots: Slots, names: Mapping[int, str]) -> dict[int, tuple[float, float]]:
    """Choose where each word goes: deep inside its region, clear of the words placed before.

    Args:
        slots: word per pixel.
        names: the words to write.

    Returns:
        Middle of each word that found a place: (x, y) in shares of the picture's width and height.
    """
    grid, _ = sampled(slots, _CELLS)
    h, w = grid.shape
    areas = {slot: int((grid == slot).sum()) for slot in names}
    taken: list[tuple[float, float, float, float]] = []
    found: dict[int, tuple[float, float]] = {}
    # Small regions first: they have the least choice.
    for slot in sorted(names, key=lambda slot: (areas[slot], slot)):
        if areas[slot] < _LEAST * grid.size:
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
            if all(_apart(box, other) for other in taken):
                taken.append(box)
                found[slot] = (x, y)
                break
    return found


def _depth(region: Bool[np.ndarray, "gh gw"]) -> Int[np.ndarray, "gh gw"]:
    """Steps to the nearest cell outside the region or the picture."""
    depth = np.zeros(region.shape, np.int64)
    while region.any():
        depth += region
        padded = np.pad(region, 1)
        region = region & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return depth


def _apart(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
