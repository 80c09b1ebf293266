"""Score maps as heatmaps over the image."""

import io
from collections.abc import Sequence

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from tagmask.errors import ShapeError
from tagmask.report.text import data_uri, escaped
from tagmask.types import Image

__all__ = ["heat_overlay", "heatmap_strip"]

_LONGEST = 160
"""Longest side of a thumbnail, in pixels."""
_COLD, _WARM = np.array([86, 108, 160.0]), np.array([255, 206, 64.0])


def heatmap_strip(
    image: UInt8[np.ndarray, "h w 3"], maps: Sequence[tuple[str, Float[np.ndarray, "_ _"]]]
) -> str:
    """Return a thumbnail of each map with its name, as HTML; "" if there are no maps.

    Args:
        image: upright RGB.
        maps: names and scores 0..1 of the image's size.

    Raises:
        ShapeError: a map differs from the image in size.
    """
    if not maps:
        return ""
    figures = "".join(
        f'<figure><img src="{_thumbnail(image, scores, name)}" alt="Activation map of {escaped(name)}"'
        f' loading="lazy" decoding="async"><figcaption>{escaped(name)}</figcaption></figure>'
        for name, scores in maps
    )
    return f'<section class="heat"><h3>Activation maps</h3><div>{figures}</div></section>'


def _thumbnail(image: UInt8[np.ndarray, "h w 3"], scores: Float[np.ndarray, "_ _"], name: str) -> str:
    if scores.shape != image.shape[:2]:
        raise ShapeError(
            f"The map of {name} has size {scores.shape}, but the image has {image.shape[:2]} (h, w). "
            "Give a map of the image's size."
        )
    step = -(-max(scores.shape) // _LONGEST)
    file = io.BytesIO()
    heatmap = PIL.Image.fromarray(heat_overlay(image[::step, ::step], scores[::step, ::step]))
    heatmap.save(file, "JPEG", quality=85, optimize=True)
    return data_uri("image/jpeg", file.getvalue())


def heat_overlay(image: Image, scores: Float[np.ndarray, "h w"]) -> Image:
    """Colour an image by its scores, from blue (0) to yellow (1).

    The image's brightness modulates the colour, less so for high scores, which stay visible in dark regions.
    """
    brightness = image.mean(axis=2, keepdims=True) / 255
    warmth = np.clip(np.nan_to_num(scores), 0, 1)[..., None]
    colour = _COLD + (_WARM - _COLD) * warmth
    floor = 0.5 + 0.3 * warmth
    overlay: Image = (colour * (floor + (1 - floor) * brightness)).astype(np.uint8)
    return overlay
