"""Compare mask methods: the same images under several methods, in one picture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import PIL.Image

from tagmask.api import Segmenter
from tagmask.catalogue import method
from tagmask.clip.load import Clip
from tagmask.masks import overlay_colours
from tagmask.report.contact_sheet import Heading, Row, contact_sheet, legend, resize_longest, stacked
from tagmask.results import Segmentation
from tagmask.types import Image, Images

__all__ = ["method_grid", "method_sheet"]

_LONGEST = 280
"""Longest side of a cell of a grid, in pixels."""
_LONGEST_OF_ONE = 440
"""The same for a picture of one image."""
_MOST_COLUMNS = 4


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
    return contact_sheet([Heading("image"), *map(_heading, methods)], rows)


def method_sheet(image: Image, segmentations: Mapping[str, Segmentation]) -> PIL.Image.Image:
    """Draw one image and its masks by several methods side by side, and the words' colours below.

    Args:
        image: upright RGB.
        segmentations: its masks by the method's name, at least one; all of the same words.
    """
    small = resize_longest(image, _LONGEST_OF_ONE)
    headings = [Heading("image"), *map(_heading, segmentations)]
    cells = [small, *(_overlay(small, masks) for masks in segmentations.values())]
    rows = -(-len(cells) // _MOST_COLUMNS)
    columns = -(-len(cells) // rows)
    sheets = [
        contact_sheet(headings[start : start + columns], [Row(tuple(cells[start : start + columns]))])
        for start in range(0, len(cells), columns)
    ]
    if colours := _colours(list(segmentations.values())):
        sheets.append(legend(colours, max(sheet.width for sheet in sheets)))
    return stacked(sheets)


def _colours(segmentations: Sequence[Segmentation]) -> dict[str, tuple[int, int, int]]:
    """The colour of each word that any of the masks has; the background has none."""
    first = segmentations[0]
    present = set().union(*(masks.pixels() for masks in segmentations))
    names = zip(first.words, overlay_colours(len(first.words)).tolist(), strict=True)
    return {
        word: (red, green, blue)
        for label, (word, (red, green, blue)) in enumerate(names)
        if word in present and not (label == 0 and first.background)
    }


def _heading(name: str) -> Heading:
    return Heading(name, method(name, "masks").summary)


def _overlay(image: Image, segmentation: Segmentation) -> Image:
    """Draw the overlay at the size of the reduced image, so that names have the same size on all cells."""
    h, w = image.shape[:2]
    rows = (2 * np.arange(h) + 1) * segmentation.labels.shape[0] // (2 * h)
    columns = (2 * np.arange(w) + 1) * segmentation.labels.shape[1] // (2 * w)
    reduced = replace(segmentation, labels=segmentation.labels[np.ix_(rows, columns)], scores=None)
    return np.asarray(reduced.overlay(image))
