"""The same pictures under several methods, in one picture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import PIL.Image

from tagmask.api import Segmenter
from tagmask.catalogue import method
from tagmask.clip.load import Clip
from tagmask.report.contact_sheet import Heading, Row, fitted, picture_sheet
from tagmask.results import Segmentation
from tagmask.types import Image, Images

__all__ = ["method_grid"]

_LONGEST = 280
"""Of a cell, in pixels."""


def method_grid(clip: Clip, images: Images, words: Sequence[str], methods: Sequence[str]) -> PIL.Image.Image:
    """Masks of the same words under several methods: a row a picture, a column a method.

    Args:
        clip: from `tagmask.load`.
        images: upright RGB of any sizes.
        words: as `tagmask.Segmenter` takes them; each has one colour throughout.
        methods: names of `tagmask.methods()` that make masks.

    Raises:
        InputError: unusable words, or an unknown method.
        ShapeError: no pictures.
    """
    found = [Segmenter(clip, words, method=name)(list(images)) for name in methods]
    rows = []
    for i, image in enumerate(images):
        picture = fitted(image, _LONGEST)
        rows.append(Row((picture, *(_masked(picture, of_images[i]) for of_images in found))))
    said = [method(name, "masks").summary for name in methods]
    return picture_sheet([Heading("picture"), *map(Heading, methods, said)], rows)


def _masked(picture: Image, found: Segmentation) -> Image:
    """The overlay at the picture's size, so that names are as large on every cell."""
    h, w = picture.shape[:2]
    rows = (2 * np.arange(h) + 1) * found.labels.shape[0] // (2 * h)
    columns = (2 * np.arange(w) + 1) * found.labels.shape[1] // (2 * w)
    shown = replace(found, labels=found.labels[np.ix_(rows, columns)], scores=None)
    return np.asarray(shown.overlay(picture))
