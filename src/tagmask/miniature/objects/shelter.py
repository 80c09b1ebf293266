"""Houses and umbrellas of the miniature world."""

import numpy as np

from tagmask.miniature.draw import (
    Colour,
    Outline,
    Part,
    arc,
    box,
    closed_curve,
    disc,
    mixed,
    moved,
    shape,
    stroke,
    turned,
)
from tagmask.miniature.objects.classes import ObjectClass
from tagmask.miniature.objects.common import (
    PAPER,
    framed,
    pick_apart,
    shade,
    tint,
    within,
)

__all__ = ["CLASSES"]

# fmt: off
# Corners stay side by side: one to a line would hide the drawings.

_TILES: tuple[Colour, ...] = ((176, 70, 52), (84, 88, 104), (120, 74, 52), (60, 108, 112), (206, 120, 66))
_DOORS: tuple[Colour, ...] = ((126, 78, 48), (58, 96, 130), (170, 56, 50), (70, 110, 76), (240, 232, 214))
_PANES: tuple[Colour, ...] = ((168, 216, 236), (255, 226, 130), (110, 160, 196))
_BRICK: Colour = (160, 92, 76)
_STICKS: tuple[Colour, ...] = ((122, 84, 56), (70, 72, 84), (190, 150, 100))


# -- Houses --------------------------------------------------------------------------------------------------


def _window(x: float, y: float, w: float, h: float, wall: Colour, pane: Colour) -> list[Part]:
    """A framed window about (x, y) with a cross."""
    frame = PAPER if sum(wall) < 600 else (120, 96, 84)
    return [
        Part(box(x - w - 0.035, y - h - 0.035, x + w + 0.035, y + h + 0.035), frame),
        Part(box(x - w, y - h, x + w, y + h), pane),
        Part(box(x - 0.015, y - h, x + 0.015, y + h), frame),
        Part(box(x - w, y - 0.015, x + w, y + 0.015), frame),
    ]


def _door(x: float, top: float, low: float, w: float, tone: Colour) -> list[Part]:
    return [
        Part(box(x - w - 0.03, top - 0.03, x + w + 0.03, low), shade(tone, 0.35)),
        Part(box(x - w, top, x + w, low), tone),
        Part(disc(x + 0.6 * w, (top + low) / 2 + 0.02, 0.03, 8), (246, 206, 90)),
    ]


def _chimney(x: float, top: float, low: float) -> list[Part]:
    return [
        Part(box(x - 0.09, top, x + 0.09, low), _BRICK),
        Part(box(x - 0.12, top - 0.02, x + 0.12, top + 0.07), shade(_BRICK, 0.25)),
    ]


