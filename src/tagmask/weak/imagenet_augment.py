"""The augmentation of ImageNet classifiers: pure functions of a NumPy generator, with Pillow alone.

    random resized crop -> flip -> RandAugment -> normalise -> random erasing

RandAugment draws operations with replacement; each is applied with probability 0.5, at a level of 9 of 10
with standard deviation 0.5. All levels are such that higher means stronger ("increasing").

Source:
    RandAugment (Cubuk et al., 2020) and random erasing (Zhong et al., 2020), with the settings that timm
    0.4.12 calls `rand-m9-mstd0.5-inc1`. MCTformer's authors train with them.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np
import PIL.Image
from jaxtyping import Float32
from PIL import ImageEnhance, ImageOps

from tagmask.types import Image
from tagmask.weak.config import AugmentSettings
from tagmask.weak.mctformer_settings import MctFormerSettings

__all__ = ["OPERATIONS", "augmented_crop", "random_box", "randomly_augmented"]

_ASPECT: Final = (3 / 4, 4 / 3)
_LEVEL, _SPREAD, _TOP = 9.0, 0.5, 10.0
_APPLIED: Final = 0.5
_ERASED_AREA: Final = (0.02, 1 / 3)
_ERASED_ASPECT: Final = (0.3, 1 / 0.3)
_TRIES: Final = 10
_BICUBIC: Final = PIL.Image.Resampling.BICUBIC

PilImage = PIL.Image.Image
Fill = tuple[int, int, int]
Operation = Callable[[PilImage, float, float, Fill], PilImage]
"""(image, strength 0..1, sign of the direction, colour of uncovered pixels) -> image."""


def augmented_crop(
    image: Image, augment: AugmentSettings, settings: MctFormerSettings, rng: np.random.Generator
) -> Float32[np.ndarray, "3 side side"]:
    """Draw a training crop of an image.

    Args:
        image: upright RGB.
        augment: side, flip, mean and std; its other settings are for segmentation.
        settings: area of the crop, RandAugment, erasing.
        rng: source of all randomness.

    Returns:
        Normalised pixels of a square of side `augment.crop`.
    """
    h, w = image.shape[:2]
    top, left, height, width = random_box((h, w), settings.area, rng)
    part, side = np.ascontiguousarray(image[top : top + height, left : left + width]), augment.crop
    crop = PIL.Image.fromarray(part).resize((side, side), _BICUBIC)
    if rng.random() < augment.flip:
        crop = ImageOps.mirror(crop)
    red, green, blue = (min(round(value), 255) for value in augment.mean)
    crop = randomly_augmented(crop, settings.operations, (red, green, blue), rng)
    mean, std = (np.asarray(triple, np.float32) for triple in (augment.mean, augment.std))
    values = np.ascontiguousarray(((np.asarray(crop, np.float32) - mean) / std).transpose(2, 0, 1))
    if rng.random() < settings.erase:
        _erase(values, rng)
    return values


def random_box(
    size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a box by its share of the area and its aspect ratio; a central one if ten do not fit.

    Returns:
        Top, left, height and width.
    """
    h, w = size
    for _ in range(_TRIES):
        wanted = h * w * rng.uniform(*area)
        aspect = math.exp(rng.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        width, height = round(math.sqrt(wanted * aspect)), round(math.sqrt(wanted / aspect))
        if 0 < width <= w and 0 < height <= h:
            return int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1)), height, width
    height = h if w / h >= _ASPECT[0] else max(round(w / _ASPECT[0]), 1)
    width = w if w / h <= _ASPECT[1] else max(round(h * _ASPECT[1]), 1)
    return (h - height) // 2, (w - width) // 2, height, width


