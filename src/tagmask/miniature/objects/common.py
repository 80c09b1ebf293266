"""Shared by the drawn objects: tones that are visible on any colour, clipping, and a common frame."""

from collections.abc import Sequence

import numpy as np

from tagmask.miniature.draw import Colour, Outline, Part, darker, disc, lighter, mixed

__all__ = [
    "INK",
    "PAPER",
    "accent",
    "eye",
    "framed",
    "ink",
    "lightness",
    "mirrored",
    "pick",
    "pick_apart",
    "shade",
    "tint",
    "within",
]

INK: Colour = (38, 36, 46)
PAPER: Colour = (250, 248, 242)

_CIRCLE = disc(0.0, 0.0, 1.0, 16)


def lightness(colour: Colour) -> float:
    """Perceived brightness of a colour, 0..255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def shade(colour: Colour, share: float = 0.22) -> Colour:
    """A tone for shadows: darker, or slightly lighter if the colour is nearly black."""
    return darker(colour, share) if lightness(colour) > 50 else lighter(colour, 0.6 * share)


def tint(colour: Colour, share: float = 0.3) -> Colour:
    """A tone for lit areas: lighter, or a cool grey if the colour is nearly white."""
    return lighter(colour, share) if lightness(colour) < 225 else mixed(colour, (140, 160, 190), 0.5 * share)


def accent(colour: Colour) -> Colour:
    """A tone of the same hue that stands out from it, for stripes and spots."""
    return darker(colour, 0.48) if lightness(colour) > 95 else lighter(colour, 0.5)


def ink(colour: Colour) -> Colour:
    """A line colour that is visible on the colour."""
    return INK if lightness(colour) > 75 else mixed(colour, PAPER, 0.72)


def pick(rng: np.random.Generator, choices: Sequence[Colour]) -> Colour:
    """Choose one of the colours at random."""
    return choices[int(rng.integers(len(choices)))]


def pick_apart(rng: np.random.Generator, choices: Sequence[Colour], colour: Colour) -> Colour:
    """Choose at random among the colours that differ clearly from `colour`; the most distant if none does."""
    far = [sum(abs(a - b) for a, b in zip(choice, colour, strict=True)) for choice in choices]
    good = [choice for choice, distance in zip(choices, far, strict=True) if distance > 130]
    return pick(rng, good) if good else choices[far.index(max(far))]


def within(
    outline: Outline, *, x0: float = -9.0, y0: float = -9.0, x1: float = 9.0, y1: float = 9.0
) -> Outline:
    """Clip an outline to a rectangle, for bands and half shadows."""
    for axis, limit, sign in ((0, x0, 1.0), (1, y0, 1.0), (0, x1, -1.0), (1, y1, -1.0)):
        if abs(limit) < 9.0:
            outline = _beyond(outline, axis, limit, sign)
    return outline


def _beyond(outline: Outline, axis: int, limit: float, sign: float) -> Outline:
    depth = (outline[:, axis] - limit) * sign
    after, depth_after = np.concatenate([outline[1:], outline[:1]]), np.concatenate([depth[1:], depth[:1]])
    kept = np.flatnonzero(depth >= 0)
    cut = np.flatnonzero((depth >= 0) != (depth_after >= 0))
    share = (depth[cut] / (depth[cut] - depth_after[cut]))[:, None]
    points = np.concatenate([outline[kept], outline[cut] + share * (after[cut] - outline[cut])])
    return points[np.argsort(np.concatenate([kept, cut + 0.5]))] if len(points) else outline[:1]


def mirrored(outline: Outline) -> Outline:
    """Swap left and right."""
    return outline * (-1.0, 1.0)


def eye(x: float, y: float, r: float, shift: float = 0.0) -> list[Part]:
    """A white eye with a pupil that is shifted by `shift` radii to the right, and a glint."""
    return [
        Part(_CIRCLE * (1.18 * r) + (x, y), INK),
        Part(_CIRCLE * r + (x, y), PAPER),
        Part(_CIRCLE * (0.62 * r) + (x + shift * r, y + 0.05 * r), INK),
        Part(_CIRCLE * (0.2 * r) + (x + (shift - 0.2) * r, y - 0.2 * r), PAPER),
    ]


def framed(parts: Sequence[Part]) -> list[Part]:
    """Centre the drawing and scale its longer side to -0.95..0.95."""
    points = np.concatenate([part.outline for part in parts])
    low, high = points.min(axis=0), points.max(axis=0)
    zoom = 2 * 0.95 / max(float((high - low).max()), 1e-9)
    points = (points - (low + high) / 2) * zoom
    framed_parts, start = [], 0
    for part in parts:
        stop = start + len(part.outline)
        framed_parts.append(Part(points[start:stop], part.colour))
        start = stop
    return framed_parts
