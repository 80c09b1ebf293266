"""Masks as they travel between the server and its pages."""

from io import BytesIO

import numpy as np
import PIL.Image

from tagmask.masks import IndexMap

__all__ = ["mask_image"]


def mask_image(labels: IndexMap) -> bytes:
    """Return labels as an RGB PNG: label = red + 256 green; pixels of no class are white."""
    rgb = np.zeros((*labels.shape, 3), np.uint8)
    rgb[..., 0] = labels & 255
    rgb[..., 1] = labels >> 8
    rgb[labels == np.iinfo(labels.dtype).max] = 255
    buffer = BytesIO()
    PIL.Image.fromarray(rgb).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
