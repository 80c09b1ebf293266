"""Stars, hats and balloons, and the classes of guitars, mushrooms and apples."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Outline,
    Part,
    arc,
    closed_curve,
    disc,
    ellipse,
    mixed,
    moved,
    ring_sector,
    rounded_box,
    shape,
    stroke,
    turned,
)
from tagmask.miniature.objects import guitars, orchard
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import ink, shade, tint
from tagmask.miniature.objects.forms import spiked, symmetric

__all__ = ["CLASSES"]

_GOLD: Colour = (240, 190, 60)
_WOOD: Colour = (116, 72, 42)
_PALE: Colour = (250, 244, 232)
_DARK: Colour = (46, 44, 54)


# -- Stars ---------------------------------------------------------------------------------------------------


def _star_facets(colour: Colour, rng: np.random.Generator) -> list[Part]:
    tips = spiked(0.0, 0.06, 0.98, rng.uniform(0.4, 0.46), 5)
    middle = (0.0, 0.06)
    dark = [np.concatenate([tips[2 * i : 2 * i + 2], [middle]]) for i in range(5)]
    return [
        Part(tips, colour),
        *[Part(facet, shade(colour, 0.24 - 0.03 * (i % 3))) for i, facet in enumerate(dark)],
    ]


def _star_face(colour: Colour, rng: np.random.Generator) -> list[Part]:
    soft = closed_curve(spiked(0.0, 0.06, 0.94, rng.uniform(0.54, 0.62), 5), 4)
    eye, y = rng.uniform(0.15, 0.22), rng.uniform(-0.12, 0.0)
    line = ink(colour)
    return [
        Part(soft, shade(colour, 0.25)),
        Part(moved(soft, -0.02, -0.02, 0.9, 0.9), colour),
        Part(ellipse(-eye, y, 0.07, 0.1, 12), line),
        Part(ellipse(eye, y, 0.07, 0.1, 12), line),
        Part(ring_sector(0.0, y + 0.1, 0.12, 0.18, 0.05, 0.45, 8), line),
        Part(ellipse(-eye - 0.14, y + 0.16, 0.08, 0.05, 10), (250, 130, 120)),
        Part(ellipse(eye + 0.14, y + 0.16, 0.08, 0.05, 10), (250, 130, 120)),
    ]


def _star_badge(colour: Colour, rng: np.random.Generator) -> list[Part]:
    n = int(rng.integers(5, 8))
    inner = rng.uniform(0.4, 0.48)
    big, small = spiked(0.0, 0.0, 0.84, inner, n), spiked(0.0, 0.0, 0.68, 0.86 * inner, n)
    return [
        *[Part(disc(x, y, 0.11, 12), shade(colour, 0.12)) for x, y in big[::2].tolist()],
        Part(big, shade(colour, 0.28)),
        Part(moved(big, 0.0, 0.0, 0.9, 0.9), tint(colour, 0.3)),
        Part(small, shade(colour, 0.28)),
        Part(moved(small, 0.0, 0.0, 0.88, 0.88), colour),
    ]


def _star_many(colour: Colour, rng: np.random.Generator) -> list[Part]:
    n = int(rng.integers(6, 9))
    outer = spiked(0.0, 0.0, 0.95, rng.uniform(0.5, 0.58), n)
    return [
        Part(outer, shade(colour, 0.3)),
        Part(outer * 0.86, colour),
        Part(outer * 0.5, tint(colour, 0.25)),
    ]


def _star_rim(colour: Colour, rng: np.random.Generator) -> list[Part]:
    inner = rng.uniform(0.42, 0.5)
    edge = _GOLD if max(abs(a - b) for a, b in zip(colour, _GOLD, strict=True)) > 90 else shade(colour, 0.5)
    star = spiked(0.0, 0.06, 0.98, inner, 5)
    return [
        Part(star, edge),
        Part(moved(star, 0.0, 0.01, 0.8, 0.8), colour),
        Part(np.concatenate([star[:6] * 0.8 + (0.0, 0.01), [(0.0, 0.06)]]), shade(colour, 0.16)),
        Part(ellipse(-0.2, -0.12, 0.13, 0.07, 12), tint(colour, 0.6)),
    ]


# -- Hats ----------------------------------------------------------------------------------------------------


def _contrast(colour: Colour, rng: np.random.Generator) -> Colour:
    """For ribbons: a strong colour far from the given one."""
    choices: tuple[Colour, ...] = (
        (206, 48, 52),
        (44, 92, 168),
        (246, 200, 70),
        (250, 246, 236),
        (50, 46, 58),
    )
    far = [c for c in choices if sum(abs(a - b) for a, b in zip(c, colour, strict=True)) > 230]
    return far[int(rng.integers(len(far)))]


def _hat_top(colour: Colour, rng: np.random.Generator) -> list[Part]:
    top, low, y = rng.uniform(0.56, 0.68), rng.uniform(0.46, 0.56), rng.uniform(-0.8, -0.66)
    crown = symmetric((top, y), (0.5 * (top + low) - 0.05, 0.0), (low, 0.62))
    tie, bent = _contrast(colour, rng), 0.14
    band = np.concatenate([arc(0.0, 0.52, low, bent, 0.0, 0.5, 10), arc(0.0, 0.26, low, bent, 0.5, 0.0, 10)])
    return [
        Part(ellipse(0.0, 0.6, 0.95, 0.28), shade(colour, 0.3)),
        Part(ellipse(0.0, 0.55, 0.95, 0.26), shade(colour, 0.1)),
        Part(crown, colour),
        Part(arc(0.0, 0.6, low, bent, 0.0, 0.5, 10), colour),
        Part(np.concatenate([crown[:3], moved(crown[2::-1], 0.0, 0.0, 0.5, 1.0)]), shade(colour, 0.2)),
        Part(band, tie),
        Part(ellipse(0.0, y, top, 0.15), tint(colour, 0.28)),
        Part(stroke([(-0.78 * top, y + 0.24), (-0.82 * low, 0.22)], 0.08), tint(colour, 0.4)),
    ]


def _hat_cap(colour: Colour, rng: np.random.Generator) -> list[Part]:
    high, low, reach = rng.uniform(0.86, 1.0), 0.42, rng.uniform(0.88, 0.95)
    x, w = -0.3, 0.65
    crown = arc(x, low, w, high, 0.5, 1.0, 18)
    brim = [
        (-0.05, 0.34),
        (0.3, 0.26),
        (0.7, 0.36),
        (reach, 0.56),
        (reach - 0.1, 0.62),
        (0.55, 0.52),
        (0.0, 0.54),
    ]
    visor = closed_curve(brim, 4)
    seam = shade(colour, 0.4)
    return [
        Part(crown, colour),
        Part(np.concatenate([arc(x, low, w, high, 0.8, 1.0, 8), [(x + 0.35, low)]]), shade(colour, 0.18)),
        Part(stroke(arc(x - 0.05, low, 0.3, 0.98 * high, 0.52, 0.75, 8), 0.04), seam),
        Part(stroke(arc(x + 0.05, low, 0.3, 0.98 * high, 0.75, 0.98, 8), 0.04), seam),
        Part(rounded_box(x - 0.1, low - high - 0.06, x + 0.1, low - high + 0.06, 0.05), seam),
        Part(rounded_box(x - w, low - 0.09, x + w, low + 0.09, 0.06), shade(colour, 0.3)),
        Part(visor, shade(colour, 0.42)),
        Part(moved(visor, -0.01, -0.02, 1.0, 0.94), shade(colour, 0.12)),
        Part(ellipse(x + 0.22, low - 0.42, 0.13, 0.15, 14), _contrast(colour, rng)),
    ]


def _hat_wizard(colour: Colour, rng: np.random.Generator) -> list[Part]:
    bend, w = rng.uniform(-0.3, 0.35), rng.uniform(0.46, 0.56)
    tie = _contrast(colour, rng)
    tip = 1.5 * bend
    left = [(-w, 0.6), (-w, 0.6), (-0.26, -0.1), (bend - 0.1, -0.7), (tip, -0.95), (tip, -0.95)]
    right = [(bend + 0.12, -0.55), (0.26, -0.1), (w, 0.6), (w, 0.6), (0.0, 0.74)]
    cone = closed_curve(left + right, 3)
    return [
        Part(ellipse(0.0, 0.66, 0.95, 0.27), shade(colour, 0.3)),
        Part(ellipse(0.0, 0.61, 0.95, 0.25), shade(colour, 0.08)),
        Part(cone, colour),
        Part(shape((0.12, -0.2), (0.27, -0.1), (w, 0.6), (0.5 * w, 0.68)), shade(colour, 0.22)),
        Part(
            np.concatenate(
                [arc(0.0, 0.58, w, 0.14, 0.0, 0.5, 8), arc(0.0, 0.38, w - 0.1, 0.14, 0.5, 0.0, 8)]
            ),
            tie,
        ),
        Part(disc(-0.12, 0.08, 0.09, 12), tie),
        Part(disc(0.02 + 0.4 * bend, -0.36, 0.07, 12), tie),
        Part(rounded_box(-0.15, 0.46, 0.15, 0.76, 0.04), _GOLD if tie != (246, 200, 70) else _PALE),
        Part(rounded_box(-0.08, 0.53, 0.08, 0.69, 0.03), tie),
    ]


def _hat_beanie(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, low, w = rng.uniform(0.22, 0.28), rng.uniform(0.42, 0.52), rng.uniform(0.76, 0.84)
    wool = _contrast(colour, rng)
    top = -0.95 + 1.4 * r
    dome = arc(0.0, low, w, low - top, 0.5, 1.0, 20)
    ribs = [x * w for x in (-0.8, -0.46, -0.12, 0.22, 0.56, 0.86)]
    return [
        Part(spiked(0.0, -0.95 + r, r, 0.84 * r, 12), wool),
        Part(disc(-0.03, -0.97 + r, 0.62 * r, 14), tint(wool, 0.4) if sum(wool) < 700 else shade(wool, 0.08)),
        Part(dome, colour),
        Part(dome[13:], shade(colour, 0.16)),
        Part(stroke(arc(0.0, low + 0.1, 1.0, 0.66, 0.62, 0.88, 8), 0.1), wool),
        Part(rounded_box(-w - 0.1, low - 0.04, w + 0.1, 0.9, 0.14), shade(colour, 0.1)),
        *[Part(rounded_box(x - 0.03, low + 0.0, x + 0.03, 0.86, 0.02), shade(colour, 0.38)) for x in ribs],
    ]


def _hat_straw(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, top = rng.uniform(0.48, 0.56), rng.uniform(-0.62, -0.5)
    tie = _contrast(colour, rng)
    crown = symmetric((0.0, top), (0.7 * w, top + 0.03), (w, 0.0), (w + 0.02, 0.4), (0.0, 0.5), steps=4)
    bow = symmetric((0.0, 0.0), (0.18, -0.12), (0.2, 0.12), steps=3)
    return [
        Part(ellipse(0.0, 0.36, 0.95, 0.36), shade(colour, 0.3)),
        Part(ellipse(0.0, 0.3, 0.95, 0.34), tint(colour, 0.15)),
        Part(stroke(arc(0.0, 0.3, 0.78, 0.26, 0.05, 0.45, 12), 0.035), shade(colour, 0.2)),
        Part(crown, shade(colour, 0.2)),
        Part(moved(crown, -0.03, 0.0, 0.92, 0.97), colour),
        Part(
            np.concatenate([arc(0.0, 0.34, w + 0.02, 0.15, 0.0, 0.5), arc(0.0, 0.12, w, 0.13, 0.5, 0.0)]), tie
        ),
        Part(moved(bow, 0.5 * w, 0.36), tie),
        Part(disc(0.5 * w, 0.36, 0.06, 10), shade(tie, 0.3)),
    ]


def _hat_cowboy(colour: Colour, rng: np.random.Generator) -> list[Part]:
    up, dip, w = rng.uniform(-0.16, 0.0), rng.uniform(-0.5, -0.38), rng.uniform(0.48, 0.54)
    brim = symmetric((0.0, 0.36), (0.55, 0.22), (0.95, up), (0.88, 0.34), (0.5, 0.6), (0.0, 0.7), steps=4)
    crown = symmetric((0.0, dip), (0.24, -0.7), (0.42, -0.6), (w, 0.1), (w, 0.42), (0.0, 0.56), steps=4)
    return [
        Part(moved(brim, 0.0, 0.05), shade(colour, 0.35)),
        Part(brim, shade(colour, 0.1)),
        Part(crown, colour),
        Part(
            np.concatenate([crown[6 : len(crown) // 2 - 3], shape((0.2, 0.5), (0.16, -0.4))]),
            shade(colour, 0.18),
        ),
        Part(
            symmetric((0.0, dip + 0.02), (0.16, dip - 0.08), (0.0, dip + 0.36), steps=3), shade(colour, 0.35)
        ),
        Part(
            np.concatenate([arc(0.0, 0.38, w, 0.16, 0.0, 0.5), arc(0.0, 0.2, w, 0.16, 0.5, 0.0)]),
            _contrast(colour, rng),
        ),
    ]


# -- Balloons ------------------------------------------------------------------------------------------------


def _balloon(colour: Colour, rng: np.random.Generator, w: float, low: float) -> tuple[list[Part], Outline]:
    """The string, the knot and the skin, and the skin's outline."""
    skin = symmetric(
        (0.0, -0.95),
        (0.58 * w, -0.82),
        (w, -0.36),
        (0.82 * w, 0.02),
        (0.42 * w, low - 0.08),
        (0.09, low),
        steps=4,
    )
    t = np.linspace(0.0, 1.0, 9)
    wave = rng.uniform(0.05, 0.12) * np.sin((t * rng.uniform(0.8, 1.4) + rng.integers(2) * 0.5) * 2 * np.pi)
    line = np.stack([wave, low + (0.95 - low) * t], axis=1)
    parts = [
        Part(stroke(line, 0.055), (120, 112, 116)),
        Part(shape((0.0, low - 0.04), (0.13, low + 0.13), (-0.13, low + 0.13)), shade(colour, 0.35)),
        Part(skin, shade(colour, 0.2)),
        Part(moved(skin, -0.05 * w, -0.03, 0.88, 0.93), colour),
    ]
    return parts, skin


