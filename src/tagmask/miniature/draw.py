"""Rasterise shapes with antialiasing: the drawing functions of the miniature data set.

A drawing is a list of parts, painted in order, in unit coordinates: x to the right, y down, the object inside
-1..1. A part without colour cuts a hole through everything below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

__all__ = [
    "Colour",
    "Outline",
    "Part",
    "Stamp",
    "arc",
    "box",
    "closed_curve",
    "darker",
    "disc",
    "ellipse",
    "hole",
    "lighter",
    "mixed",
    "moved",
    "rasterise",
    "ring_sector",
    "rounded_box",
    "shape",
    "stroke",
    "turned",
]

Colour = tuple[int, int, int]
Outline = Float64[ndarray, "_ 2"]
"""Corners of a closed polygon, (x, y) each."""

_FINE = 3
"""Each pixel is the mean of 3 x 3 samples."""


@dataclass(frozen=True, eq=False)
class Part:
    """One filled polygon of a drawing."""

    outline: Outline
    colour: Colour | None
    """None cuts a hole."""


# -- Outlines ------------------------------------------------------------------------------------------------


def ellipse(x: float, y: float, rx: float, ry: float, corners: int = 28) -> Outline:
    """A whole ellipse about (x, y)."""
    return arc(x, y, rx, ry, 0.0, 1.0, corners)[:-1]


def disc(x: float, y: float, r: float, corners: int = 28) -> Outline:
    """A circle about (x, y)."""
    return ellipse(x, y, r, r, corners)


def arc(x: float, y: float, rx: float, ry: float, start: float, stop: float, corners: int = 16) -> Outline:
    """Points on an ellipse from `start` to `stop`, in turns clockwise from the right (0.25 is down)."""
    t = np.linspace(start, stop, corners + 1) * 2 * np.pi
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def ring_sector(
    x: float, y: float, inner: float, outer: float, start: float, stop: float, corners: int = 16
) -> Outline:
    """A band between two radii, from `start` to `stop` (turns)."""
    there = arc(x, y, outer, outer, start, stop, corners)
    back = arc(x, y, inner, inner, stop, start, corners)
    return np.concatenate([there, back])


def box(x0: float, y0: float, x1: float, y1: float) -> Outline:
    """An upright rectangle."""
    return shape((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def rounded_box(x0: float, y0: float, x1: float, y1: float, r: float) -> Outline:
    """An upright rectangle with round corners of radius r."""
    corners = [
        arc(x1 - r, y1 - r, r, r, 0.0, 0.25, 4),
        arc(x0 + r, y1 - r, r, r, 0.25, 0.5, 4),
        arc(x0 + r, y0 + r, r, r, 0.5, 0.75, 4),
        arc(x1 - r, y0 + r, r, r, 0.75, 1.0, 4),
    ]
    return np.concatenate(corners)


def shape(*points: tuple[float, float]) -> Outline:
    """A polygon by its corners."""
    return np.array(points, dtype=np.float64)


def closed_curve(points: Sequence[tuple[float, float]] | Outline, steps: int = 5) -> Outline:
    """A smooth closed outline through the points (Catmull-Rom), `steps` corners for each."""
    p1 = np.asarray(points, dtype=np.float64)
    p0, p2, p3 = (np.concatenate([p1[k:], p1[:k]]) for k in (-1, 1, 2))
    t = (np.arange(steps) / steps)[None, :, None]
    a, b, c, d = (p[:, None] for p in (p0, p1, p2, p3))
    out = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve: Outline = out.reshape(-1, 2)
    return curve


def stroke(points: Sequence[tuple[float, float]] | Outline, width: float) -> Outline:
    """A line of even width along an open path, with flat ends."""
    path = np.asarray(points, dtype=np.float64)
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * width / 2
    return np.concatenate([path + across, (path - across)[::-1]])


def turned(outline: Outline, turns: float, about: tuple[float, float] = (0.0, 0.0)) -> Outline:
    """Rotate clockwise in the image; 1 is a full turn."""
    c, s = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    rotated: Outline = (outline - about) @ np.array([[c, s], [-s, c]]) + about
    return rotated


def moved(outline: Outline, dx: float, dy: float, zoom_x: float = 1.0, zoom_y: float = 1.0) -> Outline:
    """Scale about the origin, then shift."""
    return outline * (zoom_x, zoom_y) + (dx, dy)


def hole(outline: Outline) -> Part:
    """A part that cuts through everything painted before it."""
    return Part(outline, None)


# -- Colours -------------------------------------------------------------------------------------------------


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` (0..1) of `b`."""
    r, g, bl = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return r, g, bl


def darker(colour: Colour, share: float = 0.3) -> Colour:
    """Towards black."""
    return mixed(colour, (0, 0, 0), share)


def lighter(colour: Colour, share: float = 0.3) -> Colour:
    """Towards white."""
    return mixed(colour, (255, 255, 255), share)


# -- Images --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stamp:
    """A painted object and its position in the image."""

    pixels: UInt8[ndarray, "h w 4"]
    """RGBA; all 0 where nothing is painted."""
    top: int
    left: int


def rasterise(
    parts: Sequence[Part],
    radius: int | float,
    *,
    centre: tuple[float, float] = (0.0, 0.0),
    turns: float = 0.0,
    flip: bool = False,
    squeeze: float = 1.0,
) -> Stamp:
    """Paint a drawing on the smallest transparent rectangle that contains it, antialiased.

    Args:
        parts: in the order they are painted.
        radius: pixels per unit.
        centre: (x, y) of the drawing's origin, in image pixels.
        turns: rotation of the drawing, clockwise, in turns.
        flip: mirror left and right before rotating.
        squeeze: additional horizontal scale.
    """
    ends = np.cumsum([len(part.outline) for part in parts])
    points = np.concatenate([part.outline for part in parts])
    points = turned(points * (-squeeze if flip else squeeze, 1.0), turns) * radius + centre
    left, top = (int(v) for v in np.floor(points.min(axis=0)))
    right, bottom = (int(v) + 1 for v in np.ceil(points.max(axis=0)))
    canvas = Image.new("RGBA", ((right - left) * _FINE, (bottom - top) * _FINE))
    brush = ImageDraw.Draw(canvas)
    points = (points - (left, top)) * _FINE
    for part, outline in zip(parts, np.split(points, ends[:-1]), strict=True):
        fill = (0, 0, 0, 0) if part.colour is None else (*part.colour, 255)
        brush.polygon(outline.ravel().tolist(), fill=fill)
    # Pillow weights colours by alpha here, so transparent black does not bleed into the outline.
    return Stamp(np.asarray(canvas.reduce(_FINE)), top, left)
