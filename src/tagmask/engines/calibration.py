"""The windows of a user's photos on which a quantised tower is calibrated."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.sliding import preprocess_cv2
from tagmask.dense.windows import plan_windows
from tagmask.errors import InputError
from tagmask.images import ImageSource, read_image

__all__ = ["calibration_windows"]

_WINDOWS = 64
"""Windows in all, from at most as many photos. More do not change the ranges that they give."""


def calibration_windows(clip: Clip, images: Sequence[ImageSource]) -> Float[Tensor, "n 3 side side"]:
    """Crop windows of the tower's own size from photos, as the sliding window does by default.

    Args:
        clip: the frozen model.
        images: if there are too many, evenly spaced ones are taken.

    Raises:
        ImageError: a photo cannot be read.
        InputError: all photos are narrow strips.
    """
    side = clip.vision.patch * clip.vision.grid
    chosen = _evenly(images, _WINDOWS)
    each = -(-_WINDOWS // len(chosen))
    windows = []
    for source in chosen:
        pixels = preprocess_cv2(clip, read_image(source), side * 3 // 2)
        plan = plan_windows((pixels.shape[-2], pixels.shape[-1]), side, side // 2)
        if (plan.height, plan.width) == (side, side):  # else it is a strip
            windows += [pixels[:, y0:y1, x0:x1] for x0, y0, x1, y1 in _evenly(plan.boxes, each)]
    if not windows:
        raise InputError("The photos to calibrate on are all narrow strips. Give ordinary photos.")
    return torch.stack(windows)


_Item = TypeVar("_Item")


def _evenly(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` items, evenly spaced."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
