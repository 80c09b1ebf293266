"""Guitars."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Part,
    arc,
    box,
    closed_curve,
    disc,
    moved,
    rounded_box,
    shape,
    stroke,
)
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import ink, shade, tint
from tagmask.miniature.objects.forms import symmetric

__all__ = ["CLASSES"]

_WOOD: Colour = (112, 70, 42)
_STEEL: Colour = (196, 200, 208)
_PALE: Colour = (252, 246, 230)
_DARK: Colour = (44, 40, 48)


def _neck(colour: Colour, low: float, width: float) -> list[Part]:
    """Fingerboard, head and pegs, down to the body."""
    wood = _WOOD if sum(abs(a - b) for a, b in zip(colour, _WOOD, strict=True)) > 120 else (222, 180, 124)
    return [
        *[Part(rounded_box(-0.21, y, 0.21, y + 0.08, 0.035), _STEEL) for y in (-0.91, -0.78)],
        Part(symmetric((0.15, -0.95), (0.12, -0.64), (width, -0.58)), shade(wood, 0.3)),
        Part(box(-width, -0.64, width, low), wood),
        Part(box(-width, -0.44, width, -0.41), _STEEL),
        Part(box(-width, -0.24, width, -0.21), _STEEL),
    ]


def _wide(parts: list[Part]) -> list[Part]:
    """A little plumper than drawn: the body must still be seen when the whole is small."""
    return [Part(part.outline * (1.16, 1.0), part.colour) for part in parts]


def _strings(low: float) -> list[Part]:
    return [Part(box(x - 0.011, -0.62, x + 0.011, low), _PALE) for x in (-0.05, 0.05)]


def _guitar_acoustic(colour: Colour, rng: np.random.Generator) -> list[Part]:
    a, b = rng.uniform(0.36, 0.42), rng.uniform(0.5, 0.58)
    body = symmetric(
        (0.0, -0.16),
        (0.2, -0.17),
        (a, 0.0),
        (a - 0.07, 0.28),
        (b - 0.04, 0.48),
        (b, 0.7),
        (0.34, 0.93),
        (0.0, 0.95),
        steps=4,
    )
    return _wide(
        [
            Part(body, shade(colour, 0.4)),
            Part(moved(body, 0.0, 0.03, 0.9, 0.92), colour),
            Part(disc(0.0, 0.24, 0.2, 20), _PALE),
            Part(disc(0.0, 0.24, 0.16, 20), _DARK),
            *_neck(colour, 0.12, 0.085),
            Part(rounded_box(-0.24, 0.62, 0.24, 0.72, 0.04), ink(colour)),
            *_strings(0.66),
            Part(stroke(arc(0.0, 0.62, b - 0.12, 0.26, 0.3, 0.46, 6), 0.05), tint(colour, 0.5)),
        ]
    )


def _guitar_electric(colour: Colour, rng: np.random.Generator) -> list[Part]:
    horn, w = rng.uniform(-0.2, -0.08), rng.uniform(0.46, 0.54)
    plate = _PALE if min(colour) < 200 else _DARK
    body = closed_curve(
        [
            (-0.1, 0.12),
            (-0.28, -0.04),
            (-0.46, horn),
            (-0.44, 0.16),
            (-0.38, 0.34),
            (-w, 0.66),
            (-0.3, 0.93),
            (0.06, 0.94),
            (0.44, 0.84),
            (w, 0.58),
            (0.36, 0.3),
            (0.44, 0.12),
            (0.38, 0.0),
            (0.24, 0.06),
            (0.1, 0.16),
        ],
        4,
    )
    pick = closed_curve(
        [(-0.12, 0.18), (-0.24, 0.24), (-0.16, 0.5), (0.1, 0.72), (0.27, 0.62), (0.18, 0.24)], 4
    )
    return _wide(
        [
            Part(body, shade(colour, 0.35)),
            Part(moved(body, -0.01, 0.02, 0.92, 0.94), colour),
            Part(pick, plate),
            *_neck(colour, 0.26, 0.085),
            Part(rounded_box(-0.16, 0.34, 0.16, 0.42, 0.03), _STEEL),
            Part(rounded_box(-0.16, 0.5, 0.16, 0.58, 0.03), _STEEL),
            Part(rounded_box(-0.18, 0.67, 0.18, 0.77, 0.03), _STEEL),
            *_strings(0.7),
            Part(disc(0.3, 0.74, 0.055, 10), ink(colour)),
            Part(disc(0.4, 0.6, 0.055, 10), ink(colour)),
        ]
    )


def _guitar_vee(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w, notch = rng.uniform(0.54, 0.64), rng.uniform(0.5, 0.62)
    body = symmetric(
        (0.14, -0.14), (0.22, -0.06), (w + 0.06, 0.84), (w - 0.08, 0.95), (w - 0.22, 0.92), (0.0, notch)
    )
    return _wide(
        [
            Part(body, shade(colour, 0.35)),
            Part(moved(body, 0.0, 0.015, 0.88, 0.96), colour),
            Part(body[:6] * (0.88, 0.96) + (0.0, 0.015), shade(colour, 0.16)),
            *_neck(colour, 0.06, 0.085),
            Part(rounded_box(-0.15, 0.12, 0.15, 0.2, 0.03), _DARK),
            Part(rounded_box(-0.15, 0.27, 0.15, 0.35, 0.03), _DARK),
            Part(rounded_box(-0.16, 0.42, 0.16, 0.49, 0.03), _STEEL),
            *_strings(0.45),
            Part(disc(0.34, 0.66, 0.05, 10), ink(colour)),
        ]
    )


def _guitar_single(colour: Colour, rng: np.random.Generator) -> list[Part]:
    w = rng.uniform(0.48, 0.56)
    body = closed_curve(
        [
            (-0.08, -0.02),
            (-0.34, -0.04),
            (-0.44, 0.14),
            (-0.36, 0.34),
            (-w, 0.64),
            (-0.34, 0.92),
            (0.0, 0.95),
            (0.34, 0.92),
            (w, 0.64),
            (0.36, 0.36),
            (0.44, 0.1),
            (0.3, 0.02),
            (0.2, 0.2),
            (0.1, 0.16),
        ],
        4,
    )
    burst = _DARK if sum(colour) > 260 else _PALE
    return _wide(
        [
            Part(body, burst),
            Part(moved(body, 0.0, 0.02, 0.9, 0.94), shade(colour, 0.25)),
            Part(moved(body, 0.0, 0.04, 0.78, 0.88), colour),
            *_neck(colour, 0.22, 0.085),
            Part(rounded_box(-0.17, 0.28, 0.17, 0.38, 0.03), _STEEL),
            Part(rounded_box(-0.17, 0.48, 0.17, 0.58, 0.03), _STEEL),
            Part(rounded_box(-0.19, 0.7, 0.19, 0.76, 0.03), (226, 184, 70)),
            *_strings(0.73),
            *[
                Part(disc(x, y, 0.05, 10), (226, 184, 70))
                for x, y in ((0.32, 0.56), (0.24, 0.82), (0.38, 0.7))
            ],
        ]
    )


def _guitar_hollow(colour: Colour, rng: np.random.Generator) -> list[Part]:
    a, b = rng.uniform(0.44, 0.5), rng.uniform(0.56, 0.64)
    body = symmetric(
        (0.1, 0.02), (0.22, -0.12), (a, -0.06), (a - 0.08, 0.28), (b, 0.6), (0.4, 0.92), (0.0, 0.95), steps=4
    )
    slit = stroke([(-0.33, 0.34), (-0.27, 0.42), (-0.33, 0.62), (-0.27, 0.7)], 0.06)
    return _wide(
        [
            Part(body, _PALE if min(colour) < 200 else _DARK),
            Part(moved(body, 0.0, 0.02, 0.93, 0.95), shade(colour, 0.25)),
            Part(moved(body, 0.0, 0.05, 0.8, 0.87), colour),
            *_neck(colour, 0.22, 0.085),
            Part(slit, ink(colour)),
            Part(slit * (-1.0, 1.0), ink(colour)),
            Part(rounded_box(-0.16, 0.3, 0.16, 0.4, 0.03), _STEEL),
            Part(shape((-0.13, 0.62), (0.13, 0.62), (0.07, 0.88), (-0.07, 0.88)), (226, 184, 70)),
            *_strings(0.66),
        ]
    )


CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(
        "guitar", (_guitar_acoustic, _guitar_electric, _guitar_vee, _guitar_single, _guitar_hollow), tilt=0.15
    ),
)