def _glint(colour: Colour, w: float) -> Part:
    return Part(turned(ellipse(-0.48 * w, -0.6, 0.09, 0.17, 14), 0.08, (-0.48 * w, -0.6)), tint(colour, 0.7))


def _balloon_plain(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w = rng.uniform(0.54, 0.62)
    parts, _ = _balloon(colour, rng, w, rng.uniform(0.24, 0.36))
    return [*parts, _glint(colour, w), Part(disc(-0.66 * w, -0.28, 0.05, 10), tint(colour, 0.7))]


def _balloon_dots(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w = rng.uniform(0.56, 0.66)
    parts, _ = _balloon(colour, rng, w, rng.uniform(0.24, 0.36))
    dot = tint(colour, 0.65) if min(colour) < 190 else shade(colour, 0.3)
    a = rng.uniform(-0.08, 0.08)
    spots = [(0.35, -0.62), (-0.02, -0.38 + a), (0.45, -0.22), (-0.42, -0.14), (0.1, 0.0 + a)]
    return [*parts, *[Part(disc(x * w / 0.62, y, 0.11, 14), dot) for x, y in spots], _glint(colour, w)]


def _balloon_bands(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, low = rng.uniform(0.54, 0.62), rng.uniform(0.26, 0.38)
    parts, skin = _balloon(colour, rng, w, low)
    pale = tint(colour, 0.55) if min(colour) < 190 else shade(colour, 0.28)
    return [
        *parts,
        Part(moved(skin, 0.0, -0.02, 0.6, 0.97), pale),
        Part(moved(skin, 0.0, -0.02, 0.3, 0.97), colour),
        _glint(colour, w),
    ]


def _balloon_happy(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, y, eye = rng.uniform(0.58, 0.66), rng.uniform(-0.5, -0.4), rng.uniform(0.18, 0.24)
    parts, _ = _balloon(colour, rng, w, rng.uniform(0.26, 0.36))
    line = ink(colour)
    return [
        *parts,
        Part(ellipse(-eye, y, 0.07, 0.11, 12), line),
        Part(ellipse(eye, y, 0.07, 0.11, 12), line),
        Part(arc(0.0, y + 0.2, 0.2, 0.2, 0.0, 0.5, 10), line),
        _glint(colour, w),
    ]


def _balloon_ribbon(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, low = rng.uniform(0.52, 0.6), rng.uniform(0.26, 0.34)
    parts, _ = _balloon(colour, rng, w, low)
    tie = _contrast(colour, rng)
    bow = symmetric((0.0, -0.03), (0.2, -0.13), (0.22, 0.13), (0.0, 0.03))
    zig = np.concatenate(
        [arc(0.0, -0.32, w, 0.16, 0.46, 0.04, 10), arc(0.0, -0.5, 0.96 * w, 0.16, 0.04, 0.46, 10)]
    )
    return [
        *parts,
        Part(zig, mixed(colour, tie, 0.8)),
        Part(moved(bow, 0.0, low + 0.14), tie),
        _glint(colour, w),
    ]


CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("star", (_star_facets, _star_face, _star_badge, _star_many, _star_rim), tilt=0.5),
    ObjectClass("hat", (_hat_top, _hat_cap, _hat_wizard, _hat_beanie, _hat_straw, _hat_cowboy), tilt=0.06),
    ObjectClass(
        "balloon", (_balloon_plain, _balloon_dots, _balloon_bands, _balloon_happy, _balloon_ribbon), tilt=0.06
    ),
    *guitars.CLASSES,
    *orchard.CLASSES,
)
