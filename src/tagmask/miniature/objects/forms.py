"""Outlines that many objects of the miniature world share."""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from tagmask.miniature.draw import Outline, closed_curve

__all__ = ["rays", "spiked", "symmetric"]


def symmetric(*right: tuple[float, float], steps: int = 0) -> Outline:
    """An outline from its right half, given from top to bottom; `steps` corners a point make it smooth.

    The first half of its corners is the right half.
    """
    half = np.array(right, dtype=np.float64)
    whole = np.concatenate([half, half[::-1] * (-1.0, 1.0)])
    return closed_curve(whole, steps) if steps else whole


def spiked(x: float, y: float, outer: float, inner: float, points: int) -> Outline:
    """A star with so many points, the first straight up."""
    t = (np.arange(2 * points) / (2 * points) - 0.25) * 2 * np.pi
    r = np.where(np.arange(2 * points) % 2, inner, outer)
    return np.stack([x + r * np.cos(t), y + r * np.sin(t)], axis=1)


def rays(x: float, y: float, radius: float, turns: Float64[ndarray, " rays"], width: float) -> Outline:
    """Thin wedges from a point outwards as one polygon, 0 turns being to the right; `width` is in turns."""
    t = np.stack([turns - width / 2, turns - width / 2, turns + width / 2], axis=1).ravel() * 2 * np.pi
    r = np.tile([0.0, radius, radius], len(turns))
    return np.stack([x + r * np.cos(t), y + r * np.sin(t)], axis=1)