def randomly_augmented(image: PilImage, count: int, fill: Fill, rng: np.random.Generator) -> PilImage:
    """Apply RandAugment.

    Args:
        image: RGB.
        count: number of operations drawn.
        fill: colour of pixels that an operation uncovers.
        rng: source of all randomness.
    """
    names = list(OPERATIONS)
    for index in rng.integers(len(names), size=count):
        applied = rng.random() < _APPLIED
        level = min(max(rng.normal(_LEVEL, _SPREAD), 0.0), _TOP) / _TOP
        sign = -1.0 if rng.random() < 0.5 else 1.0
        if applied:
            image = OPERATIONS[names[index]](image, level, sign, fill)
    return image


def _affine(
    image: PilImage,
    fill: Fill,
    *,
    shear_x: float = 0.0,
    shear_y: float = 0.0,
    move_x: float = 0.0,
    move_y: float = 0.0,
) -> PilImage:
    """Output (x, y) takes input (x + shear_x y + move_x, y + shear_y x + move_y)."""
    matrix = (1.0, shear_x, move_x, shear_y, 1.0, move_y)
    return image.transform(image.size, PIL.Image.Transform.AFFINE, matrix, _BICUBIC, fillcolor=fill)


def _posterise(image: PilImage, bits: int) -> PilImage:
    """Keep the highest bits of each value. At level 10 these are 0: the image turns black, as in timm."""
    return image.point([value & ~(2 ** (8 - bits) - 1) for value in range(256)] * 3)


def _solarise_add(image: PilImage, add: int) -> PilImage:
    return image.point([min(value + add, 255) if value < 128 else value for value in range(256)] * 3)


def _enhancing(enhancer: Callable[[PilImage], ImageEnhance._Enhance]) -> Operation:
    return lambda image, level, sign, fill: enhancer(image).enhance(1 + sign * 0.9 * level)


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "autocontrast": lambda image, level, sign, fill: ImageOps.autocontrast(image),
        "equalise": lambda image, level, sign, fill: ImageOps.equalize(image),
        "invert": lambda image, level, sign, fill: ImageOps.invert(image),
        "rotate": lambda image, level, sign, fill: image.rotate(sign * 30 * level, _BICUBIC, fillcolor=fill),
        "posterise": lambda image, level, sign, fill: _posterise(image, 4 - int(4 * level)),
        "solarise": lambda image, level, sign, fill: ImageOps.solarize(image, 256 - int(256 * level)),
        "solarise-add": lambda image, level, sign, fill: _solarise_add(image, int(110 * level)),
        "colour": _enhancing(ImageEnhance.Color),
        "contrast": _enhancing(ImageEnhance.Contrast),
        "brightness": _enhancing(ImageEnhance.Brightness),
        "sharpness": _enhancing(ImageEnhance.Sharpness),
        "shear-x": lambda image, level, sign, fill: _affine(image, fill, shear_x=sign * 0.3 * level),
        "shear-y": lambda image, level, sign, fill: _affine(image, fill, shear_y=sign * 0.3 * level),
        "translate-x": lambda image, level, sign, fill: _affine(
            image, fill, move_x=sign * 0.45 * level * image.width
        ),
        "translate-y": lambda image, level, sign, fill: _affine(
            image, fill, move_y=sign * 0.45 * level * image.height
        ),
    }
)
"""RandAugment's operations by name."""


def _erase(values: Float32[np.ndarray, "3 h w"], rng: np.random.Generator) -> None:
    """Replace a random box by normal noise, in place; leave all as it is if ten boxes do not fit."""
    _, h, w = values.shape
    for _ in range(_TRIES):
        wanted = h * w * rng.uniform(*_ERASED_AREA)
        aspect = math.exp(rng.uniform(math.log(_ERASED_ASPECT[0]), math.log(_ERASED_ASPECT[1])))
        height, width = round(math.sqrt(wanted * aspect)), round(math.sqrt(wanted / aspect))
        if height < h and width < w:
            top, left = int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1))
            noise = rng.standard_normal((3, height, width), dtype=np.float32)
            values[:, top : top + height, left : left + width] = noise
            return
