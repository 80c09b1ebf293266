"""Chairs, bottles and lamps."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Part,
    arc,
    box,
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
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import ink, shade, tint
from tagmask.miniature.objects.forms import symmetric

__all__ = ["CLASSES"]

_WOOD: Colour = (150, 98, 56)
_STEEL: Colour = (128, 134, 148)
_DARK: Colour = (50, 50, 60)
_CORK: Colour = (206, 160, 106)
_PAPER: Colour = (252, 244, 224)
_GLOW: Colour = (255, 226, 120)


# -- Chairs --------------------------------------------------------------------------------------------------


def _chair_slats(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, seat, n = rng.uniform(0.4, 0.48), rng.uniform(-0.12, 0.02), int(rng.integers(2, 4))
    back = np.linspace(-0.88, seat - 0.5, n)
    leg, out = shade(colour, 0.28), w + 0.14
    return [
        Part(box(-w, seat, -w + 0.12, 0.8), shade(colour, 0.45)),
        Part(box(w - 0.12, seat, w, 0.8), shade(colour, 0.45)),
        *[
            Part(rounded_box(-w, y, w, y + 0.22, 0.05), shade(colour, 0.12 * (i % 2)))
            for i, y in enumerate(back)
        ],
        Part(rounded_box(-w - 0.04, -0.95, -w + 0.13, seat + 0.1, 0.06), colour),
        Part(rounded_box(w - 0.13, -0.95, w + 0.04, seat + 0.1, 0.06), shade(colour)),
        Part(box(-out, seat + 0.25, -out + 0.16, 0.95), leg),
        Part(box(out - 0.16, seat + 0.25, out, 0.95), leg),
        Part(
            shape((-w, seat), (w, seat), (out + 0.04, seat + 0.24), (-out - 0.04, seat + 0.24)),
            tint(colour, 0.22),
        ),
        Part(rounded_box(-out - 0.04, seat + 0.22, out + 0.04, seat + 0.36, 0.04), colour),
    ]


def _chair_side(colour: Colour, rng: np.random.Generator) -> list[Part]:
    lean, seat, w = rng.uniform(0.06, 0.2), rng.uniform(-0.06, 0.08), rng.uniform(0.15, 0.19)
    wood = shade(colour, 0.22)
    post = [(-0.52 - lean, -0.95), (-0.46, seat), (-0.52 - 0.5 * lean, 0.95)]
    return [
        Part(stroke([(-0.3, seat), (-0.24, 0.86)], 0.1), shade(colour, 0.45)),
        Part(stroke([(0.36, seat), (0.34, 0.86)], 0.1), shade(colour, 0.45)),
        Part(stroke([(-0.48, seat + 0.5), (0.52, seat + 0.5)], 0.08), wood),
        Part(stroke(post, w), wood),
        Part(stroke([(0.5, seat), (0.56, 0.95)], w), wood),
        Part(stroke([(-0.47 - lean, -0.88), (-0.41 - 0.1 * lean, seat - 0.16)], 0.2), colour),
        Part(rounded_box(-0.6, seat - 0.1, 0.66, seat + 0.18, 0.1), colour),
        Part(rounded_box(-0.56, seat + 0.07, 0.62, seat + 0.18, 0.05), shade(colour, 0.12)),
        Part(rounded_box(-0.5, seat - 0.08, 0.5, seat - 0.02, 0.03), tint(colour, 0.4)),
    ]


def _chair_arm(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, arm, top = rng.uniform(0.6, 0.7), rng.uniform(-0.12, 0.05), rng.uniform(0.2, 0.4)
    return [
        Part(shape((-0.72, 0.7), (-0.5, 0.7), (-0.6, 0.95), (-0.72, 0.95)), _WOOD),
        Part(shape((0.72, 0.7), (0.5, 0.7), (0.6, 0.95), (0.72, 0.95)), _WOOD),
        Part(rounded_box(-w, -0.92, w, 0.5, top), shade(colour, 0.1)),
        Part(rounded_box(-w + 0.1, -0.82, w - 0.1, 0.3, 0.8 * top), colour),
        *[
            Part(disc(a, b, 0.045, 8), shade(colour, 0.35))
            for a, b in ((-0.25, -0.45), (0.25, -0.45), (0.0, -0.2))
        ],
        Part(rounded_box(-0.6, 0.36, 0.6, 0.8, 0.08), shade(colour, 0.25)),
        Part(rounded_box(-0.58, 0.12, 0.58, 0.44, 0.12), tint(colour, 0.2)),
        Part(rounded_box(-0.95, arm, -0.5, 0.8, 0.2), colour),
        Part(rounded_box(0.5, arm, 0.95, 0.8, 0.2), shade(colour, 0.16)),
        Part(ellipse(-0.73, arm + 0.2, 0.12, 0.1, 14), tint(colour, 0.3)),
        Part(ellipse(0.73, arm + 0.2, 0.12, 0.1, 14), tint(colour, 0.15)),
    ]


def _chair_office(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, seat, soft = rng.uniform(0.46, 0.56), rng.uniform(0.1, 0.2), rng.uniform(0.12, 0.28)
    metal = _STEEL if sum(colour) < 300 else _DARK
    return [
        Part(box(-0.09, seat, 0.09, 0.76), metal),
        Part(
            shape((-0.62, 0.8), (-0.06, 0.62), (0.06, 0.62), (0.62, 0.8), (0.62, 0.88), (-0.62, 0.88)), metal
        ),
        *[Part(disc(x, 0.87, 0.09, 10), mixed(metal, (0, 0, 0), 0.3)) for x in (-0.56, 0.0, 0.56)],
        Part(box(-0.1, seat - 0.4, 0.1, seat), metal),
        Part(rounded_box(-w, -0.95, w, seat - 0.2, soft), shade(colour)),
        Part(rounded_box(-w, -0.95, w - 0.1, seat - 0.25, soft), colour),
        Part(rounded_box(-w + 0.12, seat - 0.6, w - 0.22, seat - 0.52, 0.03), shade(colour, 0.3)),
        Part(stroke([(-w - 0.2, seat - 0.25), (-w - 0.2, seat + 0.1), (-w + 0.1, seat + 0.15)], 0.09), metal),
        Part(stroke([(w + 0.2, seat - 0.25), (w + 0.2, seat + 0.1), (w - 0.1, seat + 0.15)], 0.09), metal),
        Part(rounded_box(-w - 0.32, seat - 0.32, -w - 0.04, seat - 0.2, 0.05), metal),
        Part(rounded_box(w + 0.04, seat - 0.32, w + 0.32, seat - 0.2, 0.05), metal),
        Part(rounded_box(-w - 0.12, seat, w + 0.12, seat + 0.28, 0.13), shade(colour, 0.12)),
        Part(rounded_box(-w - 0.08, seat, w + 0.06, seat + 0.16, 0.08), tint(colour, 0.25)),
    ]


def _chair_round(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, seat, bend = rng.uniform(0.46, 0.53), rng.uniform(0.18, 0.26), rng.uniform(0.05, 0.16)
    wood = _WOOD if abs(sum(colour) - sum(_WOOD)) > 90 else (240, 214, 150)
    y = -0.95 + r
    return [
        Part(stroke([(-0.36, seat), (-0.34, 0.84)], 0.1), shade(wood, 0.35)),
        Part(stroke([(0.36, seat), (0.34, 0.84)], 0.1), shade(wood, 0.35)),
        Part(stroke([(-0.22, y + 0.6 * r), (-0.3, seat + 0.1)], 0.12), wood),
        Part(stroke([(0.22, y + 0.6 * r), (0.3, seat + 0.1)], 0.12), wood),
        Part(disc(0.0, y, r), wood),
        Part(disc(0.0, y, r - 0.09), shade(colour, 0.18)),
        Part(disc(-0.02, y - 0.02, r - 0.13), colour),
        Part(stroke([(-0.48, seat + 0.1), (-0.6 + bend, 0.6), (-0.6, 0.95)], 0.14), wood),
        Part(stroke([(0.48, seat + 0.1), (0.6 - bend, 0.6), (0.6, 0.95)], 0.14), wood),
        Part(rounded_box(-0.64, seat + 0.04, 0.64, seat + 0.22, 0.08), wood),
        Part(ellipse(0.0, seat + 0.03, 0.62, 0.18), shade(colour, 0.12)),
        Part(ellipse(0.0, seat, 0.6, 0.15), colour),
        Part(ellipse(-0.12, seat - 0.04, 0.32, 0.06, 14), tint(colour, 0.35)),
    ]


# -- Bottles -------------------------------------------------------------------------------------------------


def _bottle_wine(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, neck, hip = rng.uniform(0.32, 0.4), rng.uniform(0.1, 0.13), rng.uniform(-0.2, 0.0)
    body = symmetric(
        (neck, -0.8), (neck, hip - 0.24), (0.7 * w, hip - 0.12), (w, hip + 0.06), (w, 0.9), (w - 0.06, 0.95)
    )
    label, line = hip + rng.uniform(0.22, 0.32), mixed(_PAPER, ink(_PAPER), 0.6)
    return [
        Part(rounded_box(-0.09, -0.95, 0.09, -0.76, 0.03), _CORK),
        Part(body, colour),
        Part(
            np.concatenate([body[:6], shape((0.55 * w, 0.95), (0.55 * w, hip), (0.4 * neck, hip - 0.2))]),
            shade(colour),
        ),
        Part(rounded_box(-neck - 0.04, -0.82, neck + 0.04, -0.7, 0.03), shade(colour, 0.35)),
        Part(box(-w, label, w, label + 0.44), _PAPER),
        Part(box(-0.6 * w, label + 0.1, 0.6 * w, label + 0.17), line),
        Part(box(-0.4 * w, label + 0.25, 0.4 * w, label + 0.3), line),
        Part(rounded_box(-w + 0.06, hip + 0.04, -w + 0.13, label - 0.03, 0.03), tint(colour, 0.6)),
        Part(box(-neck + 0.04, -0.66, -neck + 0.09, hip - 0.26), tint(colour, 0.5)),
    ]


def _bottle_soda(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, waist = rng.uniform(0.36, 0.42), rng.uniform(0.27, 0.31)
    body = symmetric(
        (0.12, -0.82),
        (0.13, -0.5),
        (w - 0.04, -0.12),
        (w, 0.1),
        (waist, 0.42),
        (w, 0.82),
        (0.75 * w, 0.95),
        steps=4,
    )
    band = rng.uniform(-0.02, 0.06)
    metal: Colour = (206, 54, 48) if colour[0] < 170 or min(colour) > 120 else (236, 196, 60)
    return [
        Part(body, shade(colour, 0.22)),
        Part(moved(body, -0.035, 0.0, 0.82, 0.99), colour),
        Part(rounded_box(-w + 0.0, band, w, band + 0.26, 0.05), _PAPER),
        Part(stroke([(-0.6 * w, band + 0.16), (-0.1 * w, band + 0.09), (0.6 * w, band + 0.15)], 0.06), metal),
        Part(rounded_box(-0.17, -0.95, 0.17, -0.8, 0.04), metal),
        Part(box(-0.15, -0.82, 0.15, -0.76), shade(metal, 0.3)),
        Part(ellipse(-0.55 * w, 0.66, 0.05, 0.14, 12), tint(colour, 0.6)),
        Part(ellipse(-0.06, -0.5, 0.03, 0.16, 10), tint(colour, 0.6)),
    ]


def _bottle_water(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, hip = rng.uniform(0.36, 0.44), rng.uniform(-0.5, -0.38)
    cap = ink(colour)
    ribs = np.linspace(hip + 0.7, 0.8, 3)
    return [
        Part(box(-0.15, -0.8, 0.15, hip), shade(colour, 0.15)),
        Part(rounded_box(-w, hip, w, 0.95, 0.16), colour),
        Part(shape((-0.15, -0.6), (0.15, -0.6), (w, hip + 0.18), (-w, hip + 0.18)), colour),
        Part(
            shape(
                (0.06, -0.6), (0.15, -0.6), (w, hip + 0.18), (w, 0.84), (0.5 * w, 0.95), (0.5 * w, hip + 0.1)
            ),
            shade(colour, 0.15),
        ),
        Part(rounded_box(-0.19, -0.95, 0.19, -0.72, 0.05), cap),
        Part(
            box(-w, hip + 0.28, w, hip + 0.62),
            tint(colour, 0.6) if min(colour) < 190 else shade(colour, 0.35),
        ),
        Part(symmetric((0.0, hip + 0.3), (0.1, hip + 0.45), (0.0, hip + 0.58), steps=4), shade(colour, 0.1)),
        *[Part(rounded_box(-w + 0.04, y, w - 0.04, y + 0.05, 0.02), shade(colour, 0.3)) for y in ribs],
        Part(rounded_box(-w + 0.07, hip + 0.12, -w + 0.14, 0.8, 0.03), tint(colour, 0.7)),
    ]


def _bottle_potion(colour: Colour, rng: np.random.Generator) -> list[Part]:
    r, neck, fill = rng.uniform(0.6, 0.66), rng.uniform(0.15, 0.19), rng.uniform(-0.1, -0.04)
    y, glass = 0.95 - r, tint(colour, 0.62) if min(colour) < 170 else (168, 200, 214)
    return [
        Part(shape((-0.12, -0.95), (0.12, -0.95), (0.1, -0.6), (-0.1, -0.6)), _CORK),
        Part(box(-neck, -0.72, neck, -0.1), glass),
        Part(disc(0.0, y, r, 32), glass),
        Part(arc(0.0, y, r - 0.06, r - 0.06, fill, 0.5 - fill, 22), colour),
        Part(ring_sector(0.0, y, r - 0.2, r - 0.06, 0.02, 0.24, 8), shade(colour, 0.2)),
        Part(rounded_box(-neck - 0.06, -0.78, neck + 0.06, -0.66, 0.04), shade(glass, 0.2)),
        Part(disc(0.1, y + 0.1, 0.07, 10), tint(colour, 0.5)),
        Part(disc(-0.15, y + 0.26, 0.05, 8), tint(colour, 0.5)),
        Part(ring_sector(0.0, y, r - 0.17, r - 0.1, 0.42, 0.6, 6), (255, 255, 255)),
    ]


def _bottle_sauce(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, shoulder = rng.uniform(0.36, 0.44), rng.uniform(-0.4, -0.28)
    cap = ink(colour) if min(colour) < 200 else (210, 66, 56)
    body = symmetric(
        (0.16, shoulder - 0.16), (w - 0.06, shoulder), (w, 0.3), (w - 0.06, 0.88), (0.3, 0.95), steps=4
    )
    return [
        Part(shape((-0.045, -0.95), (0.045, -0.95), (0.17, -0.55), (-0.17, -0.55)), cap),
        Part(rounded_box(-0.25, -0.6, 0.25, shoulder - 0.06, 0.05), shade(cap, 0.25)),
        Part(body, shade(colour, 0.2)),
        Part(moved(body, -0.04, 0.0, 0.84, 0.985), colour),
        Part(ellipse(0.0, 0.3, 0.27, rng.uniform(0.24, 0.34), 20), _PAPER if min(colour) < 200 else cap),
        Part(disc(0.0, 0.32, 0.13, 14), shade(colour, 0.1)),
        Part(rounded_box(-w + 0.08, shoulder + 0.1, -w + 0.15, 0.05, 0.03), tint(colour, 0.55)),
    ]


# -- Lamps ---------------------------------------------------------------------------------------------------


def _metal(colour: Colour) -> Colour:
    """Colour of stands: brass, or steel if brass is too close to the lamp's colour."""
    return (
        (190, 144, 74) if abs(colour[0] - 190) + abs(colour[1] - 144) + abs(colour[2] - 74) > 130 else _STEEL
    )


