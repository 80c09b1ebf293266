"""What a ring encloses, point by point."""

import numpy as np


def filled(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre is inside, by the even-odd rule."""
    inside = np.zeros(size, bool)
    x0, y0 = ring.T
    x1, y1 = np.roll(ring, -1, axis=0).T
    for y in range(size[0]):
        crosses = (y0 <= y + 0.5) != (y1 <= y + 0.5)
        at = x0[crosses] + (y + 0.5 - y0[crosses]) / (y1 - y0)[crosses] * (x1 - x0)[crosses]
        for crossing in at:
            inside[y] ^= np.arange(size[1]) + 0.5 > crossing
    return inside
