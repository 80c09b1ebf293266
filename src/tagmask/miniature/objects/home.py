"""Household objects: cups, keys and clocks, and the classes of room objects."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Outline,
    Part,
    arc,
    box,
    disc,
    ellipse,
    hole,
    mixed,
    moved,
    ring_sector,
    rounded_box,
    shape,
    stroke,
)
from tagmask.miniature.objects import room
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import ink, shade, tint
from tagmask.miniature.objects.forms import rays, symmetric

__all__ = ["CLASSES"]

_COFFEE: Colour = (96, 58, 36)
_TEA: Colour = (196, 118, 44)
_CREAM: Colour = (252, 246, 230)
_STEEL: Colour = (150, 156, 168)
_CORK: Colour = (200, 152, 98)
_DARK: Colour = (44, 44, 56)


# -- Cups ----------------------------------------------------------------------------------------------------


def _vessel(x: float, top: float, wide: float, bottom: float, narrow: float, bulge: float) -> Outline:
    """A round vessel seen a little from above: a straight top over a curved floor."""
    floor = arc(x, bottom, narrow, bulge, 0.0, 0.5, 12)
    return np.concatenate([floor, shape((x - wide, top), (x + wide, top))])


def _handle(x: float, y: float, reach: float, height: float, width: float) -> Outline:
    return stroke(arc(x, y, reach, height, -0.27, 0.27, 14), width)


def _cup_mug(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, top, y = rng.uniform(0.52, 0.64), rng.uniform(-0.78, -0.62), rng.uniform(-0.1, 0.25)
    x, end = -0.95 + w, 0.82
    right = x + w
    band = np.concatenate(
        [arc(x, y, w, 0.13, 0.0, 0.5), arc(x, y + rng.uniform(0.1, 0.3), w, 0.13, 0.5, 0.0)]
    )
    dark = np.concatenate([arc(x, end, w, 0.13, 0.0, 0.16, 4), shape((x + 0.55 * w, top), (right, top))])
    return [
        Part(_handle(right - 0.04, 0.1, 0.9 - right, rng.uniform(0.36, 0.46), 0.17), shade(colour)),
        Part(_vessel(x, top, w, end, w, 0.13), colour),
        Part(band, mixed(tint(colour, 0.6), ink(colour), rng.choice([0.0, 0.8]))),
        Part(dark, shade(colour, 0.16)),
        Part(ellipse(x, top, w, 0.17), tint(colour, 0.4)),
        Part(ellipse(x, top, w - 0.08, 0.11), shade(colour, 0.45)),
        Part(ellipse(x, top + 0.03, w - 0.14, 0.075, 16), _COFFEE),
        Part(rounded_box(x - 0.82 * w, top + 0.28, x - 0.66 * w, end - 0.2, 0.04), tint(colour, 0.45)),
    ]


def _cup_tea(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, top, deep = rng.uniform(0.6, 0.7), rng.uniform(-0.6, -0.5), rng.uniform(1.05, 1.2)
    bowl = arc(-0.12, top, w, deep, 0.0, 0.5, 20)
    return [
        Part(ellipse(-0.02, 0.62, 0.95, 0.24), shade(colour)),
        Part(ellipse(-0.02, 0.58, 0.95, 0.22), tint(colour, 0.25)),
        Part(ellipse(-0.12, 0.6, 0.5, 0.1, 18), shade(colour, 0.3)),
        Part(_handle(w - 0.24, -0.18, rng.uniform(0.36, 0.44), 0.27, 0.14), shade(colour)),
        Part(bowl, colour),
        Part(np.concatenate([bowl[:8], shape((-0.12 + 0.5 * w, top))]), shade(colour, 0.16)),
        Part(ellipse(-0.12, top, w, 0.17), tint(colour, 0.45)),
        Part(ellipse(-0.12, top + 0.01, w - 0.07, 0.12), shade(colour, 0.4)),
        Part(ellipse(-0.12, top + 0.04, w - 0.13, 0.08, 18), _TEA),
        Part(stroke(arc(-0.12, top + 0.12, 0.8 * w, 0.7 * deep, 0.36, 0.46, 5), 0.08), tint(colour, 0.5)),
    ]


def _cup_tin(colour: Colour, rng: np.random.Generator) -> list[Part]:
    top, low, line = rng.uniform(0.62, 0.7), rng.uniform(0.5, 0.58), ink(colour)
    x, y = -0.95 + top, rng.uniform(-0.68, -0.58)
    spots = [(x + rng.uniform(-0.4, 0.4), -0.2 + 0.24 * i) for i in range(4)]
    return [
        Part(_handle(x + low, 0.08, 0.9 - x - low, rng.uniform(0.36, 0.44), 0.14), line),
        Part(_vessel(x, y, top, 0.78, low, 0.1), colour),
        Part(shape((x + 0.6 * top, y), (x + top, y), (x + low, 0.8), (x + 0.6 * low, 0.86)), shade(colour)),
        *[Part(ellipse(a, b, 0.06, 0.05, 8), mixed(colour, line, 0.6)) for a, b in spots],
        Part(
            np.concatenate([arc(x, 0.78, low, 0.1, 0.0, 0.5), arc(x, 0.71, low + 0.01, 0.1, 0.5, 0.0)]), line
        ),
        Part(ellipse(x, y, top + 0.02, 0.18), line),
        Part(ellipse(x, y + 0.01, top - 0.06, 0.12), tint(colour, 0.45)),
        Part(ellipse(x, y + 0.05, top - 0.12, 0.075, 18), _COFFEE),
    ]


def _cup_belly(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, top = rng.uniform(0.6, 0.7), rng.uniform(-0.74, -0.62)
    x = -0.95 + w
    body = moved(symmetric((0.82, 0.0), (1.0, 0.5), (0.97, 1.0), (0.6, 1.55), steps=5), x, top, w, 1.0)
    tag = rng.uniform(-0.45, -0.15)
    return [
        Part(_handle(x + 0.88 * w, 0.05, 0.86 - x - 0.88 * w, rng.uniform(0.32, 0.4), 0.19), shade(colour)),
        Part(body, shade(colour, 0.18)),
        Part(moved(body, 0.08 * x - 0.05, 0.0, 0.92, 0.98), colour),
        Part(ellipse(x, top, 0.84 * w, 0.16), tint(colour, 0.4)),
        Part(ellipse(x, top, 0.74 * w, 0.1, 20), _COFFEE if rng.random() < 0.5 else _TEA),
        Part(stroke([(x + 0.3, top + 0.06), (x + 0.3, top + 0.25), (x + 0.26, tag + 0.1)], 0.04), _CREAM),
        Part(
            shape((x + 0.1, tag + 0.1), (x + 0.42, tag + 0.1), (x + 0.42, tag + 0.5), (x + 0.1, tag + 0.5)),
            _CREAM,
        ),
        Part(disc(x + 0.26, tag + 0.3, 0.09, 10), (90, 160, 90)),
        Part(ellipse(x - 0.62 * w, top + 0.62, 0.06, 0.22, 12), tint(colour, 0.5)),
    ]


def _cup_heart(colour: Colour, rng: np.random.Generator) -> list[Part]:
    top, low, end = rng.uniform(0.66, 0.74), rng.uniform(0.36, 0.46), rng.uniform(0.72, 0.8)
    x, size = -0.95 + top, rng.uniform(0.24, 0.32)
    heart = symmetric((0.0, -0.35), (0.5, -0.85), (1.0, -0.4), (0.6, 0.4), (0.0, 1.0), steps=4)
    body = moved(
        symmetric((1.0, 0.0), (0.95, 0.5), (0.8, 1.0), (0.62, 1.35)), x, -0.8, top, (end + 0.8) / 1.35
    )
    return [
        Part(_handle(x + 0.84 * top, -0.2, rng.uniform(0.32, 0.4), 0.34, 0.15), shade(colour)),
        Part(body, colour),
        Part(np.concatenate([body[:4], moved(body[3::-1], 0.36 * x, 0.0, 0.64, 1.0)]), shade(colour, 0.16)),
        Part(rounded_box(x - low - 0.05, end - 0.04, x + low + 0.05, 0.92, 0.07), shade(colour, 0.35)),
        Part(rounded_box(x - top, -0.88, x + top, -0.72, 0.07), tint(colour, 0.4)),
        Part(moved(heart, x - 0.05, 0.0, size, size), ink(colour) if min(colour) > 190 else _CREAM),
    ]


# -- Keys ----------------------------------------------------------------------------------------------------


def _shaft(colour: Colour, width: float, start: float) -> list[Part]:
    """A rod down to the end of the key, with a dark side."""
    return [
        Part(box(-width, start, width, 0.95), colour),
        Part(box(0.25 * width, start, width, 0.95), shade(colour)),
    ]


def _teeth(colour: Colour, rng: np.random.Generator, width: float) -> list[Part]:
    a, b, c = rng.uniform(0.28, 0.42), rng.uniform(0.22, 0.42), rng.uniform(0.38, 0.46)
    return [
        Part(box(width - 0.02, 0.72, width + a, 0.93), colour),
        Part(box(width - 0.02, c, width + b, c + 0.19), colour),
    ]


def _key_ring(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, w = rng.uniform(0.42, 0.5), rng.uniform(0.09, 0.12)
    y = -0.95 + r
    return [
        *_teeth(colour, rng, w),
        *_shaft(colour, w, y + 0.8 * r),
        Part(disc(0.0, y, r), colour),
        Part(ring_sector(0.0, y, 0.75 * r, r, -0.15, 0.3), shade(colour)),
        hole(disc(0.0, y, r * rng.uniform(0.46, 0.56), 20)),
        Part(rounded_box(-0.2, y + r - 0.02, 0.2, y + r + 0.14, 0.05), shade(colour, 0.35)),
        Part(ring_sector(0.0, y, 0.7 * r, 0.86 * r, 0.52, 0.68, 6), tint(colour, 0.6)),
    ]


def _key_clover(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, w = rng.uniform(0.27, 0.31), rng.uniform(0.09, 0.11)
    side, y = rng.uniform(0.3, 0.36), -0.3
    rings = [(-side, y), (side, y), (0.0, -0.95 + r)]
    return [
        *_teeth(colour, rng, w),
        *_shaft(colour, w, y),
        Part(disc(0.0, y - 0.12, 0.26, 12), shade(colour)),
        *[Part(disc(a, b, r, 20), colour) for a, b in rings],
        *[hole(disc(a, b, 0.42 * r, 12)) for a, b in rings],
        *[Part(ring_sector(a, b, 0.62 * r, 0.85 * r, 0.52, 0.72, 5), tint(colour, 0.55)) for a, b in rings],
        Part(rounded_box(-0.19, 0.0, 0.19, 0.13, 0.05), shade(colour, 0.35)),
    ]


def _key_house(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, n = rng.uniform(0.42, 0.52), rng.uniform(0.15, 0.18)
    notches = [
        (n, y) if i % 2 else (n - rng.uniform(0.1, 0.2), y) for i, y in enumerate(np.linspace(0.15, 0.8, 8))
    ]
    blade = shape((-n, -0.2), (n, -0.2), (n, 0.1), *notches, (0.0, 0.95), (-n, 0.82))
    head = symmetric((0.2, -0.95), (w, -0.78), (w + 0.03, -0.4), (w - 0.12, -0.12), (0.2, 0.0), steps=4)
    return [
        Part(blade, shade(colour, 0.12)),
        Part(box(-0.5 * n, -0.2, -0.1 * n, 0.78), shade(colour, 0.4)),
        Part(head, shade(colour)),
        Part(moved(head, -0.025, -0.03, 0.92, 0.94), colour),
        Part(rounded_box(-0.6 * w, -0.44, 0.6 * w, -0.2, 0.1), tint(colour, 0.3)),
        hole(ellipse(0.0, -0.7, rng.uniform(0.12, 0.2), 0.09, 14)),
    ]


def _key_diamond(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, w = rng.uniform(0.46, 0.54), rng.uniform(0.09, 0.12)
    y, cut = -0.95 + r, rng.uniform(0.16, 0.24)
    diamond = symmetric((0.0, -r), (r, 0.0), (0.0, r))
    comb = [(w, 0.92), (w + 0.36, 0.92), (w + 0.36, 0.44), (w, 0.44)]
    return [
        Part(shape(*comb), colour),
        Part(box(w + 0.14, 0.6, w + 0.4, 0.76), shade(colour, 0.4)),
        hole(box(w + cut, 0.61, w + 0.4, 0.75)),
        *_shaft(colour, w, y + 0.7 * r),
        Part(moved(diamond, 0.0, y), shade(colour)),
        Part(moved(diamond, -0.03, y - 0.03, 0.86, 0.88), colour),
        hole(moved(diamond, 0.0, y, 0.42, 0.42)),
        Part(box(-0.2, 0.14, 0.2, 0.22), shade(colour, 0.35)),
        Part(box(-0.17, 0.26, 0.17, 0.32), shade(colour, 0.35)),
    ]


def _key_heart(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, s = rng.uniform(0.09, 0.12), rng.uniform(0.46, 0.54)
    heart = symmetric((0.0, -0.5), (0.5, -0.9), (1.0, -0.45), (0.65, 0.35), (0.0, 0.85), steps=5)
    y = -0.95 + 0.9 * s
    return [
        *_teeth(colour, rng, w),
        *_shaft(colour, w, y),
        Part(moved(heart, 0.0, y, s, s), shade(colour)),
        Part(moved(heart, -0.025, y - 0.02, 0.9 * s, 0.92 * s), colour),
        hole(moved(heart, 0.0, y - 0.02, 0.46 * s, 0.46 * s)),
        Part(disc(0.0, y + 0.88 * s, 0.16, 14), shade(colour, 0.35)),
    ]


# -- Clocks --------------------------------------------------------------------------------------------------


def _dial(
    x: float, y: float, r: float, colour: Colour, rng: np.random.Generator, marks: int = 12
) -> list[Part]:
    """A pale face with marks for the hours and two hands at any time."""
    hour, minute = rng.random(2) * 2 * np.pi
    line = _DARK
    paper = _CREAM if min(colour) < 225 else (214, 224, 236)
    short = (x + 0.48 * r * np.sin(hour), y - 0.48 * r * np.cos(hour))
    long = (x + 0.74 * r * np.sin(minute), y - 0.74 * r * np.cos(minute))
    return [
        Part(disc(x, y, r), shade(colour, 0.45)),
        Part(disc(x, y, 0.92 * r), paper),
        Part(rays(x, y, 0.86 * r, np.arange(marks) / marks, 0.02), line),
        Part(disc(x, y, 0.68 * r, 20), paper),
        Part(stroke([(x, y), short], 0.17 * r), line),
        Part(stroke([(x, y), long], 0.11 * r), line),
        Part(disc(x, y, 0.11 * r, 10), (214, 62, 52)),
    ]


def _clock_wall(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r = rng.uniform(0.62, 0.7)
    return [
        Part(disc(0.0, 0.0, 0.95, 36), shade(colour)),
        Part(disc(-0.02, -0.03, 0.9, 36), colour),
        Part(ring_sector(-0.02, -0.03, 0.8, 0.85, 0.52, 0.7, 8), tint(colour, 0.6)),
        *_dial(0.0, 0.0, r, colour, rng, int(rng.choice([4, 12]))),
    ]


def _clock_alarm(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, y, a = rng.uniform(0.7, 0.76), 0.16, rng.uniform(0.44, 0.52)
    bell = arc(0.0, 0.0, 0.36, 0.3, 0.5, 1.0, 10)
    parts = [Part(stroke([(0.0, -0.7), (0.0, -0.9)], 0.1), _STEEL), Part(disc(0.0, -0.9, 0.07, 10), _STEEL)]
    for side in (-1, 1):
        c, s = np.cos(0.62 * side), np.sin(0.62 * side)
        tilted = bell @ np.array([[c, s], [-s, c]]) + (side * a, -0.52)
        parts += [
            Part(stroke([(side * 0.35, 0.6), (side * 0.64, 0.93)], 0.16), shade(colour, 0.4)),
            Part(tilted, shade(colour, 0.1 if side < 0 else 0.28)),
        ]
    return [
        *parts,
        Part(disc(0.0, y, r, 36), shade(colour)),
        Part(disc(-0.02, y - 0.02, 0.95 * r, 36), colour),
        *_dial(0.0, y, 0.72 * r, colour, rng, 4),
    ]


def _clock_square(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, r, soft = rng.uniform(0.84, 0.93), rng.uniform(0.58, 0.66), rng.uniform(0.08, 0.3)
    return [
        Part(rounded_box(-w, -0.93, w, 0.93, soft), shade(colour)),
        Part(rounded_box(-w, -0.93, w - 0.07, 0.86, soft), colour),
        Part(rounded_box(-w + 0.08, -0.85, -0.25, -0.77, 0.03), tint(colour, 0.55)),
        *[
            Part(disc(a * (w - 0.15), b * 0.78, 0.06, 10), ink(colour))
            for a, b in ((-1, -1), (1, -1), (-1, 1), (1, 1))
        ],
        *_dial(-0.02, -0.02, r, colour, rng, int(rng.choice([4, 12]))),
    ]


def _clock_tall(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, r, swing = rng.uniform(0.44, 0.5), rng.uniform(0.29, 0.33), rng.uniform(-0.14, 0.14)
    gold: Colour = (232, 178, 58)
    roof = np.concatenate(
        [arc(0.0, -0.55, w + 0.06, 0.4, 0.5, 1.0, 12), shape((w + 0.06, -0.5), (-w - 0.06, -0.5))]
    )
    return [
        Part(box(-w, -0.6, w, 0.9), colour),
        Part(box(w - 0.12, -0.6, w, 0.9), shade(colour)),
        Part(roof, shade(colour, 0.12)),
        Part(box(-w - 0.08, 0.72, w + 0.08, 0.95), shade(colour, 0.3)),
        Part(rounded_box(-0.22, 0.0, 0.22, 0.6, 0.1), mixed(_DARK, colour, 0.2)),
        Part(stroke([(0.0, -0.02), (swing, 0.42)], 0.05), gold),
        Part(disc(swing, 0.44, 0.12, 14), gold),
        *_dial(0.0, -0.44, r, colour, rng, 4),
    ]


def _clock_cuckoo(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, eave, a, b = (
        rng.uniform(0.5, 0.58),
        rng.uniform(-0.3, -0.2),
        rng.uniform(0.72, 0.84),
        rng.uniform(0.72, 0.84),
    )
    cone = symmetric((0.03, -0.1), (0.1, 0.0), (0.0, 0.12), steps=3)
    return [
        Part(stroke([(-0.2, 0.5), (-0.2, a)], 0.04), ink(colour)),
        Part(stroke([(0.2, 0.5), (0.2, b)], 0.04), ink(colour)),
        Part(moved(cone, -0.2, a), _CORK),
        Part(moved(cone, 0.2, b), _CORK),
        Part(shape((-w, eave), (0.0, -0.82), (w, eave), (w, 0.58), (-w, 0.58)), colour),
        Part(shape((w - 0.12, eave), (w, eave), (w, 0.58), (w - 0.12, 0.58)), shade(colour)),
        Part(stroke([(-0.9, eave + 0.12), (0.0, -0.85), (0.9, eave + 0.12)], 0.2), shade(colour, 0.35)),
        Part(box(-w - 0.08, 0.5, w + 0.08, 0.62), shade(colour, 0.35)),
        Part(disc(0.0, -0.42, 0.13, 12), _DARK),
        Part(disc(0.0, -0.38, 0.07, 10), (250, 206, 64)),
        *_dial(0.0, 0.1, rng.uniform(0.32, 0.37), colour, rng, 4),
    ]


CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("cup", (_cup_mug, _cup_tea, _cup_tin, _cup_belly, _cup_heart), synonyms=("mug",), tilt=0.04),
    ObjectClass("key", (_key_ring, _key_clover, _key_house, _key_diamond, _key_heart), tilt=0.5),
    ObjectClass("clock", (_clock_wall, _clock_alarm, _clock_square, _clock_tall, _clock_cuckoo), tilt=0.03),
    *room.CLASSES,
)
