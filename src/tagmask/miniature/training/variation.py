"""Vary the drawn objects of training scenes: bent outlines, fewer details, flat or other tones.

The training styles of a class are few, so a model learns them by heart. These variations apply to any
drawing; they keep the main colour, which captions name. Test scenes are drawn without them.
"""

from collections.abc import Sequence

import numpy as np

from tagmask.miniature.draw import Colour, Outline, Part, mixed
from tagmask.miniature.objects.common import framed, lightness

__all__ = ["varied"]


def varied(parts: Sequence[Part], colour: Colour, rng: np.random.Generator) -> list[Part]:
    """Return the drawing with random variations; one in five stays as it is.

    Args:
        parts: the drawing.
        colour: its main colour.
        rng: source of the variations.
    """
    out = list(parts)
    if rng.random() < 0.2:
        return out
    if rng.random() < 0.25:
        out = _without_details(out, rng)
    if rng.random() < 0.6:
        out = _bent(out, rng)
    return _toned(out, colour, rng)


def _without_details(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """Drop up to three of the smaller half of the parts; holes stay."""
    areas = np.array([_area(part.outline) if part.colour is not None else np.inf for part in parts])
    small = np.flatnonzero(areas < np.median(areas))
    dropped = set(rng.permutation(small)[: int(rng.integers(1, 4))].tolist())
    return [part for i, part in enumerate(parts) if i not in dropped]


def _bent(parts: list[Part], rng: np.random.Generator) -> list[Part]:
    """Shear, taper and bend all outlines alike, then fit them to the frame."""
    shear, taper = rng.uniform(-0.15, 0.15), rng.uniform(-0.2, 0.2)
    stretch = np.exp(rng.uniform(-0.2, 0.2))
    amplitude, rate = rng.uniform(-0.07, 0.07, size=(2, 2)), rng.uniform(1.0, 3.5, size=(2, 2))
    phase = rng.uniform(0, 2 * np.pi, size=(2, 2))

    def bend(outline: Outline) -> Outline:
        x, y = outline[:, 0], outline[:, 1]
        shift = [
            (amplitude[axis] * np.sin(rate[axis] * outline + phase[axis])).sum(axis=1) for axis in range(2)
        ]
        return np.stack([stretch * x * (1 + taper * y) + shear * y + shift[0], y + shift[1]], axis=1)

    return framed([Part(bend(part.outline), part.colour) for part in parts])


def _toned(parts: list[Part], colour: Colour, rng: np.random.Generator) -> list[Part]:
    """Flatten the tones towards the main colour, or replace the tones of details."""
    kind = rng.random()
    if kind < 0.12:  # a silhouette
        return [Part(part.outline, part.colour and colour) for part in parts]
    if kind < 0.35:  # weaker contrast inside
        share = rng.uniform(0.2, 0.8)
        return [Part(p.outline, p.colour and mixed(p.colour, colour, share)) for p in parts]
    if kind < 0.65:  # other tones where they are far from the main colour
        tones: dict[Colour, Colour] = {}
        out = []
        for part in parts:
            tone = part.colour
            if tone is not None and _distance(tone, colour) > _FAR:
                if tone not in tones:
                    shift = rng.uniform(-70, 70, size=3) + rng.uniform(-40, 40)
                    r, g, b = (int(v) for v in np.clip(np.array(tone) + shift, 0, 255))
                    tones[tone] = (r, g, b)
                tone = tones[tone]
            out.append(Part(part.outline, tone))
        return out
    return parts


_FAR = 140
"""Sum of the differences of the channels from which a tone is a detail of its own."""


def _distance(a: Colour, b: Colour) -> int:
    return sum(abs(x - y) for x, y in zip(a, b, strict=True)) + int(abs(lightness(a) - lightness(b)))


def _area(outline: Outline) -> float:
    x, y = outline[:, 0], outline[:, 1]
    return 0.5 * abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1)))
