"""Test scenes for the miniature CLIP, excluded from training."""

from tagmask.miniature.objects import CLASSES
from tagmask.miniature.scenes import Scene, SceneObject, draw_scene, plan_scene
from tagmask.types import Size

__all__ = ["SIZES", "is_held_out_style", "single_object", "unseen_scene"]

SIZES: tuple[Size, ...] = ((240, 320), (320, 240), (288, 288), (224, 336))
"""Sizes (h, w) of test scenes, used in turn."""


def unseen_scene(seed: int) -> Scene:
    """Draw a test scene of one to five objects, in any colour and style."""
    size = SIZES[seed % len(SIZES)]
    plan = plan_scene(seed, split="test", count=(1, 5), radius=(0.14, 0.42), aspect=size[1] / size[0])
    return draw_scene(plan, size)


def single_object(seed: int) -> Scene:
    """Draw one large object on a background, at the model's input size."""
    plan = plan_scene(_SINGLES + seed, split="test", count=(1, 1), radius=(0.25, 0.45))
    return draw_scene(plan, (224, 224))


_SINGLES = 10**6
"""First seed of single objects, so that none repeats a scene."""


def is_held_out_style(thing: SceneObject) -> bool:
    """Whether the object's style is excluded from training."""
    return thing.style == len(CLASSES[thing.kind].styles) - 1