def _house_cottage(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, pane, eaves, w = (
        pick_apart(rng, _TILES, colour),
        pick_apart(rng, _PANES, colour),
        u(-0.2, -0.06),
        u(0.7, 0.78),
    )
    side = -1.0 if rng.random() < 0.5 else 1.0
    wall = shape((-w, eaves), (0.0, -0.8), (w, eaves), (w, 0.85), (-w, 0.85))
    slope = [(-0.97, eaves + 0.14), (0.0, -0.84), (0.97, eaves + 0.14)]
    parts = [
        *_chimney(0.5 * side, -0.82, -0.2),
        Part(wall, colour),
        Part(within(wall, y0=0.74), shade(colour, 0.2)),
        Part(stroke(slope, 0.2), roof),
        Part(moved(stroke(slope, 0.05), 0.0, 0.1), shade(roof, 0.3)),
        Part(disc(0.0, eaves - 0.14, 0.15, 18), PAPER if sum(colour) < 600 else (120, 96, 84)),
        Part(disc(0.0, eaves - 0.14, 0.11, 16), pane),
        *_door(-0.3 * side, u(0.22, 0.3), 0.85, 0.17, pick_apart(rng, _DOORS, colour)),
        *_window(0.32 * side, 0.36, u(0.15, 0.19), 0.17, colour, pane),
    ]
    return framed(parts)


def _house_storeys(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, pane, top = pick_apart(rng, _TILES, colour), pick_apart(rng, _PANES, colour), u(-0.46, -0.36)
    wall = box(-0.72, top, 0.72, 0.9)
    tiles = shape((-0.88, top + 0.06), (-0.56, -0.88), (0.56, -0.88), (0.88, top + 0.06))
    parts = [
        *_chimney(u(-0.4, 0.4), -0.98, -0.8),
        Part(wall, colour),
        Part(within(wall, x0=0.5), shade(colour, 0.12)),
        Part(box(-0.76, 0.2, 0.76, 0.27), shade(colour, 0.25)),
        Part(tiles, roof),
        Part(within(tiles, y0=top - 0.03), shade(roof, 0.3)),
        *_door(0.0, 0.42, 0.9, u(0.14, 0.18), pick_apart(rng, _DOORS, colour)),
    ]
    for x, y in ((-0.44, -0.08), (0.44, -0.08), (0.0, -0.08), (-0.46, 0.56), (0.46, 0.56)):
        parts += _window(x, y, 0.12, 0.14, colour, pane)[: 3 if x else 4]
    return framed(parts)


def _house_corner(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, pane, x = pick_apart(rng, _TILES, colour), pick_apart(rng, _PANES, colour), u(-0.2, -0.02)
    middle = (x - 0.9) / 2
    gable = shape((-0.86, -0.08), (middle, -0.68), (x, -0.08), (x, 0.74), (-0.86, 0.74))
    tiles = shape((middle, -0.76), (0.66, -0.76), (0.98, 0.0), (x + 0.08, 0.0))
    parts = [
        *_chimney(0.36, -0.96, -0.6),
        Part(box(x, -0.1, 0.86, 0.74), colour),
        Part(box(x, -0.1, 0.86, 0.08), shade(colour, 0.25)),
        Part(gable, colour),
        Part(box(x - 0.015, 0.0, x + 0.015, 0.74), shade(colour, 0.25)),
        Part(tiles, roof),
        Part(within(tiles, y0=-0.1), shade(roof, 0.25)),
        Part(stroke([(-0.97, 0.02), (middle, -0.72), (x + 0.07, 0.0)], 0.1), shade(roof, 0.12)),
        *_door(middle - 0.02, u(0.16, 0.24), 0.74, 0.14, pick_apart(rng, _DOORS, colour)),
        *_window(x + 0.28, 0.28, 0.13, 0.14, colour, pane),
        *_window(0.62, 0.28, 0.13, 0.14, colour, pane),
        Part(disc(middle, -0.24, 0.1, 16), pane),
        Part(box(-0.9, 0.7, 0.9, 0.78), (140, 136, 132)),
    ]
    return framed(parts)


def _house_town(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    pane, trim, y = (
        pick_apart(rng, _PANES, colour),
        PAPER if sum(colour) < 600 else (150, 110, 90),
        u(-0.46, -0.36),
    )
    rise = (y + 0.95) / 3
    stairs = [
        (0.55, y), (0.42, y), (0.42, y - rise), (0.28, y - rise), (0.28, y - 2 * rise), (0.14, y - 2 * rise),
        (0.14, -0.97),
    ]
    wall = np.array([(0.55, 0.95), *stairs, *((-a, b) for a, b in reversed(stairs)), (-0.55, 0.95)])
    parts = [
        Part(wall, colour),
        Part(within(wall, x0=0.34), shade(colour, 0.12)),
        Part(box(-0.6, y - 0.04, -0.4, y + 0.03), trim),
        Part(box(0.4, y - 0.04, 0.6, y + 0.03), trim),
        Part(box(-0.18, -0.98, 0.18, -0.91), trim),
        *_door(0.0, 0.48, 0.95, u(0.15, 0.19), pick_apart(rng, _DOORS, colour)),
        Part(box(-0.6, 0.88, 0.6, 0.96), (140, 136, 132)),
        *_window(0.0, y - 0.1, 0.1, 0.12, colour, pane),
    ]
    for x in (-0.28, 0.28):
        parts += _window(x, 0.14, 0.13, u(0.15, 0.18), colour, pane)
    return framed(parts)


def _house_modern(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    pane, x, roof = pick_apart(rng, _PANES, colour), u(-0.1, 0.1), pick_apart(rng, _TILES, colour)
    parts = [
        Part(shape((-0.84, -0.26), (0.84, -0.72), (0.84, 0.74), (-0.84, 0.74)), colour),
        Part(stroke([(-0.96, -0.2), (0.96, -0.74)], 0.15), roof),
        Part(stroke([(-0.96, -0.12), (0.96, -0.66)], 0.04), shade(roof, 0.35)),
        Part(shape((x + 0.1, 0.06), (0.84, 0.06), (0.84, 0.74), (x + 0.1, 0.74)), shade(colour, 0.16)),
        *_window((x + 0.94) / 2, 0.36, 0.24, 0.17, colour, pane),
        *_window((x + 0.94) / 2, -0.24, 0.2, 0.14, colour, pane),
        *_door(-0.22, 0.2, 0.74, 0.15, pick_apart(rng, _DOORS, colour)),
        *_window(-0.6, u(0.14, 0.24), 0.12, 0.16, colour, pane)[:3],
        Part(box(-0.92, 0.7, 0.92, 0.79), (140, 136, 132)),
    ]
    return framed(parts)


def _house_barn(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    roof, pane, knee = pick_apart(rng, _TILES, colour), pick_apart(rng, _PANES, colour), u(-0.54, -0.46)
    wall = shape(
        (-0.72, 0.0), (-0.56, knee), (0.0, -0.84), (0.56, knee), (0.72, 0.0), (0.72, 0.85), (-0.72, 0.85)
    )
    edge = [(-0.86, 0.06), (-0.62, knee), (0.0, -0.88), (0.62, knee), (0.86, 0.06)]
    door, line = pick_apart(rng, _DOORS, colour), PAPER if sum(colour) < 600 else (150, 110, 90)
    w = u(0.17, 0.21)
    parts = [
        Part(wall, colour),
        Part(box(-0.72, 0.0, 0.72, 0.06), shade(colour, 0.25)),
        Part(within(wall, y0=0.74), shade(colour, 0.2)),
        Part(stroke(edge, 0.16), roof),
        *_window(0.0, -0.36, 0.15, 0.16, colour, pane),
        *_door(0.0, 0.3, 0.85, w, door),
        Part(stroke([(-w, 0.32), (w, 0.83)], 0.035), line),
        Part(stroke([(w, 0.32), (-w, 0.83)], 0.035), line),
        *_window(-0.47, 0.4, 0.1, 0.13, colour, pane)[:3],
        *_window(0.47, 0.4, 0.1, 0.13, colour, pane)[:3],
    ]
    return framed(parts)


# -- Umbrellas -----------------------------------------------------------------------------------------------


def _canopy(w: float, top: float, low: float, scallops: int, depth: float, flare: float = 1.0) -> Outline:
    """A dome from (-w, low) to (w, low) whose lower edge hangs in bows."""
    t = np.linspace(0.5, 1.0, 17) * 2 * np.pi
    dome = np.stack([w * np.cos(t), low - (low - top) * np.abs(np.sin(t)) ** flare], axis=1)
    x = np.linspace(w, -w, 6 * scallops + 1)[1:-1]
    bows = np.abs(np.sin(np.pi * scallops * (x + w) / (2 * w)))
    return np.concatenate([dome, np.stack([x, low - depth * bows], axis=1)])


def _crook(tone: Colour, top: float, low: float, r: float, width: float = 0.075) -> list[Part]:
    """A stick that ends in a hook."""
    hook = arc(-r, low, r, r, 0.0, 0.5, 10)
    return [
        Part(stroke([(0.0, top), (0.0, low)], width), tone),
        Part(stroke(hook, 1.3 * width), shade(tone, 0.2)),
    ]


def _umbrella_open(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    low, scallops = u(0.0, 0.12), int(rng.integers(4, 7))
    canopy = _canopy(0.95, -0.82, low, scallops, 0.12)
    stick = pick_apart(rng, _STICKS, colour)
    parts = [
        Part(stroke([(0.0, -0.97), (0.0, -0.78)], 0.06), stick),
        *_crook(stick, -0.2, 0.76, u(0.13, 0.19)),
        Part(canopy, colour),
        Part(within(canopy, x0=0.95 - 1.9 / scallops), shade(colour, 0.2)),
        Part(_canopy(0.5, -0.81, low - 0.08, 2, 0.05) * (0.5, 1.0), shade(colour, 0.1)),
    ]
    gleam = closed_curve([(-0.72, -0.22), (-0.6, -0.48), (-0.4, -0.62), (-0.5, -0.42), (-0.62, -0.2)], 4)
    return framed([*parts, Part(gleam, tint(colour, 0.4))])


def _umbrella_striped(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    other = mixed(colour, PAPER, 0.85) if sum(colour) < 560 else (120, 150, 190)
    low, w = u(-0.1, 0.05), u(0.86, 0.95)
    canopy = _canopy(w, -0.78, low, 5, 0.05)
    stick = pick_apart(rng, _STICKS, colour)
    parts = [
        Part(stroke([(0.0, -0.7), (0.0, 0.97)], 0.075), stick),
        Part(disc(0.0, -0.82, 0.07, 14), stick),
        Part(canopy, colour),
        Part(_canopy(0.62 * w, -0.78, low, 3, 0.05), other),
        Part(_canopy(0.22 * w, -0.78, low, 1, 0.05), colour),
        Part(
            shape((-w, low - 0.02), (w, low - 0.02), (w - 0.02, low + 0.06), (-w + 0.02, low + 0.06)),
            shade(colour, 0.22),
        ),
    ]
    lean = u(0.02, 0.07)
    return framed([Part(turned(p.outline, lean), p.colour) for p in parts])


def _umbrella_above(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    count = 8
    spread, turn = 0.95, u(0.0, 0.125)
    t = (np.arange(2 * count) / (2 * count) + turn) * 2 * np.pi
    far = np.where(np.arange(2 * count) % 2, u(0.8, 0.85), 1.0)[:, None] * spread
    rim = np.stack([np.cos(t), np.sin(t)], axis=1) * far
    other = shade(colour, 0.18) if rng.random() < 0.6 else mixed(colour, (200, 214, 226), 0.75)
    stick = pick_apart(rng, _STICKS, colour)
    parts = [Part(rim, colour)]
    for k in range(1, 2 * count, 4):
        panel = np.stack([np.zeros(2), rim[k - 1], rim[k], rim[(k + 1) % (2 * count)]])
        parts.append(Part(panel, other))
    for k in (0, 2, 4, 6):
        parts.append(Part(stroke(np.stack([rim[k], rim[k + 8]]), 0.025), shade(colour, 0.4)))
    return framed(
        [*parts, Part(disc(0.0, 0.0, 0.08, 16), stick), Part(disc(-0.02, -0.02, 0.035, 10), tint(stick, 0.5))]
    )


def _umbrella_tilted(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    canopy = _canopy(0.92, -0.72, 0.1, int(rng.integers(4, 6)), 0.1)
    inside = closed_curve(
        [(-0.92, 0.1), (-0.4, -0.12), (0.4, -0.12), (0.92, 0.1), (0.4, u(0.2, 0.28)), (-0.4, 0.24)], 4
    )
    stick = pick_apart(rng, _STICKS, colour)
    parts = [
        Part(stroke([(0.0, -0.9), (0.0, -0.66)], 0.06), stick),
        Part(inside, shade(colour, 0.42)),
        *_crook(stick, 0.0, 0.76, u(0.13, 0.18)),
        Part(canopy, colour),
        Part(_canopy(0.5, -0.71, 0.0, 2, 0.0) * (0.4, 1.0), tint(colour, 0.2)),
        Part(within(canopy, x0=0.46), shade(colour, 0.2)),
    ]
    dots = tint(colour, 0.7)
    for x, y in ((-0.56, -0.2), (-0.36, -0.46), (0.0, -0.3), (0.36, -0.46), (0.6, -0.16)):
        parts.append(Part(disc(x, y, u(0.05, 0.08), 12), dots))
    lean = u(-0.1, -0.04)
    return framed([Part(turned(p.outline, lean), p.colour) for p in parts])


def _umbrella_deep(colour: Colour, rng: np.random.Generator) -> list[Part]:
    u = rng.uniform
    low, flare = u(0.16, 0.28), u(0.75, 1.0)
    canopy = _canopy(0.74, -0.84, low, 4, 0.09, flare)
    stick = pick_apart(rng, _STICKS, colour)
    parts = [
        Part(shape((-0.035, -0.84), (0.0, -0.99), (0.035, -0.84)), stick),
        *_crook(stick, 0.0, 0.78, u(0.12, 0.16), 0.065),
        Part(canopy, colour),
        Part(within(canopy, x0=0.37), shade(colour, 0.25)),
        Part(within(canopy, x1=-0.37), tint(colour, 0.18)),
        Part(within(canopy, y0=low - 0.24, y1=low - 0.15), tint(colour, 0.7)),
        Part(stroke([(0.0, -0.84), (0.0, low)], 0.025), shade(colour, 0.35)),
        Part(stroke([(0.0, -0.84), (0.3, -0.44), (0.37, low)], 0.025), shade(colour, 0.35)),
        Part(stroke([(0.0, -0.84), (-0.3, -0.44), (-0.37, low)], 0.025), shade(colour, 0.35)),
    ]
    return framed(parts)


# fmt: on
CLASSES: tuple[ObjectClass, ...] = (
    ObjectClass(
        "house",
        (_house_cottage, _house_storeys, _house_corner, _house_town, _house_modern, _house_barn),
        synonyms=("home",),
    ),
    ObjectClass(
        "umbrella",
        (_umbrella_open, _umbrella_striped, _umbrella_above, _umbrella_tilted, _umbrella_deep),
        synonyms=("parasol",),
        tilt=0.1,
    ),
)
