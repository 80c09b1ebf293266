"""Mushrooms and apples."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Outline,
    Part,
    arc,
    disc,
    ellipse,
    hole,
    mixed,
    moved,
    ring_sector,
    shape,
    stroke,
    turned,
)
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import ink, shade, tint
from tagmask.miniature.objects.forms import rays, symmetric

__all__ = ["CLASSES"]

_WOOD: Colour = (112, 70, 42)
_PALE: Colour = (252, 246, 230)
_STALK: Colour = (244, 230, 202)
_DARK: Colour = (44, 40, 48)
_LEAF: Colour = (84, 168, 72)


# -- Mushrooms -----------------------------------------------------------------------------------------------


def _cap(w: float, top: float, low: float, sag: float) -> Outline:
    """A round cap whose lower edge hangs down a little."""
    return np.concatenate([arc(0.0, low, w, low - top, 0.5, 1.0, 20), arc(0.0, low, w, sag, 0.0, 0.5, 12)])


def _stalk(colour: Colour, top: float, thin: float, thick: float) -> list[Part]:
    tone = _STALK if min(colour) < 200 else (214, 182, 140)
    outline = symmetric((thin, top), (thin, 0.3), (thick, 0.7), (0.8 * thick, 0.93), (0.0, 0.95), steps=4)
    return [Part(outline, tone), Part(outline[: len(outline) // 2] * (1.0, 1.0), shade(tone, 0.12))]


def _mushroom_toad(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, low = rng.uniform(0.86, 0.95), rng.uniform(-0.05, 0.1)
    dot = _PALE if min(colour) < 200 else (206, 70, 60)
    s = rng.uniform(0.85, 1.15)
    j = rng.uniform(-0.05, 0.05, 10).tolist()
    spots = [
        (-0.05, -0.62, 0.17),
        (-0.5, -0.3, 0.15),
        (0.42, -0.4, 0.14),
        (0.05, -0.15, 0.13),
        (0.62, -0.12, 0.09),
    ]
    skirt = symmetric((0.24, low + 0.14), (0.38, low + 0.36), (0.0, low + 0.42), steps=3)
    return [
        *_stalk(colour, low, rng.uniform(0.2, 0.26), rng.uniform(0.3, 0.4)),
        Part(skirt, shade(_STALK, 0.2)),
        Part(ellipse(0.0, low + 0.02, 0.9 * w, 0.2), shade(_STALK, 0.3)),
        Part(_cap(w, -0.95, low, 0.1), colour),
        Part(
            np.concatenate([arc(0.0, low, w, low + 0.95, 0.8, 1.0, 8), arc(0.0, low, w, 0.1, 0.0, 0.17, 4)]),
            shade(colour, 0.16),
        ),
        *[
            Part(ellipse(x + j[2 * i], y + j[2 * i + 1], s * r, 0.8 * s * r, 14), dot)
            for i, (x, y, r) in enumerate(spots)
        ],
    ]


def _mushroom_bell(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, low = rng.uniform(0.62, 0.72), rng.uniform(0.12, 0.26)
    cap = symmetric(
        (0.0, -0.95), (0.2, -0.84), (0.46, -0.35), (w, low), (0.5 * w, low + 0.1), (0.0, low + 0.13), steps=4
    )
    return [
        *_stalk(colour, low, rng.uniform(0.13, 0.17), rng.uniform(0.2, 0.26)),
        Part(ellipse(0.0, low + 0.06, 0.9 * w, 0.15), shade(_STALK, 0.35)),
        Part(cap, colour),
        Part(moved(cap[: len(cap) // 2], 0.0, 0.0), shade(colour, 0.15)),
        Part(stroke([(-0.1, -0.68), (-0.28, -0.3), (-0.36, -0.05)], 0.09), tint(colour, 0.4)),
        *[
            Part(stroke([(0.5 * x, low - 0.22), (x, low + 0.08)], 0.05), shade(colour, 0.4))
            for x in (-0.38, -0.13, 0.13, 0.38)
        ],
    ]


def _mushroom_stout(colour: Colour, rng: np.random.Generator) -> list[Part]:
    low, top = rng.uniform(-0.1, 0.05), rng.uniform(-0.8, -0.7)
    wide = rng.uniform(0.46, 0.56)
    return [
        *_stalk(colour, low, 0.3, wide),
        Part(_cap(0.95, top, low, 0.24), shade(colour, 0.25)),
        Part(moved(_cap(0.9, top, low, 0.17), -0.02, 0.0), colour),
        Part(
            turned(ellipse(-0.42, top + 0.32, 0.24, 0.09, 14), -0.08, (-0.42, top + 0.32)),
            tint(colour, 0.45),
        ),
        Part(disc(0.25, low - 0.1, 0.06, 10), shade(colour, 0.25)),
        Part(disc(0.48, low - 0.24, 0.045, 8), shade(colour, 0.25)),
        Part(stroke(arc(0.0, 0.55, wide, 0.2, 0.3, 0.46, 5), 0.04), shade(_STALK, 0.25)),
    ]


def _mushroom_pair(colour: Colour, rng: np.random.Generator) -> list[Part]:
    s, side = rng.uniform(0.46, 0.56), 1.0 if rng.random() < 0.5 else -1.0
    tone = _STALK if min(colour) < 200 else (214, 182, 140)
    dot = _PALE if min(colour) < 200 else (206, 70, 60)
    big, stem = (
        _cap(0.75, -0.95, -0.05, 0.12),
        symmetric((0.17, -0.1), (0.16, 0.5), (0.26, 0.93), (0.0, 0.95), steps=3),
    )
    x, y = side * 0.2, side * -0.46
    return [
        Part(moved(stem, -x, 0.0), tone),
        Part(moved(ellipse(0.0, -0.02, 0.68, 0.17), -x, 0.0), shade(tone, 0.3)),
        Part(moved(big, -x, 0.0), colour),
        *[
            Part(ellipse(a - x, b, 0.14, 0.11, 12), dot)
            for a, b in ((-0.34, -0.36), (0.04, -0.68), (0.38, -0.3))
        ],
        Part(moved(stem, -y, 0.95 * (1 - s), 0.9 * s, s), shade(tone, 0.1)),
        Part(moved(big, -y, 0.95 * (1 - s), 0.66, s), shade(colour, 0.18)),
        Part(moved(big, -y - 0.02, 0.93 * (1 - s), 0.58, 0.9 * s), shade(colour, 0.06)),
        Part(ellipse(-y - 0.1, 0.95 - 1.4 * s, 0.1, 0.07, 10), dot),
        Part(ellipse(-y + 0.2, 0.95 - 1.2 * s, 0.08, 0.06, 10), dot),
    ]


def _mushroom_gills(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, low, deep = rng.uniform(0.84, 0.95), rng.uniform(-0.16, -0.04), rng.uniform(0.22, 0.28)
    under = mixed(_STALK, colour, 0.15)
    return [
        Part(_cap(w, -0.9, low, deep), colour),
        Part(arc(0.0, low, w, low + 0.9, 0.78, 1.0, 8), shade(colour, 0.16)),
        Part(ellipse(0.0, low + 0.02, 0.94 * w, deep), shade(under, 0.4)),
        Part(
            rays(0.0, 0.0, 1.0, np.arange(16) / 16, 0.028) * (0.9 * w, 0.92 * deep) + (0.0, low + 0.02), under
        ),
        *_stalk(colour, low, rng.uniform(0.18, 0.24), rng.uniform(0.24, 0.34)),
        Part(turned(ellipse(-0.45, -0.55, 0.2, 0.08, 14), -0.1, (-0.45, -0.55)), tint(colour, 0.5)),
    ]


# -- Apples --------------------------------------------------------------------------------------------------


def _flesh(w: float, foot: float) -> Outline:
    """An apple from a dip at the top to two low bumps."""
    return symmetric(
        (0.0, -0.44),
        (0.32, -0.62),
        (0.72 * w, -0.54),
        (w, -0.08),
        (0.86 * w, 0.46),
        (0.46, 0.92),
        (0.2, 0.92),
        (0.0, foot),
        steps=4,
    )


def _stem(rng: np.random.Generator) -> Part:
    lean = rng.uniform(-0.1, 0.18)
    return Part(stroke([(0.0, -0.38), (0.02, -0.62), (lean, -0.95)], 0.1), _WOOD)


def _leaf(x: float, y: float, size: float, turns: float) -> list[Part]:
    leaf = shape((0.0, 0.0), (0.3, -0.2), (0.65, -0.2), (1.0, 0.0), (0.65, 0.16), (0.3, 0.16))
    return [
        Part(moved(turned(leaf * size, turns), x, y), _LEAF),
        Part(moved(turned(leaf[[0, 3, 4, 5]] * size, turns), x, y), shade(_LEAF, 0.22)),
    ]


def _skin(colour: Colour, outline: Outline) -> list[Part]:
    return [
        Part(outline, shade(colour, 0.22)),
        Part(moved(outline, -0.04, 0.0, 0.9, 0.95), colour),
        Part(ellipse(0.0, -0.44, 0.2, 0.06, 14), shade(colour, 0.45)),
    ]


def _apple_plain(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w = rng.uniform(0.84, 0.94)
    return [
        *_skin(colour, _flesh(w, rng.uniform(0.8, 0.86))),
        _stem(rng),
        *_leaf(0.03, -0.66, rng.uniform(0.5, 0.62), rng.uniform(-0.07, 0.0)),
        Part(turned(ellipse(-0.52, -0.12, 0.11, 0.22, 14), 0.06, (-0.52, -0.12)), tint(colour, 0.6)),
    ]


def _apple_tall(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w = rng.uniform(0.72, 0.78)
    body = symmetric(
        (0.0, -0.5),
        (0.34, -0.68),
        (w, -0.46),
        (w - 0.03, 0.05),
        (0.48, 0.7),
        (0.3, 0.94),
        (0.14, 0.9),
        (0.0, 0.82),
        steps=4,
    )
    return [
        *_skin(colour, body),
        Part(turned(ellipse(-0.46, -0.1, 0.1, 0.26, 14), 0.03, (-0.46, -0.1)), tint(colour, 0.6)),
        _stem(rng),
        *_leaf(0.02, -0.64, 0.5, rng.uniform(-0.1, -0.04)),
        *_leaf(-0.02, -0.64, 0.42, rng.uniform(0.54, 0.6)),
    ]


def _apple_bitten(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, y, r = rng.uniform(0.84, 0.92), rng.uniform(-0.08, 0.12), rng.uniform(0.36, 0.42)
    t = np.linspace(0.3, 0.7, 25) * 2 * np.pi
    teeth = r + 0.06 * np.abs(np.sin(3.75 * (t - t[0])))
    bite = np.stack([np.cos(t), np.sin(t)], axis=1) * teeth[:, None]
    flesh = np.concatenate([bite[1:-1] * 1.24, bite[::-1] * 0.9])
    gap = np.concatenate([bite, shape((0.1, -r - 0.05), (0.18, -r), (0.18, r), (0.1, r + 0.05))])
    return [
        *_skin(colour, _flesh(w, 0.84)),
        Part(moved(flesh, w + 0.04, y), _PALE if min(colour) < 215 else (240, 208, 130)),
        hole(moved(gap, w + 0.04, y)),
        _stem(rng),
        *_leaf(0.03, -0.66, rng.uniform(0.46, 0.58), rng.uniform(-0.08, -0.02)),
        Part(turned(ellipse(-0.52, -0.12, 0.1, 0.2, 14), 0.06, (-0.52, -0.12)), tint(colour, 0.6)),
    ]


def _apple_worm(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, x, y = rng.uniform(0.84, 0.94), rng.uniform(0.15, 0.35), rng.uniform(0.1, 0.3)
    worm: Colour = (150, 206, 84) if colour[1] < 160 or min(colour) > 150 else (246, 150, 160)
    return [
        *_skin(colour, _flesh(w, 0.84)),
        _stem(rng),
        *_leaf(-0.01, -0.64, rng.uniform(0.46, 0.56), rng.uniform(0.5, 0.56)),
        Part(disc(x, y, 0.17, 16), shade(colour, 0.6)),
        Part(stroke(arc(x + 0.18, y - 0.02, 0.17, 0.26, 0.46, 0.9, 8), 0.15), worm),
        Part(disc(x + 0.33, y - 0.14, 0.13, 14), worm),
        Part(disc(x + 0.36, y - 0.17, 0.045, 8), _DARK),
        Part(ellipse(-0.5, -0.12, 0.1, 0.2, 12), tint(colour, 0.6)),
    ]


def _apple_happy(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, y, eye = rng.uniform(0.86, 0.95), rng.uniform(0.0, 0.12), rng.uniform(0.22, 0.3)
    line = ink(colour)
    return [
        *_skin(colour, _flesh(w, 0.86) * (1.0, 0.92) + (0.0, 0.06)),
        _stem(rng),
        *_leaf(0.03, -0.66, 0.5, rng.uniform(-0.12, -0.05)),
        Part(disc(-eye, y, 0.1, 14), line),
        Part(disc(eye, y, 0.1, 14), line),
        Part(ring_sector(0.0, y + 0.14, 0.12, 0.19, 0.03, 0.47, 8), line),
        Part(ellipse(-0.6, -0.26, 0.08, 0.15, 12), tint(colour, 0.6)),
    ]


CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(
        "mushroom",
        (_mushroom_toad, _mushroom_bell, _mushroom_stout, _mushroom_pair, _mushroom_gills),
        tilt=0.04,
    ),
    ObjectClass("apple", (_apple_plain, _apple_tall, _apple_bitten, _apple_worm, _apple_happy), tilt=0.08),
)
