"""Unseen scenes on which the miniature CLIP is measured."""

from tagmask.miniature.objects import CLASSES
from tagmask.miniature.scenes import Scene, SceneObject, draw_scene, plan_scene
from tagmask.types import Size

__all__ = ["SIZES", "held_style", "single_object", "unseen_scene"]

SIZES: tuple[Size, ...] = ((240, 320), (320, 240), (288, 288), (224, 336))
"""(h, w) of unseen scenes, in turn."""


def unseen_scene(seed: int) -> Scene:
    """A scene of one to five objects, in any colour and style, that training never showed."""
    size = SIZES[seed % len(SIZES)]
    plan = plan_scene(seed, split="test", count=(1, 5), radius=(0.14, 0.42), aspect=size[1] / size[0])
    return draw_scene(plan, size)


def single_object(seed: int) -> Scene:
    """One large object on a background, square as the model's input."""
    plan = plan_scene(_SINGLES + seed, split="test", count=(1, 1), radius=(0.25, 0.45))
    return draw_scene(plan, (224, 224))


_SINGLES = 10**6
"""Seeds from here on are single objects, so that none repeats a scene."""


def held_style(thing: SceneObject) -> bool:
    """Whether training never showed this way of drawing the object."""
    return thing.style == len(CLASSES[thing.kind].styles) - 1
