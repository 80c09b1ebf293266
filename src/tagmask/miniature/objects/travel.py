"""Airplanes and rockets, and the classes of vehicles and shelters."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Part,
    arc,
    box,
    closed_curve,
    disc,
    ellipse,
    moved,
    rounded_box,
    shape,
    stroke,
    turned,
)
from tagmask.miniature.objects import boats, cars, shelter
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import (
    INK,
    PAPER,
    accent,
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

_WINDOWS: tuple[Colour, ...] = ((70, 120, 170), (120, 190, 226), (50, 80, 120))
_METAL: Colour = (168, 174, 184)
_TRIMS: tuple[Colour, ...] = ((220, 60, 52), (250, 248, 242), (64, 110, 190), (246, 180, 50), (60, 62, 74))
_FLAMES: tuple[Colour, ...] = ((248, 130, 40), (240, 96, 50), (250, 160, 50))


# -- Airplanes, facing left ----------------------------------------------------------------------------------


def _airplane_liner(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    h, fin, lean, glass = u(0.19, 0.24), u(0.5, 0.62), u(-0.01, 0.04), pick(rng, _WINDOWS)
    body = closed_curve([
        (-0.96, 0.05), (-0.84, -0.6 * h), (-0.6, -h), (0.0, -h), (0.6, -0.9 * h), (0.97, -0.8 * h),
        (0.9, -0.1), (0.5, 0.7 * h), (0.0, h), (-0.6, h), (-0.88, 0.7 * h),
    ], 4)
    sweep = u(0.42, 0.56)
    wing = shape((-0.26, 0.06), (0.16, 0.06), (sweep + 0.08, 0.62), (sweep - 0.12, 0.62))
    far = shape((-0.2, -0.12), (0.14, -0.12), (0.4, -0.48), (0.26, -0.48))
    tail = shape((0.5, -0.1), (0.78, -fin), (0.98, -fin), (0.92, -0.04))
    parts = [
        Part(far, shade(colour, 0.4)),
        Part(tail, shade(colour, 0.2)),
        Part(
            shape((0.62, -fin + 0.26), (0.72, -fin + 0.1), (0.97, -fin + 0.1), (0.955, -fin + 0.26)),
            tint(colour, 0.6),
        ),
        Part(body, colour),
        Part(within(body, y0=0.35 * h), tint(colour, 0.6)),
        Part(closed_curve([(-0.88, -0.06), (-0.8, -0.72 * h), (-0.66, -0.75 * h), (-0.68, -0.05)], 3), glass),
    ]
    for x in np.linspace(-0.48, 0.52, int(rng.integers(5, 8))):
        parts.append(Part(rounded_box(float(x) - 0.035, -0.1, float(x) + 0.035, 0.01, 0.03), glass))
    parts += [
        Part(rounded_box(-0.12, 0.24, 0.2, 0.4, 0.075), _METAL),
        Part(wing, shade(colour, 0.25)),
        Part(shape((0.66, -0.02), (0.9, -0.02), (1.0, 0.2), (0.9, 0.2)), shade(colour, 0.3)),
    ]
    return framed([Part(turned(p.outline, lean), p.colour) for p in parts])


def _airplane_above(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    tip, w, lean, glass = u(0.16, 0.34), u(0.13, 0.17), u(-0.16, -0.06), pick(rng, _WINDOWS)
    body = closed_curve([
        (0.0, -0.97), (0.8 * w, -0.8), (w, -0.4), (w, 0.3), (0.5 * w, 0.86), (0.0, 0.95),
        (-0.5 * w, 0.86), (-w, 0.3), (-w, -0.4), (-0.8 * w, -0.8),
    ], 4)
    wing = shape((0.05, -0.32), (0.95, tip), (0.95, tip + 0.15), (0.05, 0.2))
    tail = shape((0.03, 0.58), (0.4, 0.8), (0.4, 0.92), (0.03, 0.86))
    engine = rounded_box(0.4, tip - 0.34, 0.52, tip - 0.06, 0.055)
    trim = tint(colour, 0.55)
    parts = []
    for side in (1.0, -1.0):
        parts += [
            Part(engine * (side, 1.0), _METAL),
            Part(wing * (side, 1.0), colour if side < 0 else shade(colour, 0.16)),
            Part(within(wing, x0=0.8) * (side, 1.0), trim),
            Part(tail * (side, 1.0), colour if side < 0 else shade(colour, 0.16)),
        ]
    parts += [
        Part(body, tint(colour, 0.2)),
        Part(within(body, x0=0.0), shade(colour, 0.06)),
        Part(
            closed_curve(
                [(-0.6 * w, -0.74), (0.0, -0.84), (0.6 * w, -0.74), (0.55 * w, -0.66), (-0.55 * w, -0.66)], 3
            ),
            glass,
        ),
        Part(shape((-0.03, 0.56), (0.03, 0.56), (0.02, 0.97), (-0.02, 0.97)), accent(colour)),
    ]
    return framed([Part(turned(p.outline, lean), p.colour) for p in parts])


def _airplane_propeller(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    glass, trim, fin = pick(rng, _WINDOWS[:2]), pick_apart(rng, _TRIMS, colour), u(0.42, 0.54)
    body = closed_curve([
        (-0.84, 0.06), (-0.8, -0.16), (-0.5, -0.22), (0.0, -0.2), (0.9, -0.14), (0.92, 0.0), (0.3, 0.24),
        (-0.4, 0.32), (-0.8, 0.24),
    ], 4)
    blade = u(0.36, 0.46)
    parts = [
        Part(stroke([(-0.34, 0.24), (-0.42, 0.52)], 0.07), _METAL),
        Part(disc(-0.42, 0.54, 0.13, 18), INK),
        Part(disc(-0.42, 0.54, 0.055, 10), PAPER),
        Part(closed_curve([(-0.4, -0.16), (-0.26, -0.46), (0.06, -0.46), (0.24, -0.14)], 4), glass),
        Part(stroke([(-0.1, -0.48), (-0.1, -0.14)], 0.04), shade(colour, 0.3)),
        Part(closed_curve([(0.6, -0.08), (0.72, -fin), (0.94, -fin), (0.98, -0.02)], 4), colour),
        Part(body, colour),
        Part(within(body, y0=0.1), shade(colour, 0.2)),
        Part(within(body, x1=-0.66), trim),
        Part(closed_curve([(-0.36, 0.04), (0.22, 0.0), (0.42, 0.1), (0.34, 0.18), (-0.3, 0.18)], 4), trim),
        Part(rounded_box(0.62, -0.1, 0.99, -0.02, 0.035), trim),
        Part(ellipse(-0.92, 0.04, 0.045, blade, 16), (96, 98, 108)),
        Part(ellipse(-0.92, 0.04, 0.09, 0.08, 14), shade(trim, 0.3)),
    ]
    return framed(parts)


def _airplane_fighter(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    span, lean, mark = u(0.66, 0.8), u(0.06, 0.15), pick_apart(rng, _TRIMS, colour)
    body = closed_curve([
        (0.0, -0.98), (0.09, -0.66), (0.16, -0.2), (0.17, 0.7), (0.1, 0.86), (-0.1, 0.86), (-0.17, 0.7),
        (-0.16, -0.2), (-0.09, -0.66),
    ], 4)
    wing = shape((0.08, -0.3), (span, 0.4), (span, 0.56), (0.1, 0.54))
    tail = shape((0.1, 0.5), (0.42, 0.78), (0.42, 0.9), (0.1, 0.84))
    flame = pick(rng, _FLAMES)
    parts = [Part(closed_curve([(-0.09, 0.82), (0.09, 0.82), (0.0, u(0.98, 1.12))], 4), flame)]
    for side in (1.0, -1.0):
        parts += [
            Part(wing * (side, 1.0), colour),
            Part(tail * (side, 1.0), shade(colour, 0.25)),
            Part(disc(0.42 * side, 0.34, 0.1, 16), mark),
            Part(disc(0.42 * side, 0.34, 0.045, 10), PAPER if mark != PAPER else INK),
        ]
    parts += [
        Part(body, shade(colour, 0.06)),
        Part(within(body, x1=-0.04), tint(colour, 0.2)),
        Part(
            closed_curve([(0.0, -0.66), (0.08, -0.46), (0.06, -0.24), (-0.06, -0.24), (-0.08, -0.46)], 4),
            pick(rng, _WINDOWS),
        ),
        Part(shape((-0.03, 0.3), (0.03, 0.3), (0.03, 0.9), (-0.03, 0.9)), accent(colour)),
    ]
    return framed([Part(turned(p.outline, lean), p.colour) for p in parts])


def _airplane_biplane(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    trim, wood = pick_apart(rng, _TRIMS, colour), (150, 104, 64)
    body = closed_curve([
        (-0.82, 0.1), (-0.78, -0.12), (-0.4, -0.18), (0.1, -0.14), (0.92, -0.1), (0.94, 0.02),
        (0.2, 0.24), (-0.4, 0.3), (-0.78, 0.26),
    ], 4)
    upper, stagger = u(-0.56, -0.46), u(-0.06, 0.02)
    parts = [
        Part(stroke([(-0.4, 0.3), (-0.44, 0.58)], 0.06), wood),
        Part(disc(-0.44, 0.6, 0.14, 18), INK),
        Part(disc(-0.44, 0.6, 0.06, 10), trim),
        Part(stroke([(-0.5 + stagger, upper), (-0.42, 0.3)], 0.05), wood),
        Part(stroke([(0.0 + stagger, upper), (0.08, 0.3)], 0.05), wood),
        Part(disc(0.2, -0.2, 0.11, 16), (232, 184, 140)),
        Part(within(disc(0.2, -0.22, 0.12, 16), y1=-0.2), (110, 74, 50)),
        Part(closed_curve([(0.62, -0.06), (0.72, -0.42), (0.9, -0.44), (0.98, -0.04)], 4), colour),
        Part(body, colour),
        Part(within(body, y0=0.08), shade(colour, 0.18)),
        Part(within(body, x1=-0.68), shade(colour, 0.45)),
        Part(
            rounded_box(-0.68 + stagger, upper - 0.08, 0.2 + stagger, upper + 0.06, 0.06), shade(colour, 0.08)
        ),
        Part(rounded_box(-0.6, 0.24, 0.26, 0.36, 0.055), shade(colour, 0.28)),
        Part(disc(0.46, 0.02, 0.1, 16), trim),
        Part(disc(0.46, 0.02, 0.05, 10), colour),
        Part(rounded_box(0.66, -0.08, 1.0, -0.01, 0.03), trim),
        Part(ellipse(-0.9, 0.06, 0.045, u(0.36, 0.44), 16), wood),
        Part(disc(-0.9, 0.06, 0.08, 12), trim),
    ]
    return framed(parts)


# -- Rockets -------------------------------------------------------------------------------------------------


def _flame(rng: np.random.Generator, x: float, top: float, w: float, long: float) -> list[Part]:
    tip = top + long * rng.uniform(0.85, 1.15)
    outer = closed_curve([
        (x - w, top), (x + w, top), (x + 0.8 * w, (top + tip) / 2), (x, tip),
        (x - 0.8 * w, (top + tip) / 2),
    ], 4)
    return [
        Part(outer, pick(rng, _FLAMES)),
        Part(moved(outer, 0.45 * x, 0.4 * top, 0.55, 0.6), (255, 226, 110)),
    ]


def _porthole(x: float, y: float, r: float, rim: Colour, glass: Colour) -> list[Part]:
    return [
        Part(disc(x, y, r, 20), rim),
        Part(disc(x, y, 0.72 * r, 18), glass),
        Part(ellipse(x - 0.24 * r, y - 0.28 * r, 0.22 * r, 0.16 * r, 10), PAPER),
    ]


def _rocket_classic(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, trim, glass = u(0.34, 0.41), pick_apart(rng, _TRIMS, colour), pick(rng, _WINDOWS)
    body = closed_curve([
        (0.0, -0.98), (0.62 * w, -0.66), (w, -0.15), (0.9 * w, 0.3), (0.6 * w, 0.6), (-0.6 * w, 0.6),
        (-0.9 * w, 0.3), (-w, -0.15), (-0.62 * w, -0.66),
    ])
    fin = closed_curve(
        [(0.75 * w, 0.1), (w + 0.26, 0.42), (w + 0.28, 0.78), (w + 0.06, 0.62), (0.55 * w, 0.56)], 4
    )
    parts = [
        *_flame(rng, 0.0, 0.6, 0.5 * w, 0.38),
        Part(fin, trim),
        Part(mirrored(fin), shade(trim, 0.16)),
        Part(rounded_box(-0.55 * w, 0.54, 0.55 * w, 0.68, 0.04), (96, 98, 110)),
        Part(body, colour),
        Part(within(body, x0=0.5 * w), shade(colour, 0.16)),
        Part(within(body, y1=u(-0.7, -0.6)), trim),
        Part(within(body, y0=0.4, y1=0.47), trim),
        *_porthole(0.0, -0.2, u(0.15, 0.19), shade(trim, 0.25), glass),
        Part(
            shape((-0.045, 0.16), (0.045, 0.16), (0.045, 0.72), (0.0, 0.8), (-0.045, 0.72)), shade(trim, 0.3)
        ),
    ]
    return framed(parts)


def _rocket_launcher(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, b, trim = u(0.24, 0.28), u(0.1, 0.13), pick_apart(rng, _TRIMS, colour)
    body = np.concatenate([arc(0.0, -0.55, w, 0.43, 0.5, 1.0, 14), [(w, 0.6), (-w, 0.6)]])
    x, top = w + b + 0.035, u(-0.1, 0.08)
    side = shape(
        (x, top - 0.22), (x + 0.6 * b, top - 0.1), (x + b, top + 0.06), (x + b, 0.62), (x - b, 0.62),
        (x - b, top + 0.06), (x - 0.6 * b, top - 0.1),
    )
    parts = [
        *_flame(rng, 0.0, 0.66, 0.7 * w, 0.32),
        *_flame(rng, x, 0.66, 0.7 * b, 0.24),
        *_flame(rng, -x, 0.66, 0.7 * b, 0.24),
        Part(shape((-0.5 * w, 0.58), (0.5 * w, 0.58), (0.75 * w, 0.7), (-0.75 * w, 0.7)), (96, 98, 110)),
        Part(body, colour),
        Part(within(body, x0=0.55 * w), shade(colour, 0.15)),
        Part(within(body, y1=-0.62), trim),
        Part(within(body, y0=-0.2, y1=-0.1), trim),
        Part(box(-w - 0.05, 0.3, w + 0.05, 0.38), (96, 98, 110)),
        Part(side, shade(colour, 0.25)),
        Part(mirrored(side), shade(colour, 0.12)),
        Part(within(side, y1=top + 0.06), trim),
        Part(mirrored(within(side, y1=top + 0.06)), trim),
        Part(within(side, y0=0.54), (96, 98, 110)),
        Part(mirrored(within(side, y0=0.54)), (96, 98, 110)),
        *_porthole(0.0, -0.42, 0.1, shade(trim, 0.3), pick(rng, _WINDOWS)),
    ]
    return framed(parts)


def _rocket_tripod(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, trim, y = u(0.27, 0.33), pick_apart(rng, _TRIMS, colour), u(0.0, 0.1)
    body = closed_curve([
        (0.0, -0.86), (0.6 * w, -0.5), (w, 0.0), (0.8 * w, 0.4), (0.4 * w, 0.68), (-0.4 * w, 0.68),
        (-0.8 * w, 0.4), (-w, 0.0), (-0.6 * w, -0.5),
    ])
    spread = u(0.55, 0.68)
    leg = closed_curve([
        (0.8 * w, y + 0.1), (spread - 0.04, 0.4), (spread, 0.95), (spread - 0.1, 0.92),
        (spread - 0.2, 0.62), (0.5 * w, 0.56),
    ], 4)
    parts = [
        Part(stroke([(0.0, -0.98), (0.0, -0.7)], 0.04), _METAL),
        Part(disc(0.0, -0.97, 0.045, 10), trim),
        Part(leg, shade(colour, 0.25)),
        Part(mirrored(leg), shade(colour, 0.12)),
        Part(body, colour),
    ]
    for k, row in enumerate((-0.34, -0.1, 0.14)):
        band = within(body, y0=row, y1=row + 0.24)
        parts.append(Part(within(band, x0=0.0) if k % 2 else within(band, x1=0.0), trim))
    parts += [
        Part(shape((-0.045, y + 0.4), (0.045, y + 0.4), (0.06, 0.95), (-0.06, 0.95)), shade(colour, 0.35)),
        *_porthole(0.0, -0.5, 0.1, shade(trim, 0.25), pick(rng, _WINDOWS)),
    ]
    return framed(parts)


def _rocket_shuttle(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, trim = u(0.19, 0.23), ink(colour)
    tank = pick_apart(rng, ((214, 126, 60), (232, 200, 150), _METAL), colour)
    body = closed_curve(
        [(0.0, -0.8), (0.7 * w, -0.6), (w, -0.3), (w, 0.62), (-w, 0.62), (-w, -0.3), (-0.7 * w, -0.6)], 4
    )
    wing = shape((w - 0.04, -0.2), (w + 0.06, 0.1), (0.64, 0.5), (0.64, 0.64), (w - 0.04, 0.66))
    parts = [
        *_flame(rng, -0.3, 0.62, 0.12, 0.32),
        *_flame(rng, 0.3, 0.62, 0.12, 0.32),
        *_flame(rng, 0.0, 0.62, 0.13, 0.36),
        Part(closed_curve([(0.0, -0.97), (0.3, -0.7), (0.32, 0.5), (-0.32, 0.5), (-0.3, -0.7)], 5), tank),
        Part(wing, shade(colour, 0.14)),
        Part(mirrored(wing), colour),
        Part(stroke([(0.23, 0.14), (0.64, 0.53)], 0.07), trim),
        Part(stroke([(-0.23, 0.14), (-0.64, 0.53)], 0.07), trim),
        Part(body, colour),
        Part(within(body, x0=0.35 * w), shade(colour, 0.14)),
        Part(within(body, y1=-0.64), trim),
        Part(rounded_box(-0.11, -0.54, 0.11, -0.42, 0.05), pick(rng, _WINDOWS)),
        Part(stroke([(0.0, -0.26), (0.0, 0.3)], 0.03), shade(colour, 0.3)),
        Part(shape((-0.04, 0.2), (0.04, 0.2), (0.06, 0.7), (-0.06, 0.7)), shade(colour, 0.4)),
    ]
    return framed(parts)


def _rocket_stubby(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, lean, trim, glass = u(0.38, 0.46), u(0.04, 0.1), pick_apart(rng, _TRIMS, colour), pick(rng, _WINDOWS)
    body = closed_curve([
        (0.0, -0.95), (0.7 * w, -0.6), (w, -0.1), (w, 0.3), (0.74 * w, 0.56), (-0.74 * w, 0.56),
        (-w, 0.3), (-w, -0.1), (-0.7 * w, -0.6),
    ])
    fin = shape((0.9 * w, -0.02), (w + 0.24, 0.3), (w + 0.24, 0.7), (0.7 * w, 0.5))
    parts = [
        *_flame(rng, -0.2, 0.6, 0.13, 0.34),
        *_flame(rng, 0.2, 0.6, 0.13, 0.34),
        Part(fin, shade(colour, 0.35)),
        Part(mirrored(fin), shade(colour, 0.25)),
        Part(shape((-0.34, 0.54), (-0.06, 0.54), (-0.03, 0.66), (-0.37, 0.66)), (96, 98, 110)),
        Part(shape((0.06, 0.54), (0.34, 0.54), (0.37, 0.66), (0.03, 0.66)), (96, 98, 110)),
        Part(body, colour),
        Part(within(body, x1=-0.55 * w), tint(colour, 0.25)),
        Part(within(body, y0=u(-0.62, -0.54), y1=-0.5), trim),
        Part(within(body, y0=0.32, y1=0.4), trim),
        *_porthole(0.0, -0.26, u(0.15, 0.18), trim, glass),
        *_porthole(0.0, 0.12, u(0.1, 0.13), trim, glass),
    ]
    return framed([Part(turned(p.outline, lean), p.colour) for p in parts])


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    *cars.CLASSES,
    *boats.CLASSES,
    ObjectClass(
        "airplane",
        (_airplane_liner, _airplane_above, _airplane_propeller, _airplane_fighter, _airplane_biplane),
        synonyms=("plane",),
        tilt=0.1,
    ),
    ObjectClass(
        "rocket",
        (_rocket_classic, _rocket_launcher, _rocket_tripod, _rocket_shuttle, _rocket_stubby),
        tilt=0.12,
    ),
    *shelter.CLASSES,
)
