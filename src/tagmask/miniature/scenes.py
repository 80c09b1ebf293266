"""Scenes of the miniature data set: one or two backgrounds with objects, and their exact ground truth.

Everything follows from a seed. Training excludes the last style of every class, two colours of every class,
and all scenes of the "test" split, so that generalisation can be measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray

from tagmask.checks import check_choice
from tagmask.miniature.backgrounds import BACKGROUNDS
from tagmask.miniature.draw import Colour, Part, Stamp, rasterise
from tagmask.miniature.objects import CLASSES
from tagmask.types import Size

__all__ = [
    "BACKGROUND_NAMES",
    "CLASS_NAMES",
    "COLOURS",
    "Content",
    "Plan",
    "Scene",
    "SceneObject",
    "VisibleObject",
    "draw_scene",
    "is_held_out_colour",
    "plan_scene",
    "training_colours",
]

COLOURS: dict[str, Colour] = {
    "red": (208, 36, 40),
    "orange": (240, 132, 30),
    "yellow": (246, 214, 50),
    "green": (52, 150, 62),
    "blue": (42, 92, 206),
    "purple": (128, 58, 168),
    "pink": (246, 142, 180),
    "brown": (126, 82, 46),
    "white": (240, 240, 238),
    "black": (38, 38, 42),
    "grey": (138, 140, 144),
}

CLASS_NAMES = tuple(kind.name for kind in CLASSES)
BACKGROUND_NAMES = tuple(BACKGROUNDS)
"""In an index mask they follow the object classes: the first is `len(CLASS_NAMES)`."""

_SPLITS = ("train", "test")

Variation = Callable[[Sequence[Part], Colour, np.random.Generator], list[Part]]
"""Changes the drawing of an object of the given main colour."""


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene."""

    kind: int
    """Index into `CLASS_NAMES`."""
    colour: int
    """Index into `COLOURS`."""
    style: int
    centre: tuple[float, float]
    """(x, y) as fractions of the image's width and height."""
    radius: float
    """Half its larger extent, as a fraction of the image's short side."""
    turns: float
    flip: bool
    squeeze: float


@dataclass(frozen=True)
class Plan:
    """The layout of a scene, before it is drawn."""

    grounds: tuple[int, ...]
    """Indices into `BACKGROUND_NAMES`: one for the whole image, or the upper and the lower one."""
    horizon: float
    """Where the lower background begins, as a fraction of the height."""
    things: tuple[SceneObject, ...]
    """Painted in this order."""
    seed: tuple[int, ...]
    """Seeds the textures and the details of each object."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its ground truth."""

    image: UInt8[ndarray, "h w 3"]
    labels: UInt8[ndarray, "h w"]
    """Per pixel: an object class, or `len(CLASS_NAMES)` + a background."""
    plan: Plan
    visible: tuple[float, ...]
    """Visible fraction of each object, 0..1: neither occluded nor outside the image."""

    @property
    def content(self) -> "Content":
        """The visible objects and backgrounds."""
        areas = np.bincount(self.labels.ravel(), minlength=len(CLASS_NAMES) + len(BACKGROUND_NAMES))
        things = [
            VisibleObject(thing.kind, thing.colour, thing.centre)
            for thing, share in zip(self.plan.things, self.visible, strict=True)
            if share >= _MIN_VISIBLE
        ]
        grounds = [
            g for g in self.plan.grounds if areas[len(CLASS_NAMES) + g] >= _MIN_GROUND * self.labels.size
        ]
        return Content(tuple(things), tuple(grounds))


class VisibleObject(NamedTuple):
    """An object that is visible enough to be named."""

    kind: int
    colour: int
    centre: tuple[float, float]


@dataclass(frozen=True)
class Content:
    """The visible part of a scene: all that a caption may mention."""

    things: tuple[VisibleObject, ...]
    grounds: tuple[int, ...]


_MIN_VISIBLE = 0.2
"""Smallest visible fraction of a nameable object."""
_MIN_GROUND = 0.04
"""Smallest image fraction of a nameable background."""


def is_held_out_colour(kind: int, colour: int) -> bool:
    """Whether the "train" split excludes this colour of the class (two colours of each class)."""
    return (7 * kind + 3 * colour) % len(COLOURS) in (0, 5)


