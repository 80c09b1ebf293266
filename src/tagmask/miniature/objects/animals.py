"""Cats and butterflies of the miniature world."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Outline,
    Part,
    closed_curve,
    disc,
    ellipse,
    mixed,
    moved,
    shape,
    stroke,
    turned,
)
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import (
    INK,
    PAPER,
    accent,
    framed,
    ink,
    mirrored,
    pick_apart,
    shade,
    tint,
    within,
)

__all__ = ["CLASSES"]

# fmt: off
# Corners stay side by side: one to a line would hide the drawings.

_PINK: Colour = (240, 150, 160)
_IRISES: tuple[Colour, ...] = ((130, 200, 80), (240, 196, 60), (100, 180, 220))
_SPOTS: tuple[Colour, ...] = (PAPER, (250, 206, 70), (240, 120, 60), (90, 190, 230), (40, 40, 60))


# -- Cats ----------------------------------------------------------------------------------------------------


def _head(colour: Colour, rng: np.random.Generator, x: float, y: float, r: float) -> list[Part]:
    u = rng.uniform
    pointed, low = u(1.1, 1.28), u(0.34, 0.44)
    ear = closed_curve(
        [(-0.98, 0.0), (-0.93, -0.6), (-0.84, -pointed), (-0.5, -0.9), (-0.1, -0.6), (-0.4, 0.0)], 3
    )
    inner = shape((-0.8, -0.45), (-0.78, -pointed + 0.22), (-0.36, -0.66))
    face = closed_curve([
        (0.0, -0.74), (0.55, -0.66), (0.92, -0.26), (1.0, 0.16), (0.7, 0.6), (0.28, 0.8), (-0.28, 0.8),
        (-0.7, 0.6), (-1.0, 0.16), (-0.92, -0.26), (-0.55, -0.66),
    ])
    brow = shape((-0.07, -0.74), (0.07, -0.74), (0.0, -0.34))
    open_ = u(0.2, 0.26)
    iris = pick_apart(rng, _IRISES, colour)
    lips = [(-0.2, low + 0.14), (-0.1, low + 0.19), (0.0, low + 0.06), (0.1, low + 0.19), (0.2, low + 0.14)]
    shapes: list[tuple[Outline, Colour]] = [
        (ear, colour), (mirrored(ear), colour), (inner, _PINK), (mirrored(inner), _PINK), (face, colour),
        (brow, accent(colour)), (moved(brow, -0.26, 0.02, 1.0, 0.9), accent(colour)),
        (moved(brow, 0.26, 0.02, 1.0, 0.9), accent(colour)),
        (stroke([(-1.3, low - 0.16), (0.0, low + 0.04), (1.3, low - 0.16)], 0.045), ink(colour)),
        (stroke([(-1.26, low + 0.24), (0.0, low + 0.08), (1.26, low + 0.24)], 0.045), ink(colour)),
        (ellipse(0.0, low + 0.08, 0.4, 0.26, 20), mixed(colour, PAPER, 0.72)),
        (shape((-0.13, low - 0.08), (0.13, low - 0.08), (0.0, low + 0.06)), (226, 110, 125)),
        (stroke(lips, 0.05), INK),
    ]
    for side in (-1.0, 1.0):
        shapes += [
            (ellipse(0.44 * side, -0.06, 0.23, open_ + 0.03, 16), INK),
            (ellipse(0.44 * side, -0.06, 0.19, open_, 16), iris),
            (ellipse(0.44 * side, -0.06, 0.09, 0.9 * open_, 12), INK),
            (disc(0.44 * side - 0.05, -0.14, 0.05, 8), PAPER),
        ]
    return [Part(outline * r + (x, y), tone) for outline, tone in shapes]


def _tail(path: list[tuple[float, float]], width: float, colour: Colour, tip: Colour) -> list[Part]:
    """A thick line with a round end."""
    x, y = path[-1]
    return [Part(stroke(path, width), colour), Part(disc(x, y, 0.56 * width, 14), tip)]


def _cat_face(colour: Colour, rng: np.random.Generator) -> list[Part]:
    return framed(_head(colour, rng, 0.0, 0.0, 0.8))


def _cat_sitting(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, paw = u(0.46, 0.54), tint(colour, 0.55)
    body = closed_curve([
        (-0.2, -0.2), (0.2, -0.2), (0.36, 0.3), (w, 0.7), (0.42, 0.95), (-0.42, 0.95), (-w, 0.7),
        (-0.36, 0.3),
    ])
    reach = u(0.72, 0.9)
    tail = closed_curve([
        (0.3, 0.8), (0.62, 0.78), (reach - 0.08, 0.5), (reach - 0.12, 0.24), (reach, 0.12),
        (reach + 0.1, 0.3), (reach + 0.06, 0.66), (0.72, 0.93), (0.3, 0.95),
    ], 4)
    parts = [
        Part(tail, shade(colour)),
        Part(body, colour),
        Part(ellipse(0.0, 0.22, 0.2, 0.3, 18), mixed(colour, PAPER, 0.6)),
        Part(stroke([(0.0, 0.5), (0.0, 0.92)], 0.04), accent(colour)),
        Part(stroke([(-0.25, 0.5), (-0.24, 0.9)], 0.035), shade(colour, 0.35)),
        Part(stroke([(0.25, 0.5), (0.24, 0.9)], 0.035), shade(colour, 0.35)),
        Part(ellipse(-0.14, 0.9, 0.15, 0.08, 14), paw),
        Part(ellipse(0.14, 0.9, 0.15, 0.08, 14), paw),
    ]
    return framed(parts + _head(colour, rng, u(-0.04, 0.04), -0.36, u(0.46, 0.52)))


def _cat_profile(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    curl, paw = u(-0.06, 0.06), tint(colour, 0.55)
    body = closed_curve([
        (-0.4, -0.3), (0.02, -0.3), (0.4, 0.1), (0.56, 0.6), (0.4, 0.93), (-0.1, 0.94), (-0.42, 0.92),
        (-0.36, 0.4), (-0.48, 0.05),
    ])
    tail = [
        (0.3, 0.86), (0.62, 0.86), (0.82, 0.68), (0.8, 0.42 + curl), (0.64, 0.26 + curl), (0.7, 0.08 + curl),
    ]
    parts = [
        *_tail(tail, u(0.14, 0.18), shade(colour), accent(colour)),
        Part(body, colour),
        Part(ellipse(0.22, 0.66, 0.3, 0.28), shade(colour, 0.14)),
        Part(ellipse(0.23, 0.66, 0.26, 0.24), colour),
        Part(
            closed_curve([(-0.44, -0.02), (-0.24, 0.0), (-0.2, 0.3), (-0.36, 0.42), (-0.46, 0.2)], 4),
            mixed(colour, PAPER, 0.6),
        ),
        Part(stroke([(-0.14, 0.42), (-0.16, 0.9)], 0.04), shade(colour, 0.35)),
        Part(ellipse(-0.34, 0.9, 0.18, 0.08, 14), paw),
        Part(ellipse(0.16, 0.91, 0.24, 0.07, 14), paw),
    ]
    for y in (0.02, 0.2):
        parts.append(
            Part(
                shape((0.24 + 0.6 * y, y - 0.1), (0.1 + 0.5 * y, y + 0.1), (0.3 + 0.6 * y, y + 0.02)),
                accent(colour),
            )
        )
    return framed(parts + _head(colour, rng, -0.26, -0.42, u(0.46, 0.52)))


def _cat_lying(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    arch = u(-0.36, -0.24)
    body = closed_curve([
        (-0.7, 0.1), (-0.3, arch + 0.1), (0.2, arch), (0.66, -0.1), (0.86, 0.3), (0.66, 0.55),
        (-0.62, 0.56), (-0.86, 0.4),
    ])
    tail = closed_curve(
        [(0.86, 0.2), (0.98, 0.44), (0.8, 0.66), (0.3, 0.68), (0.1, 0.6), (0.3, 0.5), (0.66, 0.46)], 4
    )
    parts = [Part(body, colour), Part(tail, shade(colour))]
    for x in (0.02, 0.26, 0.5):
        top = within(body, x0=x, x1=x + u(0.07, 0.11), y1=arch + 0.36)
        parts.append(Part(top, accent(colour)))
    for x in (-0.66, -0.3):
        parts.append(Part(ellipse(x, 0.53, 0.19, 0.1, 16), tint(colour, 0.55)))
    return framed(parts + _head(colour, rng, -0.46, -0.02, u(0.44, 0.5)))


def _cat_walking(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    step, high = u(0.0, 0.1), u(-0.85, -0.65)
    body = closed_curve([
        (-0.56, -0.16), (-0.1, -0.14), (0.36, -0.2), (0.66, 0.02), (0.62, 0.36), (0.1, 0.4), (-0.5, 0.4),
        (-0.68, 0.12),
    ])
    leg = shape((-0.1, 0.0), (0.1, 0.0), (0.07, 0.56), (-0.09, 0.56))
    paw = tint(colour, 0.55)
    tail = [(0.54, 0.06), (0.74, -0.1), (0.78, -0.36), (0.72, -0.56), (0.82, high)]
    parts = [*_tail(tail, u(0.13, 0.17), colour, accent(colour))]
    for x, tone in ((-0.22 + step, 0.3), (0.3 - step, 0.3), (-0.5, 0.0), (0.52, 0.0)):
        parts.append(Part(moved(leg, x, 0.28), shade(colour, tone) if tone else colour))
        parts.append(Part(ellipse(x - 0.03, 0.83, 0.13, 0.07, 12), paw))
    parts.append(Part(body, colour))
    parts.append(Part(within(body, y0=0.28), shade(colour, 0.12)))
    for x in (-0.02, 0.2, 0.42):
        parts.append(Part(within(body, x0=x, x1=x + 0.08, y1=0.12), accent(colour)))
    return framed(parts + _head(colour, rng, -0.5, -0.24, u(0.4, 0.46)))


# -- Butterflies ---------------------------------------------------------------------------------------------


def _torso(rng: np.random.Generator, colour: Colour) -> list[Part]:
    u, top, bottom = rng.uniform, -0.4, 0.55
    tone = (70, 52, 48) if sum(colour) > 150 else (150, 120, 100)
    reach = u(0.24, 0.36)
    feeler = stroke([(0.02, top + 0.05), (0.1, top - 0.25), (reach, top - 0.42)], 0.04)
    knob = disc(reach, top - 0.42, 0.05, 10)
    return [
        Part(feeler, INK),
        Part(mirrored(feeler), INK),
        Part(knob, INK),
        Part(mirrored(knob), INK),
        Part(ellipse(0.0, (top + bottom) / 2, 0.085, (bottom - top) / 2, 18), tone),
        Part(disc(0.0, top, 0.1, 14), tone),
        Part(stroke([(-0.07, 0.16), (0.07, 0.16)], 0.05), INK),
        Part(stroke([(-0.06, 0.3), (0.06, 0.3)], 0.05), INK),
    ]


def _pairs(wings: list[tuple[Outline, Colour]]) -> list[Part]:
    return [part for outline, tone in wings for part in (Part(outline, tone), Part(mirrored(outline), tone))]


def _butterfly_round(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    out, low, spot = u(0.88, 1.0), u(0.62, 0.78), pick_apart(rng, _SPOTS, colour)
    upper = closed_curve([(0.02, -0.1), (0.3, -0.56), (0.72, -0.76), (out, -0.5), (0.82, -0.06), (0.4, 0.1)])
    lower = closed_curve([(0.02, 0.0), (0.46, 0.04), (0.74, 0.26), (0.66, low), (0.34, low), (0.08, 0.34)])
    wings = [
        (lower, shade(colour, 0.2)), (moved(lower, 0.08, 0.08, 0.7, 0.68), tint(colour, 0.2)),
        (upper, colour), (disc(0.66, -0.42, u(0.13, 0.18), 18), spot),
        (disc(0.66, -0.42, 0.07, 12), accent(colour)), (disc(0.44, 0.42, u(0.08, 0.13), 16), spot),
        (disc(0.36, -0.2, 0.07, 12), spot),
    ]
    return framed(_pairs(wings) + _torso(rng, colour))


def _butterfly_bordered(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    rim = INK if sum(colour) > 150 else (120, 120, 135)
    out = u(0.9, 1.0)
    upper = closed_curve(
        [(0.0, -0.06), (0.26, -0.5), (0.66, -0.84), (out, -0.84), (0.9, -0.4), (0.7, -0.02), (0.3, 0.1)]
    )
    lower = closed_curve([(0.0, 0.0), (0.4, 0.0), (0.72, 0.16), (0.78, 0.5), (0.5, 0.8), (0.2, 0.62)])
    x, y = u(0.82, 0.87), u(-0.73, -0.67)
    wings = [
        (lower, rim), (moved(lower, 0.045, 0.04, 0.85, 0.85), tint(colour, 0.15)), (upper, rim),
        (moved(upper, 0.04, -0.035, 0.88, 0.88), colour),
        (stroke([(0.06, -0.06), (0.36, -0.36), (0.76, -0.66)], 0.045), rim),
        (stroke([(0.06, -0.02), (0.4, -0.14), (0.74, -0.28)], 0.045), rim),
        (stroke([(0.06, 0.1), (0.3, 0.32), (0.5, 0.66)], 0.045), rim), (disc(x, y, 0.05, 10), PAPER),
        (disc(0.83, -0.5, 0.045, 10), PAPER), (disc(0.68, 0.5, 0.045, 10), PAPER),
    ]
    return framed(_pairs(wings) + _torso(rng, colour))


def _butterfly_swallow(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    long, spot, band = u(0.88, 1.0), pick_apart(rng, _SPOTS, colour), accent(colour)
    upper = closed_curve(
        [(0.02, -0.08), (0.4, -0.56), (0.98, -0.8), (0.92, -0.56), (0.72, -0.02), (0.3, 0.08)]
    )
    lower = closed_curve([
        (0.02, 0.0), (0.44, 0.0), (0.68, 0.2), (0.6, 0.46), (0.6, 0.7), (0.6, long), (0.48, long),
        (0.42, 0.64), (0.16, 0.46),
    ], 4)
    wings = [
        (lower, colour), (disc(0.5, 0.42, 0.08, 14), spot),
        (stroke([(0.2, 0.3), (0.42, 0.26), (0.6, 0.16)], 0.06), band), (upper, colour),
        (within(upper, x0=u(0.7, 0.78)), band),
        (stroke([(0.3, -0.4), (0.38, -0.16), (0.34, 0.02)], u(0.06, 0.1)), band),
        (stroke([(0.5, -0.58), (0.58, -0.26), (0.5, 0.02)], u(0.06, 0.1)), band),
    ]
    return framed(_pairs(wings) + _torso(rng, colour))


def _butterfly_folded(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    spot, tilt = pick_apart(rng, _SPOTS, colour), u(-0.02, 0.03)
    upper = closed_curve(
        [(-0.3, 0.4), (-0.34, -0.3), (-0.1, -0.84), (0.24, -0.95), (0.42, -0.6), (0.3, -0.1), (0.0, 0.42)]
    )
    lower = closed_curve(
        [(-0.12, 0.42), (0.1, -0.06), (0.46, -0.3), (0.82, -0.16), (0.84, 0.24), (0.54, 0.5), (0.2, 0.54)]
    )
    trunk = closed_curve(
        [(-0.62, 0.34), (-0.46, 0.3), (0.0, 0.42), (0.5, 0.66), (0.46, 0.74), (-0.1, 0.6), (-0.56, 0.5)], 4
    )
    tone = (70, 52, 48) if sum(colour) > 150 else (150, 120, 100)
    feeler = stroke([(-0.6, 0.36), (-0.74, 0.12), (-0.92, u(-0.1, 0.05))], 0.045)
    parts = [
        Part(turned(moved(upper, -0.02, 0.0), -0.035, (-0.2, 0.4)), shade(colour, 0.4)),
        Part(upper, colour),
        Part(lower, tint(colour, 0.25)),
        Part(moved(lower, 0.08, 0.04, 0.75, 0.75), colour),
        Part(turned(ellipse(0.12, -0.62, 0.14, u(0.1, 0.16), 16), tilt), spot),
        Part(disc(0.02, -0.28, 0.09, 14), accent(colour)),
        Part(disc(0.54, 0.08, u(0.1, 0.14), 16), spot),
        Part(disc(0.54, 0.08, 0.06, 10), accent(colour)),
        Part(feeler, INK),
        Part(moved(feeler, 0.1, -0.06), INK),
        Part(trunk, tone),
        Part(disc(-0.6, 0.4, 0.11, 14), tone),
        Part(disc(-0.63, 0.37, 0.035, 8), PAPER),
    ]
    return framed(parts)


def _butterfly_slanted(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    near, far, spot = u(0.85, 1.0), u(0.5, 0.62), pick_apart(rng, _SPOTS, colour)
    upper = closed_curve([(0.0, -0.1), (0.2, -0.62), (0.6, -0.86), (0.9, -0.7), (0.86, -0.24), (0.5, 0.06)])
    lower = closed_curve([(0.0, 0.0), (0.5, 0.0), (0.7, 0.34), (0.5, 0.74), (0.2, 0.6)])
    wings = [
        (lower, colour), (upper, colour),
        (moved(upper, 0.3, -0.22, 0.56, 0.56), tint(colour, 0.25)), (disc(0.72, -0.6, 0.09, 14), spot),
        (disc(0.4, -0.3, 0.08, 12), accent(colour)), (disc(0.42, 0.38, u(0.1, 0.15), 16), spot),
    ]
    right = [Part(moved(outline, 0.03, 0.0, near), tone) for outline, tone in wings]
    left = [Part(moved(outline, -0.03, -0.06, -far, 1.04), shade(tone, 0.12)) for outline, tone in wings]
    lean = u(0.04, 0.1)
    return framed([Part(turned(p.outline, lean), p.colour) for p in left + right + _torso(rng, colour)])


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(
        "cat", (_cat_face, _cat_sitting, _cat_profile, _cat_lying, _cat_walking), synonyms=("kitten",)
    ),
    ObjectClass(
        "butterfly",
        (_butterfly_round, _butterfly_bordered, _butterfly_swallow, _butterfly_folded, _butterfly_slanted),
        tilt=0.2,
    ),
)
