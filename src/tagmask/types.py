"""Shape aliases. Each letter has one meaning in the whole package.

    b  images or windows of a batch      h w    image height, width in pixels
    n  tokens = class token + patches    gh gw  patch grid, rows then columns; p = gh * gw, row-major
    d  width of a token                  e      width of the shared image-text space
    q  texts (queries, names)            c      classes, each of one or several texts
    l  layers, counted from 0            heads  attention heads

Sizes are always (h, w). Boxes are always (x0, y0, x1, y1), half-open.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

__all__ = [
    "Attention",
    "Heads",
    "Image",
    "Images",
    "Pixels",
    "Size",
    "TextFeatures",
    "Tokens",
]

Size: TypeAlias = tuple[int, int]
"""(h, w) or (gh, gw)."""

Image: TypeAlias = UInt8[np.ndarray, "h w 3"]
"""Upright RGB, 0..255."""

Images: TypeAlias = Sequence[UInt8[np.ndarray, "_ _ 3"]]
"""Upright RGB images, each of its own size."""

Pixels: TypeAlias = Float[Tensor, "b 3 h w"]
"""Normalised for the weights: (x / 255 - mean) / std."""

Tokens: TypeAlias = Float[Tensor, "b n d"]
Heads: TypeAlias = Float[Tensor, "b heads n dh"]
"""q, k or v of one block, split in heads."""

Attention: TypeAlias = Float[Tensor, "b heads n n"]
"""Row i holds the weights with which token i attends to each token j."""

TextFeatures: TypeAlias = Float[Tensor, "q e"]
"""One row of length 1 per text."""