def training_colours(kind: int) -> tuple[int, ...]:
    """Return the colours of a class in the "train" split."""
    return tuple(c for c in range(len(COLOURS)) if not is_held_out_colour(kind, c))


def plan_scene(
    seed: int,
    *,
    split: str = "train",
    count: tuple[int, int] = (1, 5),
    radius: tuple[float, float] = (0.13, 0.4),
    aspect: float = 1.0,
) -> Plan:
    """Sample the layout of a scene.

    Args:
        seed: any whole number from 0 on; scenes of different splits differ for the same seed.
        split: "train" or "test". Test scenes have all styles and colours, training scenes only those
            that are not held out.
        count: minimum and maximum number of objects; fewer if there is no room.
        radius: smallest and largest half-extent, as fractions of the short side; above 0.5 the border cuts
            the object.
        aspect: width over height of the image.

    Raises:
        InputError: an unknown split.
    """
    check_choice("split", split, _SPLITS)
    key = (_SPLITS.index(split), seed)
    rng = np.random.default_rng((*key, 0))
    grounds = _choose_grounds(rng)
    horizon = float(rng.uniform(0.35, 0.65))
    target = int(rng.integers(count[0], count[1] + 1))
    reach = (max(aspect, 1.0), max(1 / aspect, 1.0))  # side lengths, in units of the short side
    things: list[SceneObject] = []
    for _ in range(16 * target):
        if len(things) == target:
            break
        thing = _choose_thing(rng, split, radius, things)
        if _has_room(thing, things, reach):
            things.append(thing)
    return Plan(grounds, horizon, tuple(things), key)


def draw_scene(plan: Plan, size: Size, vary: Variation | None = None) -> Scene:
    """Draw a plan at any size; the same plan and size always give the same pixels.

    Args:
        plan: what to draw.
        size: (h, w) in pixels.
        vary: changes the drawing of each object before it is painted; training scenes only.
    """
    h, w = size
    image, labels = _paint_grounds(plan, size)
    drawn_areas = []
    for i, thing in enumerate(plan.things):
        rng = np.random.default_rng((*plan.seed, 2, i))
        colour = _jittered(tuple(COLOURS.values())[thing.colour], rng)
        parts = CLASSES[thing.kind].styles[thing.style](colour, rng)
        stamp = rasterise(
            parts if vary is None else vary(parts, colour, np.random.default_rng((*plan.seed, 3, i))),
            thing.radius * min(h, w),
            centre=(thing.centre[0] * w, thing.centre[1] * h),
            turns=thing.turns,
            flip=thing.flip,
            squeeze=thing.squeeze,
        )
        drawn_areas.append(int((stamp.pixels[..., 3] >= _SOLID).sum()))
        _paste(image, labels, stamp, code=_FIRST_THING + i, light=rng.uniform(-0.16, 0.16, size=2))
    counts = np.bincount(labels.ravel(), minlength=256)
    visible = tuple(float(counts[_FIRST_THING + i]) / max(total, 1) for i, total in enumerate(drawn_areas))
    names = np.arange(256, dtype=np.uint8)
    names[_FIRST_THING : _FIRST_THING + len(plan.things)] = [thing.kind for thing in plan.things]
    return Scene(image, names[labels], plan, visible)


_SOLID = 128
"""Minimum alpha of a pixel that belongs to the object."""
_FIRST_THING = 200
"""While a scene is drawn, each object has its own code in the mask, to count its visible area."""


def _choose_grounds(rng: np.random.Generator) -> tuple[int, ...]:
    kinds = tuple(BACKGROUNDS.values())
    ground = [i for i, kind in enumerate(kinds) if kind.ground]
    upper = [i for i, kind in enumerate(kinds) if not kind.ground]
    if rng.random() < 0.6:
        return (int(rng.integers(len(kinds))),)
    return int(rng.choice(upper)), int(rng.choice(ground))


