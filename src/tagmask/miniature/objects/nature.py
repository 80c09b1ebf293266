"""Trees and flowers, and the classes of animals."""

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
from tagmask.miniature.objects import animals, fish_bird
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import (
    PAPER,
    accent,
    framed,
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

_BARK: tuple[Colour, ...] = ((122, 82, 52), (101, 70, 50), (146, 104, 68), (112, 92, 80))
_FRUIT: tuple[Colour, ...] = ((226, 50, 50), (250, 190, 50), (250, 240, 235), (240, 120, 160))
_HEARTS: tuple[Colour, ...] = ((250, 200, 50), (120, 72, 40), (250, 240, 215))
_STALKS: tuple[Colour, ...] = ((74, 150, 70), (96, 170, 62), (52, 128, 84))


# -- Trees ---------------------------------------------------------------------------------------------------


def _trunk(width: float, top: float, bark: Colour) -> list[Part]:
    half = width / 2
    body = closed_curve([
        (-half, top), (half, top), (0.9 * half, 0.6), (1.7 * half, 0.95), (-1.7 * half, 0.95),
        (-0.9 * half, 0.6),
    ], 4)
    return [Part(body, bark), Part(within(body, x0=0.15 * half), shade(bark, 0.18))]


def _cloud(rng: np.random.Generator, lobes: int, rx: float, ry: float) -> Outline:
    """A round crown with bumps."""
    t = np.arange(lobes * 6) * (2 * np.pi / (lobes * 6)) + rng.uniform(0.0, 6.0)
    far = 0.86 + 0.14 * np.abs(np.sin(t * lobes / 2 + rng.uniform(0.0, 3.0)))
    return np.stack([rx * far * np.cos(t), ry * far * np.sin(t)], axis=1)


def _tree_round(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    crown = _cloud(rng, int(rng.integers(8, 12)), u(0.66, 0.82), u(0.62, 0.7))
    parts = _trunk(u(0.2, 0.28), 0.0, pick_apart(rng, _BARK, colour))
    parts += [
        Part(moved(crown, 0.0, -0.3), shade(colour, 0.25)),
        Part(moved(crown, -0.05, -0.36, 0.9, 0.88), colour),
        Part(ellipse(-0.3, -0.6, u(0.14, 0.22), 0.12, 16), tint(colour)),
        Part(ellipse(0.06, -0.74, 0.09, 0.06, 12), tint(colour)),
    ]
    if rng.random() < 0.5:
        fruit = pick_apart(rng, _FRUIT, colour)
        for x, y in ((-0.4, -0.24), (0.34, -0.5), (0.02, -0.38), (0.32, -0.08), (-0.14, -0.02)):
            parts.append(Part(disc(x + u(-0.05, 0.05), y + u(-0.05, 0.05), 0.07, 12), fruit))
    return framed(parts)


def _tree_fir(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    wide, tiers = u(0.6, 0.78), int(rng.integers(3, 5))
    parts = _trunk(u(0.18, 0.24), 0.4, pick_apart(rng, _BARK, colour))
    for k in range(tiers, 0, -1):
        w = wide * (0.42 + 0.58 * k / tiers)
        top, low = -0.95 + 1.2 * (k - 1) / tiers, -0.95 + 1.58 * (k + 0.12) / (tiers + 0.12)
        tier = closed_curve(
            [
                (0.0, top), (0.45 * w, (top + 1.6 * low) / 2.6), (w, low - 0.04), (0.4 * w, low + 0.04),
                (-0.4 * w, low + 0.04), (-w, low - 0.04), (-0.45 * w, (top + 1.6 * low) / 2.6),
            ],
            4,
        )
        parts.append(Part(tier, colour))
        parts.append(Part(within(tier, x0=0.12), shade(colour, 0.16)))
        parts.append(Part(within(tier, y0=low - 0.06), shade(colour, 0.36)))
    return framed(parts)


def _tree_palm(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    bark, lean, droop = pick_apart(rng, _BARK, colour), u(-0.2, 0.2), u(0.28, 0.45)
    x = 0.5 * lean
    trunk = closed_curve([
        (x - 0.07, -0.4), (x + 0.07, -0.4), (0.08 - lean * 0.4, 0.2), (0.17 - lean, 0.95),
        (-0.17 - lean, 0.95), (-0.09 - lean * 0.4, 0.2),
    ], 4)
    leaf = closed_curve([
        (0.0, 0.04), (0.22, -0.22), (0.55, -0.22), (0.82, 0.02), (0.9, droop), (0.66, 0.2), (0.5, 0.24),
        (0.36, 0.08),
    ], 4)
    top = (x, -0.42)
    parts = [
        Part(trunk, bark),
        Part(within(trunk, y0=0.0, y1=0.08), shade(bark)),
        Part(within(trunk, y0=0.4, y1=0.48), shade(bark)),
    ]
    for turn, side, zoom, tone in (
        (0.1, 1.0, 0.8, 0.28),
        (0.1, -1.0, 0.8, 0.28),
        (-0.16, 1.0, 0.85, 0.14),
        (-0.14, -1.0, 0.85, 0.14),
        (-0.03, 1.0, 1.05, 0.0),
        (-0.03, -1.0, 1.05, 0.0),
    ):
        frond = turned(leaf * zoom, turn + u(-0.02, 0.02)) * (side, 1.0) + top
        parts.append(Part(frond, shade(colour, tone) if tone else colour))
    for dx, dy in ((-0.09, 0.06), (0.09, 0.05), (0.0, 0.12)):
        parts.append(Part(disc(x + dx, -0.4 + dy, 0.085, 14), shade((128, 84, 46), 0.1 + dy)))
    return framed(parts)


def _tree_cypress(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    w, low = u(0.36, 0.5), u(0.1, 0.3)
    crown = closed_curve([
        (0.0, -0.98), (0.6 * w, -0.55), (w, low - 0.1), (0.8 * w, 0.5), (0.0, 0.66), (-0.8 * w, 0.5),
        (-w, low - 0.1), (-0.6 * w, -0.55),
    ])
    dark = shade(colour)
    parts = [
        *_trunk(u(0.14, 0.2), 0.4, pick_apart(rng, _BARK, colour)),
        Part(crown, colour),
        Part(within(crown, x0=0.0), shade(colour, 0.14)),
    ]
    for x, y in ((-0.14, -0.5), (-0.24, -0.1), (-0.1, 0.24), (0.12, -0.26), (0.2, 0.12), (0.08, 0.46)):
        leaf = shape((x, y - 0.1), (x + 0.05, y), (x, y + 0.1), (x - 0.05, y))
        parts.append(Part(leaf, shade(dark, 0.15) if x > 0 else tint(colour, 0.22)))
    return framed(parts)


def _tree_forked(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    bark = pick_apart(rng, _BARK, colour)
    y = u(-0.2, -0.05)
    parts = _trunk(u(0.17, 0.23), 0.1, bark)
    parts += [
        Part(stroke([(0.0, 0.42), (-0.24, 0.16), (-0.42, y)], 0.11), bark),
        Part(stroke([(0.0, 0.34), (0.26, 0.1), (0.46, y)], 0.11), bark),
    ]
    for x, up, r in ((-0.5, y, u(0.34, 0.42)), (0.52, y + 0.03, u(0.32, 0.4)), (0.0, -0.46, u(0.46, 0.54))):
        parts.append(Part(disc(x, up, r, 24), shade(colour, 0.25)))
        parts.append(Part(disc(x - 0.05 * r, up - 0.07 * r, 0.9 * r, 24), colour))
        parts.append(Part(disc(x - 0.36 * r, up - 0.4 * r, 0.22 * r, 14), tint(colour)))
    return framed(parts)


def _tree_spreading(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    bark = pick_apart(rng, _BARK, colour)
    pad = closed_curve(
        [(-0.5, 0.1), (-0.44, -0.1), (-0.14, -0.22), (0.2, -0.2), (0.46, -0.06), (0.5, 0.1), (0.0, 0.14)], 4
    )
    parts = [
        *_trunk(u(0.15, 0.2), 0.2, bark),
        Part(stroke([(0.02, 0.5), (-0.06, 0.2), (-0.44, -0.06)], 0.1), bark),
        Part(stroke([(-0.03, 0.44), (0.1, 0.1), (0.5, -0.2)], 0.1), bark),
        Part(stroke([(0.0, 0.3), (-0.02, -0.1), (-0.04, -0.5)], 0.09), bark),
    ]
    for x, y, zoom in (
        (-0.48, -0.06, u(0.85, 1.0)),
        (0.5, -0.22, u(0.85, 1.0)),
        (-0.02, -0.56, u(1.15, 1.35)),
    ):
        leaves = moved(pad, x, y, zoom, 1.15 * zoom)
        parts.append(Part(leaves, colour))
        parts.append(Part(within(leaves, y0=y + 0.03), shade(colour, 0.25)))
        parts.append(
            Part(ellipse(x - 0.12 * zoom, y - 0.12 * zoom, 0.16 * zoom, 0.05 * zoom, 12), tint(colour))
        )
    return framed(parts)


# -- Flowers -------------------------------------------------------------------------------------------------


def _petals(count: int, near: float, far: float, turn: float, sharp: float = 1.0) -> Outline:
    """A ring of petals as one outline about the origin; `sharp` below 1 makes them blunt, above 1 pointed."""
    t = np.arange(count * 8) * (2 * np.pi / (count * 8))
    out = near + (far - near) * np.abs(np.sin(t * count / 2)) ** sharp
    return np.stack([out * np.cos(t + turn), out * np.sin(t + turn)], axis=1)


def _stalk(rng: np.random.Generator, colour: Colour, top: float) -> list[Part]:
    """A stem from (0, top) down, with two leaves."""
    u = rng.uniform
    green, bend = pick_apart(rng, _STALKS, colour), u(-0.12, 0.12)
    leaf = closed_curve([(0.0, 0.0), (0.12, -0.2), (0.42, -0.3), (0.36, -0.06), (0.14, 0.06)], 4)
    y = u(0.5, 0.6)
    return [
        Part(stroke([(0.0, top), (0.5 * bend, (top + 0.78) / 2), (bend, 0.78)], u(0.075, 0.1)), green),
        Part(moved(leaf, 0.7 * bend, y, u(0.9, 1.2)), green),
        Part(moved(leaf, 0.7 * bend, y + 0.1, -u(0.9, 1.2)), shade(green, 0.14)),
    ]


def _flower_daisy(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    count, turn, heart = int(rng.integers(8, 13)), u(0.0, 1.0), pick_apart(rng, _HEARTS, colour)
    ring = _petals(count, 0.2, u(0.54, 0.6), turn, 0.55)
    y = -0.38
    parts = [
        *_stalk(rng, colour, y),
        Part(moved(_petals(count, 0.2, 0.57, turn + np.pi / count, 0.55), 0.0, y), shade(colour, 0.25)),
        Part(moved(ring, 0.0, y), colour),
        Part(moved(ring * 0.52, 0.0, y), shade(colour, 0.14)),
        Part(disc(0.0, y, u(0.18, 0.23), 20), heart),
        Part(disc(-0.03, y - 0.03, 0.12, 16), tint(heart, 0.25)),
    ]
    return framed(parts)


def _flower_tulip(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    green, w, y = pick_apart(rng, _STALKS, colour), u(0.42, 0.5), u(-0.9, -0.82)
    side = closed_curve(
        [(0.0, 0.02), (-0.9 * w, -0.2), (-w, -0.52), (-0.86 * w, y + 0.04), (-0.4 * w, -0.62), (0.1, -0.2)], 4
    )
    middle = closed_curve([
        (-0.3 * w, -0.04), (-0.56 * w, -0.4), (0.0, y - 0.06), (0.56 * w, -0.4), (0.3 * w, -0.04),
        (0.0, 0.05),
    ], 4)
    leaf = closed_curve([(0.0, 0.94), (0.16, 0.5), (0.5, 0.14), (0.44, 0.56), (0.2, 0.9)], 4)
    parts = [
        Part(stroke([(0.0, -0.1), (0.02, 0.4), (0.0, 0.95)], u(0.08, 0.11)), green),
        Part(moved(leaf, 0.0, 0.0, u(0.9, 1.15)), green),
        Part(moved(leaf, 0.0, 0.02, -u(0.9, 1.15)), shade(green, 0.15)),
        Part(ellipse(0.0, -0.3, 0.7 * w, 0.34, 20), shade(colour, 0.35)),
        Part(side, shade(colour, 0.1)),
        Part(mirrored(side), shade(colour, 0.22)),
        Part(middle, colour),
        Part(
            closed_curve([(-0.3 * w, -0.3), (-0.1 * w, -0.6), (0.0, -0.56), (-0.14 * w, -0.26)], 4),
            tint(colour),
        ),
    ]
    return framed(parts)


def _flower_blossom(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    heart, count = pick_apart(rng, _HEARTS, colour), int(rng.integers(5, 7))
    petal = closed_curve([
        (0.05, 0.0), (0.34, -0.34), (0.74, -0.4), (0.95, -0.14), (0.88, 0.0), (0.95, 0.14), (0.74, 0.4),
        (0.34, 0.34),
    ], 3)
    petal = petal * (1.0, (5.4 / count) * u(0.9, 1.02))
    turn, green = u(0.0, 1.0), pick_apart(rng, _STALKS, colour)
    leaf = closed_curve([(0.4, 0.0), (0.7, -0.16), (0.98, 0.0), (0.7, 0.16)], 3)
    parts = [Part(turned(leaf, turn + (k + 0.5) / count), green) for k in (0, 2, 3)]
    for k in range(count):
        one = turned(petal, turn + k / count)
        parts.append(Part(one, shade(colour, 0.28)))
        parts.append(Part(turned(moved(petal, 0.04, 0.0, 0.92, 0.86), turn + k / count), colour))
    parts.append(Part(_petals(count, 0.1, 0.46, 2 * np.pi * (turn + 0.5 / count), 2.0), shade(colour, 0.3)))
    parts.append(Part(_petals(9, 0.14, u(0.22, 0.28), turn, 0.8), heart))
    parts.append(Part(disc(0.0, 0.0, 0.1, 14), shade(heart, 0.3)))
    return framed(parts)


def _flower_sun(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    count, turn, y = int(rng.integers(12, 16)), u(0.0, 1.0), -0.36
    heart = (92, 56, 34) if sum(colour) > 330 else (214, 150, 60)
    r = u(0.25, 0.3)
    parts = [
        *_stalk(rng, colour, y),
        Part(moved(_petals(count, 0.3, 0.6, turn + np.pi / count, 1.3), 0.0, y), shade(colour, 0.25)),
        Part(moved(_petals(count, 0.3, 0.57, turn, 1.3), 0.0, y), colour),
        Part(disc(0.0, y, 0.37, 24), colour),
        Part(disc(0.0, y, r, 24), heart),
        Part(disc(0.0, y, 0.68 * r, 20), shade(heart, 0.22)),
        Part(moved(_petals(10, 0.4 * r, 0.5 * r, turn, 1.0), 0.0, y), tint(heart, 0.2)),
    ]
    return framed(parts)


def _flower_rose(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    green, turn, y = pick_apart(rng, _STALKS, colour), u(0.0, 1.0), -0.4
    t = np.linspace(0.0, 2.3, 26)
    spiral = (
        np.stack([np.cos(2 * np.pi * (t + turn)), np.sin(2 * np.pi * (t + turn))], axis=1)
        * (0.05 + 0.13 * t)[:, None]
    )
    sepal = shape(
        (-0.5, 0.06), (-0.2, 0.06), (0.0, 0.0), (0.2, 0.06), (0.5, 0.06), (0.22, 0.26), (0.0, 0.3),
        (-0.22, 0.26),
    )
    outer = _petals(int(rng.integers(5, 7)), 0.44, u(0.54, 0.6), turn, 0.7)
    parts = [
        *_stalk(rng, colour, 0.0),
        Part(moved(sepal, 0.0, -0.06), green),
        Part(moved(outer, 0.0, y), colour),
        Part(moved(_petals(5, 0.34, 0.44, turn + 0.6, 0.7), 0.0, y), shade(colour, 0.2)),
        Part(disc(0.0, y, 0.34, 24), colour),
        Part(stroke(moved(spiral, 0.0, y), 0.055), accent(colour)),
        Part(disc(0.0, y, 0.07, 12), accent(colour)),
    ]
    return framed(parts)


def _flower_violet(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    green, heart, y = pick_apart(rng, _STALKS, colour), pick(rng, _HEARTS[::2]), -0.34
    turn, throat = u(0.0, 1.0), mixed(colour, PAPER, 0.55)
    leaf = closed_curve([(0.0, 0.6), (0.2, 0.3), (0.6, 0.2), (0.56, 0.5), (0.2, 0.74)], 4)
    parts = [
        Part(stroke([(0.0, y), (0.1, 0.3), (-0.05, 0.95)], u(0.08, 0.1)), green),
        Part(moved(leaf, 0.03, 0.06), green),
        Part(stroke([(0.06, 0.42), (-0.2, 0.3), (-0.4, 0.36)], 0.06), green),
        Part(ellipse(-0.46, 0.4, 0.13, 0.16, 16), shade(colour, 0.18)),
    ]
    for k in range(5):
        lobe = moved(turned(ellipse(0.34, 0.0, 0.27, 0.25, 20), turn + 0.2 * k), 0.0, y)
        parts.append(Part(lobe, shade(colour, 0.16) if k % 2 else colour))
    parts.append(Part(moved(_petals(5, 0.1, 0.3, 2 * np.pi * turn + np.pi / 5, 0.8), 0.0, y), throat))
    parts.append(Part(disc(0.0, y, u(0.11, 0.15), 16), heart))
    return framed(parts)


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass("tree", (_tree_round, _tree_fir, _tree_palm, _tree_cypress, _tree_forked, _tree_spreading)),
    ObjectClass(
        "flower",
        (_flower_daisy, _flower_tulip, _flower_blossom, _flower_sun, _flower_rose, _flower_violet),
        synonyms=("blossom",),
        tilt=0.05,
    ),
    *fish_bird.CLASSES,
    *animals.CLASSES,
)
