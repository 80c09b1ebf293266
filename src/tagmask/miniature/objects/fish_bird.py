"""Fish and birds of the miniature world."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Part,
    arc,
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
    eye,
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

_BEAKS: tuple[Colour, ...] = ((245, 158, 40), (232, 110, 48), (90, 84, 90))


# -- Fish, facing left ---------------------------------------------------------------------------------------


def _fish_oval(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    h, tail, fin = u(0.42, 0.58), u(0.36, 0.52), shade(colour, 0.3)
    body = closed_curve([
        (-0.93, 0.03), (-0.62, -0.75 * h), (-0.12, -h), (0.36, -0.5 * h), (0.64, -0.09), (0.64, 0.09),
        (0.36, 0.5 * h), (-0.12, h), (-0.62, 0.78 * h),
    ])
    fan = [(0.5, 0.0), (0.74, -0.65 * tail), (0.97, -tail), (0.86, 0.0), (0.97, tail), (0.74, 0.65 * tail)]
    top = [(-0.42, -0.75 * h), (-0.1, -h - u(0.18, 0.32)), (0.36, -h - 0.1), (0.36, -0.4 * h)]
    parts = [
        Part(closed_curve(fan, 4), fin),
        Part(closed_curve(top, 4), fin),
        Part(shape((-0.1, 0.85 * h), (0.26, h + 0.2), (0.34, 0.45 * h)), fin),
        Part(body, colour),
        Part(within(body, y0=0.42 * h), tint(colour, 0.35)),
    ]
    band, wide = accent(colour), u(0.09, 0.16)
    for x in (-0.28, 0.04, 0.34)[: int(rng.integers(0, 4))]:
        parts.append(Part(within(body, x0=x, x1=x + wide), band))
    flap = closed_curve([(-0.32, 0.05), (-0.02, 0.1), (0.06, 0.32), (-0.22, 0.26)], 4)
    parts.append(Part(stroke(arc(-0.66, 0.0, 0.2, 0.6 * h, -0.2, 0.2, 8), 0.04), band))
    parts.append(Part(flap, fin))
    parts.append(Part(stroke([(-0.92, 0.12), (-0.84, 0.16), (-0.76, 0.15)], 0.035), ink(colour)))
    return framed(parts + eye(-0.68, -0.14, u(0.08, 0.12), -0.2))


def _fish_tall(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    h, fin, band = u(0.5, 0.62), shade(colour, 0.25), accent(colour)
    body = closed_curve([
        (-0.8, 0.0), (-0.5, -0.55 * h), (-0.05, -h), (0.36, -0.5 * h), (0.52, -0.08), (0.52, 0.08),
        (0.36, 0.5 * h), (-0.05, h), (-0.5, 0.55 * h),
    ])
    back, tip = u(0.5, 0.75), u(0.9, 1.02)
    sail = closed_curve([(-0.3, -0.7 * h), (0.1, -0.9), (back, -tip), (0.36, -0.62), (0.34, -0.35 * h)], 5)
    fan = [(0.42, 0.0), (0.68, -0.3), (0.86, -0.36), (0.76, 0.0), (0.86, 0.36), (0.68, 0.3)]
    parts = [
        Part(closed_curve(fan, 4), fin),
        Part(sail, fin),
        Part(sail * (1.0, -u(0.88, 1.0)), fin),
        Part(body, colour),
    ]
    wide = u(0.09, 0.15)
    for x in (-0.42, -0.06, 0.26):
        parts.append(Part(within(body, x0=x, x1=x + wide), band))
    parts.append(
        Part(closed_curve([(-0.24, 0.06), (-0.02, 0.02), (0.1, 0.2), (-0.12, 0.2)], 4), tint(colour))
    )
    return framed(parts + eye(-0.54, -0.1, u(0.08, 0.11), -0.2))


def _fish_long(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    h, fin = u(0.27, 0.34), shade(colour, 0.3)
    body = closed_curve([
        (-0.96, 0.05), (-0.74, -0.7 * h), (-0.3, -h), (0.3, -0.72 * h), (0.74, -0.09), (0.74, 0.09),
        (0.3, 0.62 * h), (-0.3, h), (-0.74, 0.8 * h),
    ])
    fork = u(0.3, 0.42)
    x = u(-0.2, 0.05)
    parts = [
        Part(shape((0.64, 0.0), (0.98, -fork), (0.84, 0.0), (0.98, fork)), fin),
        Part(shape((x - 0.2, -0.8 * h), (x + 0.02, -h - 0.24), (x + 0.36, -0.7 * h)), fin),
        Part(shape((0.0, 0.7 * h), (0.26, h + 0.17), (0.32, 0.5 * h)), fin),
        Part(shape((-0.52, 0.8 * h), (-0.26, h + 0.2), (-0.2, 0.8 * h)), fin),
        Part(body, colour),
        Part(within(body, y0=0.3 * h), tint(colour, 0.5)),
    ]
    for x in np.linspace(-0.36, 0.46, int(rng.integers(0, 5))):
        parts.append(Part(disc(float(x), -0.35 * h, 0.05, 10), accent(colour)))
    parts.append(Part(stroke(arc(-0.76, 0.02, 0.22, 0.75 * h, -0.2, 0.2, 8), 0.035), accent(colour)))
    parts.append(Part(stroke([(-0.94, 0.1), (-0.86, 0.12), (-0.78, 0.1)], 0.03), ink(colour)))
    return framed(parts + eye(-0.74, -0.06, u(0.06, 0.08), -0.2))


def _fish_puffer(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    r, spikes = u(0.62, 0.7), 2 * int(rng.integers(11, 16))
    t = np.arange(2 * spikes) * np.pi / spikes
    far = np.where(np.arange(2 * spikes) % 2, r - 0.02, r + u(0.09, 0.16))[:, None]
    burr = np.stack([np.cos(t), np.sin(t)], axis=1) * far
    ball = disc(0.0, 0.0, r)
    fin, band = shade(colour, 0.3), accent(colour)
    fan = closed_curve(
        [(r - 0.08, 0.0), (r + 0.16, -0.26), (r + 0.34, -0.3), (r + 0.34, 0.3), (r + 0.16, 0.26)]
    )
    parts = [
        Part(fan, fin),
        Part(burr, fin),
        Part(ball, colour),
        Part(within(ball, y0=0.3), mixed(colour, PAPER, 0.6)),
    ]
    for x, y, size in ((0.1, -0.42, 0.09), (0.36, -0.2, 0.11), (0.1, -0.12, 0.07)):
        parts.append(Part(disc(x, y, size * u(0.8, 1.2), 14), band))
    flap = closed_curve([(0.08, 0.1), (0.4, 0.0), (0.44, 0.28), (0.26, 0.3)], 4)
    parts += [Part(flap, fin), Part(ellipse(0.01 - r, 0.12, 0.09, 0.12, 14), fin)]
    parts.append(Part(ellipse(-0.02 - r, 0.12, 0.04, 0.06, 10), INK))
    return framed(parts + eye(-0.34, -0.16, u(0.12, 0.16), -0.2))


def _fish_veil(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    h, droop, fin = u(0.4, 0.47), u(0.0, 0.2), tint(colour, 0.28)
    body = closed_curve([
        (-0.9, 0.0), (-0.66, -0.75 * h), (-0.25, -h), (0.14, -0.5 * h), (0.34, -0.06), (0.32, 0.12),
        (0.1, 0.6 * h), (-0.28, h), (-0.68, 0.76 * h),
    ])
    upper = closed_curve([(0.22, 0.0), (0.5, -0.5), (0.92, -0.62), (0.8, -0.34), (0.95, -0.05), (0.6, 0.06)])
    lower = closed_curve(
        [(0.22, 0.0), (0.6, 0.0), (0.95, 0.3 + droop), (0.7, 0.36), (0.62, 0.68 + droop), (0.4, 0.4)]
    )
    top = closed_curve([(-0.5, -0.8 * h), (-0.3, -h - 0.3), (0.12, -h - 0.2), (0.1, -0.5 * h)], 4)
    parts = [
        Part(upper, fin),
        Part(lower, shade(colour, 0.12)),
        Part(top, fin),
        Part(closed_curve([(-0.3, 0.9 * h), (0.06, h + 0.26), (0.12, 0.5 * h)], 4), fin),
        Part(body, colour),
    ]
    line = shade(colour, 0.3)
    for x, y in ((-0.3, -0.14), (-0.1, 0.0), (-0.3, 0.14), (0.08, -0.04)):
        parts.append(Part(stroke(arc(x, y, 0.1, 0.13, -0.25, 0.25, 6), 0.035), line))
    parts.append(Part(stroke([(-0.89, 0.1), (-0.82, 0.14), (-0.75, 0.12)], 0.035), ink(colour)))
    return framed(parts + eye(-0.64, -0.1, u(0.1, 0.13), -0.2))


# -- Birds, facing left --------------------------------------------------------------------------------------


def _legs(
    xs: tuple[float, float], top: float, foot: float, colour: Colour, width: float = 0.06
) -> list[Part]:
    return [
        Part(stroke([(x, top), (x, foot - 0.03), (x - 0.02, foot), (x - 0.16, foot)], width), colour)
        for x in xs
    ]


def _bird_song(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    beak, lift, plump = pick_apart(rng, _BEAKS, colour), u(-0.1, 0.25), u(0.92, 1.08)
    body = closed_curve([
        (-0.62, -0.48), (-0.36, -0.76), (-0.02, -0.58), (0.3, -0.2), (0.62, 0.1), (0.2, 0.48 * plump),
        (-0.24, 0.56 * plump), (-0.58, 0.24), (-0.64, -0.1),
    ])
    tail = shape((0.4, 0.0), (0.98, -lift), (0.94, 0.2 - lift), (0.4, 0.32))
    wing = closed_curve([(-0.16, -0.2), (0.14, -0.22), (0.48, 0.02), (0.72, 0.2), (0.3, 0.3), (-0.06, 0.22)])
    parts = [
        *_legs((-0.16, 0.1), 0.4, 0.85, beak),
        Part(tail, shade(colour, 0.35)),
        Part(body, colour),
        Part(
            closed_curve(
                [(-0.6, -0.06), (-0.34, -0.02), (-0.14, 0.3), (0.1, 0.46), (-0.24, 0.53), (-0.54, 0.24)]
            ),
            mixed(colour, PAPER, 0.55),
        ),
        Part(wing, shade(colour)),
        Part(stroke([(0.06, 0.12), (0.3, 0.16), (0.56, 0.16)], 0.04), accent(colour)),
        Part(shape((-0.56, -0.56), (-0.9, -u(0.36, 0.44)), (-0.58, -0.3)), beak),
    ]
    return framed(parts + eye(-0.38, -0.5, u(0.07, 0.1), -0.2))


def _bird_ball(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    beak, wide, flap = pick_apart(rng, _BEAKS[:2], colour), u(0.62, 0.72), u(-0.05, 0.1)
    ball = ellipse(0.0, 0.05, wide, u(0.62, 0.7))
    wing = turned(ellipse(-wide - 0.02, 0.12, 0.16, 0.36, 18), flap, (-wide, -0.1))
    foot = shape((-0.2, 0.6), (-0.36, 0.86), (-0.22, 0.8), (-0.16, 0.88), (-0.1, 0.8), (0.0, 0.86))
    tuft = closed_curve([(-0.1, -0.52), (-0.2, -0.8), (-0.03, -0.68), (0.08, -0.88), (0.14, -0.55)], 4)
    parts = [
        Part(foot, beak),
        Part(moved(foot, 0.36, 0.0), beak),
        Part(wing, shade(colour, 0.3)),
        Part(mirrored(wing), shade(colour, 0.3)),
        Part(tuft, shade(colour, 0.3)),
        Part(ball, colour),
        Part(ellipse(0.0, 0.36, 0.68 * wide, 0.32, 20), mixed(colour, PAPER, 0.5)),
    ]
    gap, size = u(0.2, 0.27), u(0.11, 0.16)
    parts += eye(-gap, -0.14, size, 0.15) + eye(gap, -0.14, size, -0.15)
    parts.append(Part(shape((-0.17, 0.03), (0.0, -0.06), (0.17, 0.03), (0.0, 0.26)), beak))
    parts.append(Part(shape((-0.17, 0.03), (0.17, 0.03), (0.0, 0.26)), shade(beak, 0.2)))
    return framed(parts)


def _bird_flying(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    beak, spread = pick_apart(rng, _BEAKS, colour), u(-0.03, 0.04)
    body = closed_curve([
        (-0.78, -0.06), (-0.62, -0.22), (-0.4, -0.16), (0.0, -0.1), (0.5, 0.12), (0.2, 0.34),
        (-0.24, 0.36), (-0.58, 0.18),
    ])
    wing = closed_curve([
        (-0.36, 0.06), (-0.24, -0.42), (0.14, -0.86), (0.42, -0.95), (0.4, -0.62), (0.34, -0.3),
        (0.24, 0.08), (-0.06, 0.18),
    ])
    back = turned(moved(wing, -0.2, 0.06, 0.72, 0.86), -0.1 + spread, (-0.3, 0.0))
    tail = shape((0.36, 0.06), (0.92, -0.06), (0.84, 0.12), (0.98, 0.22), (0.8, 0.28), (0.3, 0.32))
    parts = [
        Part(back, shade(colour, 0.35)),
        Part(tail, shade(colour, 0.3)),
        Part(shape((-0.7, -0.14), (-1.0, u(-0.04, 0.04)), (-0.72, 0.06)), beak),
        Part(body, colour),
        Part(within(body, y0=0.18), mixed(colour, PAPER, 0.5)),
        Part(turned(wing, spread, (-0.1, 0.1)), shade(colour, 0.14)),
    ]
    feather = turned(moved(wing, 0.03, 0.04, 0.6, 0.6), spread, (-0.1, 0.1))
    parts.append(Part(feather, colour))
    return framed(parts + eye(-0.6, -0.06, u(0.055, 0.075), -0.2))


def _bird_duck(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    beak, neck, x = pick_apart(rng, _BEAKS[:2], colour), u(-0.5, -0.38), u(-0.5, -0.42)
    body = closed_curve([
        (-0.74, 0.2), (-0.36, 0.0), (0.1, 0.1), (0.6, 0.05), (0.95, -0.2), (0.88, 0.34), (0.5, 0.7),
        (-0.2, 0.74), (-0.62, 0.56),
    ])
    wing = closed_curve([(-0.28, 0.28), (0.1, 0.16), (0.66, 0.12), (0.5, 0.42), (0.1, 0.54), (-0.2, 0.46)])
    throat = closed_curve([(x - 0.2, neck), (x + 0.22, neck), (-0.1, 0.14), (-0.3, 0.4), (-0.7, 0.3)])
    head = ellipse(x, neck, 0.3, 0.28)
    parts = [
        Part(
            closed_curve(
                [
                    (x - 0.18, neck - 0.04), (x - 0.5, neck + 0.04), (x - 0.52, neck + 0.14),
                    (x - 0.16, neck + 0.17),
                ]
            ),
            beak,
        ),
        Part(body, colour),
        Part(within(body, y0=0.56), shade(colour, 0.16)),
        Part(throat, colour),
        Part(head, colour),
        Part(wing, shade(colour, 0.28)),
        Part(moved(wing, 0.03, 0.03, 0.8, 0.72), shade(colour, 0.12)),
    ]
    if rng.random() < 0.5:
        parts.append(
            Part(
                stroke([(-0.66, 0.02), (-0.4, 0.06), (-0.14, 0.0)], 0.07), PAPER if sum(colour) < 600 else INK
            )
        )
    return framed(parts + eye(x - 0.06, neck - 0.06, u(0.06, 0.08), -0.2))


def _bird_wader(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    beak, x = pick_apart(rng, _BEAKS[:2], colour), u(-0.4, -0.28)
    body = closed_curve(
        [(-0.34, -0.06), (0.1, -0.3), (0.56, -0.12), (0.86, 0.14), (0.36, 0.3), (-0.14, 0.26)]
    )
    curl = u(0.26, 0.36)
    neck = closed_curve([
        (x - 0.02, -0.84), (x + 0.14, -0.72), (x - 0.06, -0.5), (x + 0.02, -0.34), (0.1, -0.22),
        (0.0, 0.16), (-0.32, 0.06), (x - curl, -0.34), (x - 0.2, -0.62),
    ])
    wing = closed_curve([(0.02, -0.14), (0.44, -0.12), (0.9, 0.22), (0.5, 0.2), (0.16, 0.14)])
    parts = [
        *_legs((0.1, 0.32), 0.2, 0.95, shade(beak, 0.12), 0.07),
        Part(
            shape((x - 0.1, -0.9), (x - 0.4, -0.74), (x - 0.46, -0.52), (x - 0.32, -0.62), (x - 0.06, -0.7)),
            beak,
        ),
        Part(shape((x - 0.38, -0.7), (x - 0.46, -0.52), (x - 0.32, -0.62)), INK),
        Part(body, colour),
        Part(neck, colour),
        Part(ellipse(x, -0.8, 0.17, 0.15, 18), colour),
        Part(wing, shade(colour, 0.25)),
        Part(stroke([(0.24, 0.02), (0.46, 0.05), (0.68, 0.13)], 0.04), accent(colour)),
    ]
    return framed(parts + eye(x - 0.02, -0.83, u(0.045, 0.06), -0.2))


def _bird_parrot(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    beak, tail = pick_apart(rng, _BEAKS, colour), u(0.88, 1.05)
    body = closed_curve([
        (-0.32, -0.62), (-0.02, -0.86), (0.26, -0.62), (0.34, -0.16), (0.28, 0.3), (0.04, 0.44),
        (-0.24, 0.26), (-0.34, -0.14),
    ])
    crest = closed_curve([(-0.14, -0.76), (-0.06, -1.0), (0.06, -0.86), (0.24, -0.96), (0.22, -0.62)], 4)
    wing = closed_curve([(0.04, -0.3), (0.32, -0.36), (0.46, 0.06), (0.36, 0.6), (0.14, 0.3)])
    parts = [
        Part(
            shape((0.02, 0.2), (0.3, 0.2), (0.44, tail), (0.28, tail - 0.08), (0.2, tail)), shade(colour, 0.4)
        ),
        Part(stroke([(-0.6, 0.5), (0.0, 0.47), (0.7, 0.52)], 0.1), (132, 92, 62)),
        Part(crest, shade(colour, 0.3)),
        Part(body, colour),
        Part(
            closed_curve([(-0.32, -0.16), (-0.12, -0.2), (0.0, 0.1), (0.0, 0.4), (-0.22, 0.24)]),
            mixed(colour, PAPER, 0.5),
        ),
        Part(wing, shade(colour, 0.25)),
        Part(moved(wing, 0.06, -0.08, 0.7, 0.62), accent(colour)),
        Part(shape((-0.22, -0.76), (-0.5, -0.62), (-0.46, -0.34), (-0.38, -0.46), (-0.22, -0.46)), beak),
        Part(ellipse(-0.1, 0.45, 0.07, 0.09, 12), beak),
        Part(ellipse(0.1, 0.45, 0.07, 0.09, 12), beak),
    ]
    return framed(parts + eye(-0.1, -0.6, u(0.08, 0.1), -0.2))


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("fish", (_fish_oval, _fish_tall, _fish_long, _fish_puffer, _fish_veil), tilt=0.5),
    ObjectClass(
        "bird", (_bird_song, _bird_ball, _bird_flying, _bird_duck, _bird_wader, _bird_parrot), tilt=0.04
    ),
)