def _lamp_table(colour: Colour, rng: np.random.Generator) -> list[Part]:
    top, low, end = rng.uniform(0.34, 0.5), rng.uniform(0.74, 0.88), rng.uniform(-0.05, 0.1)
    metal, belly = _metal(colour), rng.uniform(0.22, 0.34)
    vase = symmetric((0.08, end), (0.1, end + 0.12), (belly, 0.5), (0.14, 0.76), (0.3, 0.9), steps=4)
    return [
        Part(vase, metal),
        Part(vase[: len(vase) // 2], shade(metal)),
        Part(rounded_box(-0.36, 0.83, 0.36, 0.95, 0.05), shade(metal, 0.35)),
        Part(ellipse(0.0, end, low, 0.09), _GLOW),
        Part(shape((-top, -0.93), (top, -0.93), (low, end), (-low, end)), colour),
        Part(shape((0.45 * top, -0.93), (top, -0.93), (low, end), (0.45 * low, end)), shade(colour, 0.16)),
        Part(
            shape((-0.7 * top, -0.93), (-0.4 * top, -0.93), (-0.4 * low, end), (-0.7 * low, end)),
            tint(colour, 0.3),
        ),
        Part(
            shape((-low + 0.03, end - 0.09), (low - 0.03, end - 0.09), (low, end), (-low, end)),
            shade(colour, 0.4),
        ),
        Part(
            shape((-top, -0.95), (top, -0.95), (top + 0.03, -0.87), (-top - 0.03, -0.87)), shade(colour, 0.4)
        ),
    ]


def _lamp_desk(colour: Colour, rng: np.random.Generator) -> list[Part]:
    elbow = (rng.uniform(-0.72, -0.55), rng.uniform(-0.25, -0.05))
    neck, aim = (0.1, -0.68), rng.uniform(0.0, 0.05)
    foot, rod = -0.3, ink(colour)
    head = symmetric((0.12, -0.26), (0.2, -0.1), (0.5, 0.42), (0.0, 0.42))
    spot = (0.22, -0.5)
    bulb = moved(ellipse(0.0, 0.42, 0.24, 0.2, 16), *spot)
    return [
        Part(stroke([(foot, 0.84), elbow], 0.11), rod),
        Part(stroke([elbow, neck], 0.11), rod),
        Part(disc(*elbow, 0.12, 14), shade(colour)),
        Part(arc(foot, 0.95, 0.55, 0.24, 0.5, 1.0, 14), colour),
        Part(arc(foot, 0.95, 0.55, 0.24, 0.78, 1.0, 6), shade(colour)),
        Part(box(foot - 0.55, 0.89, foot + 0.55, 0.95), shade(colour, 0.35)),
        Part(turned(bulb, -0.07 - aim, spot), _GLOW),
        Part(turned(moved(head, *spot, 1.25, 1.0), -0.07 - aim, spot), colour),
        Part(turned(moved(head[:4] * (1.0, 1.0), *spot, 1.25, 1.0), -0.07 - aim, spot), shade(colour, 0.18)),
        Part(disc(*neck, 0.09, 12), shade(colour, 0.35)),
    ]


def _lamp_floor(colour: Colour, rng: np.random.Generator) -> list[Part]:
    top, low, end = rng.uniform(0.3, 0.4), rng.uniform(0.5, 0.6), rng.uniform(-0.3, -0.2)
    wood, spread = _WOOD if rng.random() < 0.5 else _metal(colour), rng.uniform(0.36, 0.5)
    return [
        Part(stroke([(0.0, end), (0.0, 0.9)], 0.1), shade(wood, 0.25)),
        Part(stroke([(0.0, end + 0.1), (-spread, 0.95)], 0.11), wood),
        Part(stroke([(0.0, end + 0.1), (spread, 0.95)], 0.11), wood),
        Part(ellipse(0.0, end, low, 0.08), _GLOW),
        Part(shape((-top, -0.95), (top, -0.95), (low, end), (-low, end)), colour),
        Part(shape((0.4 * top, -0.95), (top, -0.95), (low, end), (0.4 * low, end)), shade(colour, 0.18)),
        Part(
            shape((-low, end), (low, end), (low - 0.03, end - 0.09), (-low + 0.03, end - 0.09)),
            tint(colour, 0.4),
        ),
    ]


def _lamp_hanging(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, top, end = rng.uniform(0.82, 0.94), rng.uniform(-0.4, -0.25), rng.uniform(0.45, 0.6)
    dome = symmetric((0.14, top), (0.3, top + 0.12), (0.75 * w, end - 0.34), (w, end), (w, end))
    return [
        Part(box(-0.035, -0.95, 0.035, top), ink(colour) if min(colour) < 200 else _DARK),
        Part(box(-0.2, -0.95, 0.2, -0.87), _DARK),
        Part(disc(0.0, end + 0.04, 0.27, 20), _GLOW),
        Part(arc(0.0, end + 0.04, 0.27, 0.27, 0.1, 0.4, 10), (255, 244, 190)),
        Part(ellipse(0.0, end, w, 0.12), shade(colour, 0.45)),
        Part(arc(0.0, end + 0.04, 0.27, 0.27, 0.0, 0.5, 12), _GLOW),
        Part(dome, colour),
        Part(np.concatenate([dome[:5], moved(dome[3::-1], 0.0, 0.0, 0.4, 1.0)]), shade(colour, 0.16)),
        Part(rounded_box(-0.16, top - 0.16, 0.16, top + 0.06, 0.05), shade(colour, 0.4)),
        Part(stroke([(-0.27, top + 0.24), (-0.62 * w, end - 0.22)], 0.08), tint(colour, 0.45)),
        Part(box(-w, end - 0.07, w, end), shade(colour, 0.35)),
    ]


def _lamp_ball(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, end, r = rng.uniform(0.56, 0.66), rng.uniform(-0.1, 0.02), rng.uniform(0.32, 0.38)
    foot = (238, 232, 222) if min(colour) < 190 else (86, 130, 150)
    pleats = [x * w for x in (-0.68, -0.2, 0.28, 0.76)]
    return [
        Part(box(-0.06, end, 0.06, 0.5), _metal(colour)),
        Part(disc(0.0, 0.88 - r, r), foot),
        Part(arc(0.0, 0.88 - r, r, r, -0.18, 0.22, 12), shade(foot, 0.15)),
        Part(rounded_box(-0.3, 0.83, 0.3, 0.95, 0.04), _metal(colour)),
        Part(rounded_box(-w + 0.06, end - 0.05, w - 0.06, end + 0.06, 0.05), _GLOW),
        Part(rounded_box(-w, -0.95, w, end, 0.07), colour),
        *[Part(box(x, -0.88, x + 0.12 * w, end - 0.07), shade(colour, 0.16)) for x in pleats],
        Part(rounded_box(-w, -0.95, w, -0.85, 0.04), shade(colour, 0.35)),
        Part(rounded_box(-w, end - 0.1, w, end, 0.04), shade(colour, 0.35)),
    ]


CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("chair", (_chair_slats, _chair_side, _chair_arm, _chair_office, _chair_round), tilt=0.03),
    ObjectClass(
        "bottle", (_bottle_wine, _bottle_soda, _bottle_water, _bottle_potion, _bottle_sauce), tilt=0.06
    ),
    ObjectClass("lamp", (_lamp_table, _lamp_desk, _lamp_floor, _lamp_hanging, _lamp_ball), tilt=0.03),
)
