"""Augment an image and its labels to a training crop: pure functions of a NumPy generator.

    resize -> crop -> flip -> colours -> normalise -> pad            (WeakCLIP)
    jitter -> flip -> resize -> normalise -> crop, padded            (students)

Images are uint8 RGB (h, w, 3), labels uint8 (h, w) with `IGNORE_INDEX` for unlabelled pixels. All randomness
comes from the generator given, so the same generator gives the same crop in any process.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch.nn.functional import interpolate

from tagmask.dense.resize import resize_cv2_linear, short_side_size
from tagmask.types import Size
from tagmask.weak.colours import distorted, jittered
from tagmask.weak.config import AugmentSettings
from tagmask.weak.labels import IGNORE_INDEX, resized_nearest

__all__ = ["Crop", "Labels", "RgbImage", "augmented"]

_TRIES = 10

RgbImage: TypeAlias = UInt8[np.ndarray, "_ _ 3"]
"""Upright RGB, 0..255, of any size."""
Labels: TypeAlias = UInt8[np.ndarray, "_ _"]
"""Class per pixel, of any size."""


class Crop(NamedTuple):
    """A training crop."""

    pixels: Float32[np.ndarray, "3 h w"]
    """Normalised; 0 in the padding."""
    labels: UInt8[np.ndarray, "*target"]
    """Class per pixel (h, w), `IGNORE_INDEX` in the padding; or other targets, see `samples.Batch`."""


def augmented(image: RgbImage, labels: Labels, settings: AugmentSettings, rng: np.random.Generator) -> Crop:
    """Draw a random training crop of an image.

    Args:
        image: upright RGB.
        labels: class per pixel, at the image's size.
        settings: the augmentations and their strengths.
        rng: source of all randomness.

    Returns:
        A square crop of side `settings.crop`.

    Source:
        WeakCLIP (Zhu et al., IJCV 2024), sections 4 and 6, as coded by the authors. Departures: colours are
        converted in floating point and cubic resizes are rounded once; a few pixels differ from OpenCV's
        by one level.
    """
    return _ORDERS[settings.order](image, labels, settings, rng)


def _weakclip(image: RgbImage, labels: Labels, settings: AugmentSettings, rng: np.random.Generator) -> Crop:
    ratio = float(rng.uniform(*settings.ratio))
    image, labels = _resized(image, labels, settings, ratio)
    top, left = _place(labels, settings, rng)
    window = (slice(top, top + settings.crop), slice(left, left + settings.crop))
    image, labels = image[window], labels[window]
    image, labels = _flipped(image, labels, settings.flip, rng)
    if settings.distort:
        image = distorted(image, rng)
    if settings.jitter:
        image = jittered(image, settings.jitter, rng)
    return _padded(_normalised(image, settings), labels, settings.crop, (0, 0))


def _student(image: RgbImage, labels: Labels, settings: AugmentSettings, rng: np.random.Generator) -> Crop:
    if settings.jitter:
        image = jittered(image, settings.jitter, rng)
    if settings.distort:
        image = distorted(image, rng)
    image, labels = _flipped(image, labels, settings.flip, rng)
    image, labels = _resized(image, labels, settings, float(rng.uniform(*settings.ratio)))
    pixels = _normalised(image, settings)
    h, w = labels.shape
    # An image smaller than the crop is placed at random inside it; a larger one is cropped at random.
    corner = (
        int(rng.integers(max(settings.crop - h, 0) + 1)),
        int(rng.integers(max(settings.crop - w, 0) + 1)),
    )
    top, left = _place(labels, settings, rng)
    window = (slice(top, top + settings.crop), slice(left, left + settings.crop))
    return _padded(pixels[:, *window], labels[window], settings.crop, corner)


_ORDERS: Mapping[str, Callable[[RgbImage, Labels, AugmentSettings, np.random.Generator], Crop]] = (
    MappingProxyType({"weakclip": _weakclip, "student": _student})
)


def _resized(
    image: RgbImage, labels: Labels, settings: AugmentSettings, ratio: float
) -> tuple[RgbImage, Labels]:
    size = image.shape[0], image.shape[1]
    if settings.base_short:
        short, long = (max(int(side * ratio), 1) for side in (settings.base_short, settings.base_long))
        size = short_side_size(size, short, long)
    else:
        size = max(round(size[0] * ratio), 1), max(round(size[1] * ratio), 1)
    if size == image.shape[:2]:
        return image, labels
    resized = resize_cv2_linear(image, size) if settings.interpolation == "linear" else _cubic(image, size)
    return resized, resized_nearest(labels, size)


def _cubic(image: RgbImage, size: Size) -> RgbImage:
    planes = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()[None]
    resized = interpolate(planes, size, mode="bicubic", align_corners=False)[0]
    rounded = resized.round_().clamp_(0, 255).to(torch.uint8)
    pixels: RgbImage = np.ascontiguousarray(rounded.numpy().transpose(1, 2, 0))
    return pixels


def _place(labels: Labels, settings: AugmentSettings, rng: np.random.Generator) -> tuple[int, int]:
    """Draw top and left of a crop; redraw up to ten times while one class covers too much of it."""
    h, w = labels.shape
    top = left = 0
    for attempt in range(_TRIES + 1):
        top = int(rng.integers(max(h - settings.crop, 0) + 1))
        left = int(rng.integers(max(w - settings.crop, 0) + 1))
        part = labels[top : top + settings.crop, left : left + settings.crop]
        if settings.crop_most >= 1 or attempt == _TRIES or _mixed(part, settings.crop_most):
            break
    return top, left


def _mixed(labels: Labels, max_share: float) -> bool:
    counts = np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    return bool((counts > 0).sum() > 1 and counts.max() < max_share * counts.sum())


def _flipped(
    image: RgbImage, labels: Labels, probability: float, rng: np.random.Generator
) -> tuple[RgbImage, Labels]:
    if rng.random() < probability:
        return image[:, ::-1], labels[:, ::-1]
    return image, labels


def _normalised(image: RgbImage, settings: AugmentSettings) -> Float32[np.ndarray, "3 _ _"]:
    mean, std = np.asarray(settings.mean, np.float32), np.asarray(settings.std, np.float32)
    pixels: Float32[np.ndarray, "3 _ _"] = ((image.astype(np.float32) - mean) / std).transpose(2, 0, 1)
    return pixels


def _padded(pixels: Float[np.ndarray, "3 h w"], labels: Labels, side: int, corner: Size) -> Crop:
    h, w = labels.shape
    window = (slice(corner[0], corner[0] + h), slice(corner[1], corner[1] + w))
    padded_pixels = np.zeros((3, side, side), np.float32)
    padded_pixels[:, *window] = pixels
    padded_labels = np.full((side, side), IGNORE_INDEX, np.uint8)
    padded_labels[window] = labels
    return Crop(padded_pixels, padded_labels)
