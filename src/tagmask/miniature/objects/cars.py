"""Cars of the miniature world, facing left."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Part,
    box,
    closed_curve,
    disc,
    ellipse,
    moved,
    rounded_box,
    shape,
    stroke,
)
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import (
    PAPER,
    framed,
    ink,
    mirrored,
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
_HUBS: tuple[Colour, ...] = ((200, 204, 210), (236, 236, 232), (168, 172, 180))
_LAMP: Colour = (255, 228, 130)
_BRAKE: Colour = (226, 60, 50)


def _wheels(rng: np.random.Generator, xs: tuple[float, float], y: float, r: float) -> list[Part]:
    hub = pick(rng, _HUBS)
    parts = []
    for x in xs:
        parts += [
            Part(disc(x, y, r, 24), _RUBBER),
            Part(disc(x, y, 0.58 * r, 18), hub),
            Part(disc(x, y, 0.2 * r, 10), shade(hub, 0.4)),
        ]
    return parts


def _lamps(front: float, back: float, y: float) -> list[Part]:
    return [
        Part(ellipse(front + 0.07, y, 0.06, 0.07, 14), _LAMP),
        Part(rounded_box(back - 0.1, y - 0.06, back - 0.02, y + 0.06, 0.03), _BRAKE),
    ]


def _car_saloon(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, glass, slope = u(-0.5, -0.42), pick(rng, _GLASS), u(-0.05, 0.05)
    body = closed_curve([
        (-0.95, 0.2), (-0.92, -0.02), (-0.6, -0.1), (-0.3, -0.12), (0.1, -0.14), (0.5, -0.12),
        (0.9, -0.06), (0.96, 0.14), (0.93, 0.34), (0.4, 0.36), (-0.4, 0.36), (-0.92, 0.34),
    ], 4)
    cabin = shape(
        (-0.56, -0.06), (-0.28 + slope, roof + 0.04), (-0.2 + slope, roof), (0.3, roof),
        (0.4, roof + 0.05), (0.68, -0.06),
    )
    front = shape((-0.42, -0.1), (-0.21 + slope, roof + 0.09), (0.02, roof + 0.09), (0.02, -0.1))
    back = shape((0.1, -0.1), (0.1, roof + 0.09), (0.3, roof + 0.09), (0.5, -0.1))
    parts = [
        Part(cabin, colour),
        Part(body, colour),
        Part(within(body, y0=0.2), shade(colour)),
        Part(front, glass),
        Part(back, shade(glass, 0.12)),
        Part(stroke([(0.06, -0.1), (0.06, 0.28)], 0.025), shade(colour, 0.35)),
        Part(box(0.12, 0.0, 0.26, 0.04), ink(colour)),
        *_lamps(-0.93, 0.95, 0.07),
        *_wheels(rng, (-0.54, 0.56), 0.36, u(0.2, 0.24)),
    ]
    return framed(parts)


def _car_van(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, glass, nose = u(-0.6, -0.5), pick(rng, _GLASS), u(0.1, 0.2)
    body = closed_curve([
        (-0.95, 0.36), (-0.95, 0.0), (-0.86 + nose, roof + 0.14), (-0.72 + nose, roof),
        (0.3, roof - 0.02), (0.84, roof), (0.94, roof + 0.12), (0.95, 0.0), (0.95, 0.36), (0.0, 0.38),
    ], 4)
    sill = roof + 0.44
    parts = [
        Part(body, colour),
        Part(within(body, y0=0.18), tint(colour, 0.6) if rng.random() < 0.5 else shade(colour)),
        Part(shape((-0.86, sill), (-0.74 + nose, roof + 0.12), (-0.38, roof + 0.12), (-0.38, sill)), glass),
        Part(stroke([(-0.33, roof + 0.1), (-0.33, 0.3)], 0.025), shade(colour, 0.35)),
        Part(box(-0.28, 0.06, -0.14, 0.1), ink(colour)),
    ]
    count = int(rng.integers(2, 4))
    for k in range(count):
        x, wide = -0.26 + k * 1.14 / count, 1.14 / count - 0.08
        parts.append(Part(rounded_box(x, roof + 0.12, x + wide, sill, 0.05), shade(glass, 0.1)))
    parts += _lamps(-0.95, 0.96, 0.1)
    return framed(parts + _wheels(rng, (-0.52, 0.54), 0.38, u(0.2, 0.24)))


def _car_beetle(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, glass = u(-0.62, -0.52), pick(rng, _GLASS)
    body = closed_curve([
        (-0.9, 0.36), (-0.9, 0.08), (-0.66, -0.1), (-0.42, -0.14), (-0.24, roof + 0.12), (0.08, roof),
        (0.44, roof + 0.12), (0.78, -0.1), (0.92, 0.2), (0.88, 0.36), (0.0, 0.38),
    ])
    arch = disc(0.0, 0.34, 0.34)
    parts = [
        Part(body, colour),
        Part(closed_curve([(-0.3, -0.1), (-0.17, roof + 0.2), (0.04, roof + 0.1), (0.07, -0.1)], 4), glass),
        Part(
            closed_curve([(0.15, -0.1), (0.13, roof + 0.11), (0.36, roof + 0.18), (0.56, -0.1)], 4),
            shade(glass, 0.1),
        ),
        Part(within(moved(arch, -0.54, 0.0), y1=0.38), shade(colour, 0.2)),
        Part(within(moved(arch, 0.56, 0.0), y1=0.38), shade(colour, 0.2)),
        Part(rounded_box(-0.3, 0.3, 0.3, 0.42, 0.05), shade(colour, 0.4)),
        Part(stroke([(0.11, -0.08), (0.11, 0.26)], 0.025), shade(colour, 0.35)),
        Part(box(0.16, 0.02, 0.29, 0.06), ink(colour)),
        Part(disc(-0.84, 0.1, 0.09, 16), _LAMP),
        Part(rounded_box(-0.98, 0.3, -0.74, 0.38, 0.04), (190, 194, 200)),
        Part(rounded_box(0.76, 0.3, 0.98, 0.38, 0.04), (190, 194, 200)),
        *_wheels(rng, (-0.54, 0.56), 0.38, u(0.22, 0.25)),
    ]
    return framed(parts)


def _car_pickup(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, glass, bed = u(-0.54, -0.44), pick(rng, _GLASS), u(0.06, 0.16)
    body = shape(
        (-0.95, 0.34), (-0.95, 0.02), (-0.88, -0.06), (-0.52, -0.1), (-0.34, roof + 0.03), (-0.28, roof),
        (bed - 0.06, roof), (bed, roof + 0.06), (bed, -0.06), (0.92, -0.06), (0.95, -0.02), (0.95, 0.34),
    )
    parts: list[Part] = []
    if rng.random() < 0.6:
        load = pick_apart(rng, ((186, 134, 80), (220, 190, 120), (120, 150, 90)), colour)
        parts.append(Part(rounded_box(0.24, -0.3, 0.54, 0.0, 0.04), load))
        parts.append(Part(rounded_box(0.52, u(-0.24, -0.16), 0.84, 0.0, 0.04), shade(load, 0.2)))
    parts += [
        Part(body, colour),
        Part(within(body, y0=0.2), shade(colour)),
        Part(shape((-0.42, -0.1), (-0.27, roof + 0.09), (bed - 0.1, roof + 0.09), (bed - 0.1, -0.1)), glass),
        Part(
            shape((-0.24, -0.1), (-0.12, roof + 0.09), (-0.04, roof + 0.09), (-0.16, -0.1)), tint(glass, 0.6)
        ),
        Part(stroke([(bed, -0.06), (bed, 0.3)], 0.03), shade(colour, 0.35)),
        Part(box(bed, -0.1, 0.95, -0.03), shade(colour, 0.3)),
        Part(box(bed - 0.2, 0.02, bed - 0.06, 0.06), ink(colour)),
        *_lamps(-0.95, 0.96, 0.08),
        *_wheels(rng, (-0.56, 0.58), 0.36, u(0.22, 0.26)),
    ]
    return framed(parts)


def _car_front(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, glass, w = u(-0.72, -0.6), pick(rng, _GLASS), u(0.78, 0.86)
    cabin = shape(
        (-0.62, 0.0), (-0.46, roof + 0.04), (-0.36, roof), (0.36, roof), (0.46, roof + 0.04), (0.62, 0.0)
    )
    body = rounded_box(-w, -0.1, w, 0.5, 0.16)
    pane = shape((-0.5, -0.08), (-0.39, roof + 0.1), (0.39, roof + 0.1), (0.5, -0.08))
    wheel = rounded_box(-w + 0.03, 0.36, -w + 0.3, 0.72, 0.07)
    mirror = rounded_box(-w - 0.06, -0.22, -w + 0.16, -0.08, 0.06)
    light = disc(-w + 0.2, 0.14, u(0.11, 0.14), 20)
    grille = ink(colour) if sum(colour) > 220 else (150, 155, 165)
    parts = [
        Part(wheel, _RUBBER),
        Part(mirrored(wheel), _RUBBER),
        Part(mirror, shade(colour, 0.2)),
        Part(mirrored(mirror), shade(colour, 0.2)),
        Part(cabin, colour),
        Part(body, colour),
        Part(pane, glass),
        Part(shape((-0.24, -0.08), (-0.1, roof + 0.1), (0.08, roof + 0.1), (-0.06, -0.08)), tint(glass, 0.5)),
        Part(light, PAPER),
        Part(mirrored(light), PAPER),
        Part(moved(light, -0.06, 0.04, 0.7, 0.7), _LAMP),
        Part(mirrored(moved(light, -0.06, 0.04, 0.7, 0.7)), _LAMP),
        Part(rounded_box(-0.34, 0.08, 0.34, 0.24, 0.06), grille),
        Part(rounded_box(-w - 0.02, 0.34, w + 0.02, 0.48, 0.06), shade(colour, 0.3)),
        Part(box(-0.18, 0.35, 0.18, 0.47), PAPER),
    ]
    return framed(parts)


def _car_offroad(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, glass = u(-0.62, -0.54), pick(rng, _GLASS)
    body = shape(
        (-0.92, 0.34), (-0.94, -0.02), (-0.88, -0.1), (-0.46, -0.12), (-0.34, roof + 0.02), (-0.3, roof),
        (0.78, roof), (0.84, roof + 0.06), (0.86, 0.34),
    )
    parts = [
        Part(rounded_box(0.84, -0.24, 0.98, 0.2, 0.06), _RUBBER),
        Part(box(-0.2, roof - 0.1, 0.7, roof - 0.06), (110, 112, 120)),
        Part(box(-0.12, roof - 0.08, -0.04, roof), (110, 112, 120)),
        Part(box(0.54, roof - 0.08, 0.62, roof), (110, 112, 120)),
        Part(body, colour),
        Part(box(-0.95, 0.22, 0.88, 0.36), shade(colour, 0.4)),
        Part(shape((-0.37, -0.12), (-0.26, roof + 0.09), (0.0, roof + 0.09), (0.0, -0.12)), glass),
        Part(box(0.08, roof + 0.09, 0.4, -0.12), shade(glass, 0.1)),
        Part(box(0.48, roof + 0.09, 0.76, -0.12), shade(glass, 0.1)),
        Part(stroke([(0.04, roof + 0.06), (0.04, 0.24)], 0.025), shade(colour, 0.35)),
        Part(stroke([(0.44, roof + 0.06), (0.44, 0.24)], 0.025), shade(colour, 0.35)),
        Part(box(0.1, 0.0, 0.22, 0.04), ink(colour)),
        Part(disc(-0.86, 0.06, 0.08, 14), _LAMP),
        *_wheels(rng, (-0.52, 0.52), 0.38, u(0.24, 0.28)),
    ]
    return framed(parts)


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(
        "car",
        (_car_saloon, _car_van, _car_beetle, _car_pickup, _car_front, _car_offroad),
        synonyms=("automobile",),
        tilt=0.03,
    ),
)
