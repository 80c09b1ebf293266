"""Colour augmentation of training images: OpenCV's 8-bit hue, saturation and value, in NumPy.

hue 0..179 (two degrees a level)    saturation, value 0..255
"""

import numpy as np
from jaxtyping import Float32, UInt8

from tagmask.types import Image

__all__ = ["distorted", "from_hsv", "jittered", "to_hsv"]

_HUES = 180


def to_hsv(image: Image) -> UInt8[np.ndarray, "h w 3"]:
    """Convert RGB to hue, saturation and value, scaled and rounded to 8 bits as in OpenCV.

    Example:
        >>> to_hsv(np.array([[[255, 0, 0], [0, 128, 128]]], np.uint8)).tolist()
        [[[0, 255, 255], [90, 255, 128]]]
    """
    red, green, blue = (np.ascontiguousarray(image[..., c], np.float32) for c in range(3))
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    part = np.where(spread > 0, spread, np.float32(1))
    hue = np.where(
        value == red,
        (green - blue) / part,
        np.where(value == green, 2 + (blue - red) / part, 4 + (red - green) / part),
    )
    hue = np.where(spread > 0, np.rint(30 * hue) % _HUES, 0)
    saturation = np.where(value > 0, 255 * spread / np.maximum(value, 1), 0)
    stacked: UInt8[np.ndarray, "h w 3"] = np.stack([hue, np.rint(saturation), value], axis=-1).astype(
        np.uint8
    )
    return stacked


def from_hsv(hsv: UInt8[np.ndarray, "h w 3"]) -> Image:
    """Convert 8-bit hue, saturation and value to RGB.

    Example:
        >>> from_hsv(np.array([[[90, 255, 128]]], np.uint8)).tolist()
        [[[0, 128, 128]]]
    """
    hue = hsv[..., 0].astype(np.float32) * np.float32(6 / _HUES)
    saturation = hsv[..., 1].astype(np.float32) / 255
    value = hsv[..., 2].astype(np.float32)
    planes = []
    for shift in (5, 3, 1):  # red, green, blue: one ramp, shifted by a third of the circle
        place = shift + hue
        place = np.where(place >= 6, place - 6, place)
        ramp = np.clip(np.minimum(place, 4 - place), 0, 1)
        planes.append(np.rint(value - value * saturation * ramp))
    image: Image = np.stack(planes, axis=-1).astype(np.uint8)
    return image


def distorted(image: Image, rng: np.random.Generator) -> Image:
    """Apply photometric distortion, each change with probability 0.5.

    Brightness moves by up to 32, contrast and saturation are multiplied by 0.5 to 1.5, hue moves by up to 18
    levels. Contrast comes before or after saturation and hue, with equal probability. Each result is clipped
    to 0..255.

    Source:
        Photometric distortion as in mmseg 0.19, which the authors of WeakCLIP use.
    """
    if rng.random() < 0.5:
        image = _scaled(image, 1.0, rng.uniform(-32, 32))
    contrast_last = rng.random() < 0.5
    if not contrast_last and rng.random() < 0.5:
        image = _scaled(image, rng.uniform(0.5, 1.5), 0.0)
    saturate, shift_hue = rng.random() < 0.5, rng.random() < 0.5
    if saturate or shift_hue:
        hsv = to_hsv(image)
        if saturate:
            hsv[..., 1] = _scaled(hsv[..., 1], rng.uniform(0.5, 1.5), 0.0)
        if shift_hue:
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(rng.integers(-18, 18))) % _HUES
        image = from_hsv(hsv)
    if contrast_last and rng.random() < 0.5:
        image = _scaled(image, rng.uniform(0.5, 1.5), 0.0)
    return image


def jittered(image: Image, max_shift: int, rng: np.random.Generator) -> Image:
    """Shift hue (modulo 180), saturation and value (clipped to 0..255), each by up to `max_shift` levels."""
    hsv = to_hsv(image).astype(np.int16)
    hue, saturation, value = rng.integers(-max_shift, max_shift + 1, 3).tolist()
    hsv[..., 0] = (hsv[..., 0] + hue) % _HUES
    hsv[..., 1:] = np.clip(hsv[..., 1:] + np.array([saturation, value], np.int16), 0, 255)
    return from_hsv(hsv.astype(np.uint8))


def _scaled(values: UInt8[np.ndarray, "..."], factor: float, shift: float) -> UInt8[np.ndarray, "..."]:
    scaled: Float32[np.ndarray, "..."] = values.astype(np.float32) * np.float32(factor) + np.float32(shift)
    clipped: UInt8[np.ndarray, "..."] = np.clip(scaled, 0, 255).astype(np.uint8)
    return clipped
