"""Compare mask methods: the same images under several methods, in one picture."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import PIL.Image

from tagmask.api import Segmenter
from tagmask.catalogue import method
from tagmask.clip.load import Clip
from tagmask.report.contact_sheet import Heading, Row, contact_sheet, resize_longest
from tagmask.results import Segmentation
from tagmask.types import Image, Images

__all__ = ["method_grid"]

_LONGEST = 280
"""Longest side of a cell, in pixels."""


def method_grid(clip: Clip, images: Images, words: Sequence[str], methods: Sequence[str]) -> PIL.Image.Image:
    """Draw the masks of the same words by several methods, with a row per image and a column per method.

    Args:
        clip: from `tagmask.load`.
        images: upright RGB of any sizes.
        words: as for `tagmask.Segmenter`; each has the same colour everywhere.
        methods: names of mask methods in `tagmask.methods()`.

    Raises:
        InputError: the words are invalid, or a method is unknown.
        ShapeError: there are no images.
    """
    segmentations = [Segmenter(clip, words, method=name)(list(images)) for name in methods]
    rows = []
    for i, image in enumerate(images):
        small = resize_longest(image, _LONGEST)
        rows.append(Row((small, *(_overlay(small, by_method[i]) for by_method in segmentations))))
    summaries = [method(name, "masks").summary for name in methods]
    return contact_sheet([Heading("image"), *map(Heading, methods, summaries)], rows)


def _overlay(image: Image, segmentation: Segmentation) -> Image:
    """Draw the overlay at the size of the reduced image, so that names have the same size on all cells."""
    h, w = image.shape[:2]
    rows = (2 * np.arange(h) + 1) * segmentation.labels.shape[0] // (2 * h)
    columns = (2 * np.arange(w) + 1) * segmentation.labels.shape[1] // (2 * w)
    reduced = replace(segmentation, labels=segmentation.labels[np.ix_(rows, columns)], scores=None)
    return np.asarray(reduced.overlay(image))
