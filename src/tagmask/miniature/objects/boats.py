"""Boats of the miniature world."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Part,
    box,
    closed_curve,
    disc,
    ellipse,
    mixed,
    moved,
    rounded_box,
    shape,
    stroke,
)
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import (
    INK,
    PAPER,
    framed,
    pick,
    pick_apart,
    shade,
    tint,
    within,
)

__all__ = ["CLASSES"]

# fmt: off
# Corners stay side by side: one to a line would hide the drawings.

_GLASS: tuple[Colour, ...] = ((176, 222, 240), (150, 200, 226), (204, 232, 238))
_RUBBER: Colour = (44, 44, 52)
_BRAKE: Colour = (226, 60, 50)
_SAILS: tuple[Colour, ...] = (PAPER, (244, 226, 190), (196, 214, 232))
_HULLS: tuple[Colour, ...] = ((126, 80, 50), (60, 70, 100), (180, 60, 52), (240, 236, 226))


def _boat_sailing(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    cloth, x, boom = pick_apart(rng, _SAILS, colour), u(-0.12, 0.02), u(0.26, 0.34)
    hull = closed_curve(
        [(-0.95, 0.42), (0.0, 0.46), (0.95, 0.36), (0.74, 0.7), (0.5, 0.84), (-0.56, 0.84), (-0.78, 0.7)], 4
    )
    main = closed_curve(
        [(x + 0.06, -0.9), (x + 0.5, -0.3), (x + 0.76, boom), (x + 0.4, boom + 0.02), (x + 0.06, boom)], 4
    )
    jib = closed_curve(
        [(x - 0.06, -0.72), (x - 0.08, boom), (x - 0.4, boom + 0.02), (x - 0.72, boom), (x - 0.36, -0.2)], 4
    )
    flag = shape((x, -0.98), (x - 0.24, -0.91), (x, -0.84))
    parts = [
        Part(box(x - 0.03, -0.98, x + 0.03, 0.5), (120, 84, 58)),
        Part(flag, pick_apart(rng, _HULLS, colour)),
        Part(main, colour),
        Part(within(main, y0=u(-0.2, -0.05), y1=0.08), shade(colour, 0.18)),
        Part(jib, cloth),
        Part(hull, colour),
        Part(within(hull, y0=0.68), shade(colour, 0.3)),
        Part(within(hull, y1=0.5), tint(colour, 0.5)),
    ]
    return framed(parts)


def _portholes(rng: np.random.Generator, x0: float, x1: float, y: float, r: float) -> list[Part]:
    parts = []
    for x in np.linspace(x0, x1, int(rng.integers(3, 5))):
        parts += [Part(disc(float(x), y, r, 14), PAPER), Part(disc(float(x), y, 0.7 * r, 12), (70, 110, 150))]
    return parts


def _boat_steamer(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    deck = pick_apart(rng, (PAPER, (236, 222, 196), (176, 190, 206)), colour)
    hull = shape(
        (-0.95, 0.1), (-0.7, 0.16), (0.8, 0.16), (0.96, 0.06), (0.8, 0.7), (-0.72, 0.7), (-0.82, 0.5)
    )
    funnel, top = pick_apart(rng, _HULLS, deck), u(-0.72, -0.6)
    parts = []
    for x in (-0.3, 0.04, 0.38)[: int(rng.integers(2, 4))]:
        parts.append(Part(shape((x - 0.02, top), (x + 0.2, top), (x + 0.22, -0.2), (x, -0.2)), funnel))
        parts.append(Part(box(x - 0.03, top - 0.02, x + 0.21, top + 0.1), INK))
    parts += [
        Part(box(-0.5, -0.3, 0.62, -0.06), deck),
        Part(box(-0.66, -0.08, 0.74, 0.18), shade(deck, 0.1)),
        Part(box(-0.42, -0.22, 0.52, -0.14), (80, 120, 160)),
        Part(box(-0.56, -0.0, 0.62, 0.06), (80, 120, 160)),
        Part(hull, colour),
        Part(within(hull, y0=0.54), shade(colour, 0.4)),
        Part(within(hull, y0=0.2, y1=0.24), tint(colour, 0.6)),
        *_portholes(rng, -0.52, 0.56, 0.38, 0.075),
    ]
    return framed(parts)


def _boat_tug(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    house, top, x = pick_apart(rng, _SAILS, colour), u(-0.5, -0.38), u(-0.1, 0.06)
    hull = closed_curve([
        (-0.95, -0.02), (-0.5, 0.2), (0.2, 0.24), (0.86, 0.16), (0.94, 0.3), (0.78, 0.76), (0.0, 0.8),
        (-0.62, 0.76),
    ], 4)
    parts = [
        Part(
            shape((x + 0.4, -0.6), (x + 0.64, -0.6), (x + 0.66, 0.2), (x + 0.38, 0.2)),
            INK if sum(colour) > 150 else (150, 60, 50),
        ),
        Part(box(x + 0.4, -0.48, x + 0.65, -0.36), colour),
        Part(box(x - 0.36, top, x + 0.3, 0.26), house),
        Part(rounded_box(x - 0.46, top - 0.1, x + 0.38, top + 0.02, 0.05), shade(colour, 0.2)),
        Part(rounded_box(x - 0.28, top + 0.12, x - 0.06, top + 0.34, 0.04), (90, 150, 190)),
        Part(rounded_box(x + 0.02, top + 0.12, x + 0.22, top + 0.34, 0.04), (90, 150, 190)),
        Part(hull, colour),
        Part(within(hull, y0=0.6), shade(colour, 0.35)),
        Part(within(hull, y1=0.3, x0=-0.6), tint(colour, 0.4)),
    ]
    for at in (-0.4, 0.0, 0.4):
        parts.append(Part(disc(at, 0.44, 0.11, 16), _RUBBER))
        parts.append(Part(disc(at, 0.44, 0.05, 10), mixed(colour, PAPER, 0.4)))
    return framed(parts)


def _boat_speed(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    rise, glass = u(-0.34, -0.24), pick(rng, _GLASS)
    hull = closed_curve([
        (-0.98, -0.06), (-0.4, 0.04), (0.3, 0.06), (0.86, 0.06), (0.9, 0.3), (0.8, 0.46), (0.0, 0.48),
        (-0.54, 0.38),
    ], 5)
    cabin = shape((-0.4, 0.06), (-0.06, rise), (0.46, rise), (0.6, rise + 0.06), (0.7, 0.08))
    parts = [
        Part(box(0.3, rise - 0.28, 0.34, rise), (120, 124, 132)),
        Part(
            shape((0.34, rise - 0.28), (0.6, rise - 0.21), (0.34, rise - 0.13)),
            pick_apart(rng, _HULLS, colour),
        ),
        Part(cabin, tint(colour, 0.2)),
        Part(shape((-0.22, 0.02), (0.0, rise + 0.08), (0.14, rise + 0.08), (0.14, 0.02)), glass),
        Part(shape((0.2, 0.02), (0.2, rise + 0.08), (0.42, rise + 0.08), (0.5, 0.02)), shade(glass, 0.15)),
        Part(rounded_box(0.84, -0.06, 0.98, 0.36, 0.04), INK if sum(colour) > 150 else (130, 134, 142)),
        Part(hull, colour),
        Part(within(hull, y0=0.39), shade(colour, 0.35)),
        Part(stroke([(-0.8, 0.06), (-0.2, 0.2), (0.88, 0.2)], u(0.05, 0.07)), tint(colour, 0.75)),
        Part(
            closed_curve(
                [(-0.7, 0.52), (-0.3, 0.42), (0.2, 0.47), (0.6, 0.43), (0.95, 0.54), (0.4, 0.6), (-0.3, 0.6)],
                4,
            ),
            (214, 236, 246),
        ),
    ]
    return framed(parts)


def _boat_rowing(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    oar, wood, low = (190, 140, 90), pick_apart(rng, ((150, 104, 66), (214, 176, 126)), colour), u(0.52, 0.6)
    hull = closed_curve([
        (-0.96, -0.16), (-0.56, 0.02), (0.0, 0.06), (0.56, 0.02), (0.96, -0.16), (0.84, 0.24),
        (0.56, low), (-0.56, low), (-0.84, 0.24),
    ])
    blade = [(0.0, 0.0), (0.1, 0.14), (0.08, 0.4), (0.0, 0.48), (-0.08, 0.4), (-0.1, 0.14)]
    paddle = closed_curve(blade, 3)
    x = u(-0.4, -0.3)
    parts = [
        Part(ellipse(0.0, 0.0, 0.8, 0.14), shade(wood, 0.3)),
        Part(box(-0.5, -0.1, -0.2, -0.03), wood),
        Part(box(0.2, -0.1, 0.5, -0.03), wood),
        Part(hull, colour),
        Part(within(hull, y0=0.3), shade(colour, 0.14)),
        Part(within(hull, y0=0.45), shade(colour, 0.3)),
        Part(
            closed_curve(
                [
                    (-0.96, -0.16), (-0.56, 0.0), (0.0, 0.04), (0.56, 0.0), (0.96, -0.16), (0.56, 0.1),
                    (0.0, 0.14), (-0.56, 0.1),
                ]
            ),
            tint(colour, 0.5),
        ),
    ]
    for side in (1.0, -1.0):
        parts.append(Part(stroke([(side * x * 0.5, -0.5), (side * (x - 0.26), 0.42)], 0.055), oar))
        parts.append(Part(moved(paddle, side * (x - 0.24), 0.32, 1.1 * side, 1.0), shade(oar, 0.18)))
    return framed(parts)


def _boat_galleon(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    wood, swell = pick_apart(rng, ((128, 82, 50), (96, 64, 46), (176, 126, 78)), colour), u(0.08, 0.16)
    hull = closed_curve([
        (-0.95, 0.06), (-0.62, 0.3), (0.3, 0.32), (0.5, 0.14), (0.9, 0.08), (0.8, 0.6), (0.5, 0.82),
        (-0.4, 0.82), (-0.74, 0.6),
    ], 4)
    sail = closed_curve([
        (-0.3, 0.0), (0.0, 0.02), (0.3, 0.0), (0.3 + swell, 0.26), (0.36, 0.5), (0.0, 0.44),
        (-0.36, 0.5), (-0.3 - swell, 0.26),
    ], 4)
    parts = []
    for x, top, zoom in ((-0.36, -0.7, u(0.9, 1.0)), (0.42, -0.6, u(0.75, 0.9))):
        parts.append(Part(box(x - 0.03, top - 0.24, x + 0.03, 0.36), shade(wood, 0.3)))
        parts.append(
            Part(
                shape((x, top - 0.24), (x + 0.22, top - 0.17), (x, top - 0.1)),
                INK if sum(colour) > 150 else _BRAKE,
            )
        )
        for y in (top, top + 0.48 * zoom):
            parts.append(
                Part(moved(sail, x, y, zoom, 0.9 * zoom), colour if y == top else shade(colour, 0.12))
            )
    parts += [
        Part(hull, wood),
        Part(within(hull, y0=0.62), shade(wood, 0.25)),
        Part(within(hull, y0=0.42, y1=0.48), colour),
    ]
    for x in (-0.4, 0.0, 0.4):
        parts.append(Part(box(x - 0.05, 0.51, x + 0.05, 0.6), shade(wood, 0.5)))
    return framed(parts)


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(
        "boat",
        (_boat_sailing, _boat_steamer, _boat_tug, _boat_speed, _boat_rowing, _boat_galleon),
        synonyms=("ship",),
        tilt=0.04,
    ),
)