def _choose_thing(
    rng: np.random.Generator, split: str, radius: tuple[float, float], before: Sequence[SceneObject]
) -> SceneObject:
    # Sometimes repeat the class, so that captions have counts.
    repeat = bool(before) and rng.random() < 0.25
    kind = before[-1].kind if repeat else int(rng.integers(len(CLASSES)))
    known = training_colours(kind) if split == "train" else tuple(range(len(COLOURS)))
    colour = before[-1].colour if repeat and rng.random() < 0.7 else int(rng.choice(known))
    styles = len(CLASSES[kind].styles) - (split == "train")
    tilt = CLASSES[kind].tilt
    return SceneObject(
        kind=kind,
        colour=colour,
        style=int(rng.integers(styles)),
        centre=(float(rng.uniform(0.08, 0.92)), float(rng.uniform(0.08, 0.92))),
        # Log-uniform sizes, smaller if there are more objects.
        radius=float(np.exp(rng.uniform(*np.log(radius)))) * (1.0 if len(before) == 0 else 0.85),
        turns=float(rng.uniform(-tilt, tilt)),
        flip=bool(rng.random() < 0.5),
        squeeze=float(np.exp(rng.uniform(-0.16, 0.16))),
    )


def _has_room(thing: SceneObject, others: Sequence[SceneObject], reach: tuple[float, float]) -> bool:
    """Whether the object neither mostly occludes another nor, if small, is mostly outside the image."""
    x, y = thing.centre[0] * reach[0], thing.centre[1] * reach[1]
    margin = 0.55 * thing.radius
    inside = margin <= x <= reach[0] - margin and margin <= y <= reach[1] - margin
    if not inside and thing.radius < 0.5:
        return False
    for other in others:
        ox, oy = other.centre[0] * reach[0], other.centre[1] * reach[1]
        if np.hypot(x - ox, y - oy) < 0.75 * (thing.radius + other.radius):
            return False
    return True


def _paint_grounds(plan: Plan, size: Size) -> tuple[UInt8[ndarray, "h w 3"], UInt8[ndarray, "h w"]]:
    h, w = size
    rng = np.random.default_rng((*plan.seed, 1))
    textures = [tuple(BACKGROUNDS.values())[i].draw(size, rng) for i in plan.grounds]
    codes = [len(CLASSES) + i for i in plan.grounds]
    image = np.array(textures[0])
    labels = np.full(size, codes[0], dtype=np.uint8)
    if len(textures) == 2:
        x = np.linspace(0, 2 * np.pi, w)
        waves = rng.uniform(0.3, 1.6, size=2), rng.uniform(0, 7, size=2), rng.uniform(0, 0.03, size=2)
        edge = plan.horizon + sum(a * np.sin(f * x + s) for f, s, a in zip(*waves, strict=True))
        below = np.arange(h)[:, None] >= edge * h
        image[below] = textures[1][below]
        labels[below] = codes[1]
    return image, labels


def _paste(
    image: UInt8[ndarray, "h w 3"],
    labels: UInt8[ndarray, "h w"],
    stamp: Stamp,
    *,
    code: int,
    light: Float64[ndarray, "2"],
) -> None:
    """Paste a stamp onto the image and its mask, clipped to the image."""
    h, w = labels.shape
    side_y, side_x = stamp.pixels.shape[:2]
    rows = slice(max(stamp.top, 0), min(stamp.top + side_y, h))
    columns = slice(max(stamp.left, 0), min(stamp.left + side_x, w))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    paint = stamp.pixels[
        rows.start - stamp.top : rows.stop - stamp.top, columns.start - stamp.left : columns.stop - stamp.left
    ]
    n_y, n_x = paint.shape[:2]
    # Light from one side, so that no surface has a uniform colour.
    slope = 1 + light[0] * np.linspace(-1, 1, n_y)[:, None] + light[1] * np.linspace(-1, 1, n_x)
    lit = np.minimum(paint[..., :3] * slope.astype(np.float32)[..., None], 255)
    under = image[rows, columns]
    image[rows, columns] = under + (lit - under) * (paint[..., 3:] * np.float32(1 / 255)) + np.float32(0.5)
    labels[rows, columns][paint[..., 3] >= _SOLID] = code


def _jittered(colour: Colour, rng: np.random.Generator) -> Colour:
    """Vary a colour within its name."""
    shade = np.array(colour) * rng.uniform(0.85, 1.12) + rng.uniform(-12, 12, size=3)
    r, g, b = (int(v) for v in np.clip(shade, 0, 255))
    return r, g, b
