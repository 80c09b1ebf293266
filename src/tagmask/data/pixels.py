"""Read mask files as class indices, with a specific error message for each kind of invalid mask."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from tagmask.data.sample import Labels
from tagmask.errors import ImageError, ShapeError
from tagmask.images import image_size
from tagmask.masks import palette, read_index_png

__all__ = ["Codes", "codes", "plain", "read_labels", "without_zero"]

Codes: TypeAlias = tuple[int, ...]
"""Meaning of each value of a mask file: a class index, the ignored value, or -1 if invalid."""

IGNORE = 255


def codes(meaning: Mapping[int, int]) -> Codes:
    """Build codes of 8-bit masks from value to class index; 255 stays 255 unless `meaning` has it.

    Example:
        >>> codes({7: 0, 8: 1})[7:10]
        (0, 1, -1)
    """
    whole = {IGNORE: IGNORE, **meaning}
    return tuple(whole.get(value, -1) for value in range(256))


def plain(classes: int) -> Codes:
    """Build codes for masks whose values are class indices."""
    return codes({value: value for value in range(classes)})


def without_zero(classes: int) -> Codes:
    """Build codes with 0 not scored and n as class n - 1: for masks that count from 1 or omit the background.

    Example:
        >>> without_zero(2)[:4]
        (255, 0, 1, -1)
    """
    return codes({0: IGNORE} | {value: value - 1 for value in range(1, classes + 1)})


def read_labels(mask: Path, image: Path | None, meaning: Codes) -> Labels:
    """Read a mask as class indices.

    Args:
        mask: a PNG with a palette, or with 8- or 16-bit grey.
        image: its image, whose header gives the expected size; not checked if it is None or missing.
        meaning: the codes of the data set.

    Raises:
        ImageError: the file is missing or damaged, has colours instead of indices, or has an invalid value.
        ShapeError: the sizes of mask and image differ.
    """
    values = read_index_png(mask)
    size = image_size(image) if image is not None and image.exists() else values.shape
    if size != values.shape:
        (h, w), (image_h, image_w) = values.shape, size
        raise ShapeError(
            f"{mask} is {h} x {w} pixels (height x width), its image {image} is {image_h} x {image_w}. "
            "One was resized, or they do not match; download both again."
        )
    top = int(values.max())
    table: np.ndarray = np.full(
        max(top + 1, len(meaning)), -1, np.int16 if max(meaning) < 2**15 else np.int32
    )
    table[: len(meaning)] = meaning
    labels = table[values]
    if int(labels.min()) < 0:
        raise ImageError(_invalid_message(mask, values[labels < 0], meaning, np.unique(values)))
    return labels.astype(np.uint8 if max(meaning) <= 255 else np.uint16)


def _invalid_message(mask: Path, invalid: np.ndarray, meaning: Codes, values: np.ndarray) -> str:
    valid = [value for value, index in enumerate(meaning) if index >= 0]
    listed = ", ".join(map(str, np.unique(invalid)[:5]))
    text = f"{mask} has invalid values {listed} in {invalid.size} pixels. Valid are {_ranges(valid)}."
    # The grey values that Pillow and others convert a palette's colours to.
    red, green, blue = palette(len(meaning))[valid].astype(np.int64).T
    greys = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    if len(meaning) <= 256 and np.isin(values, greys).all():
        return f"{text} They match a palette's colours converted to grey: save the indices, not the colours."
    return f"{text} The mask belongs to another data set, or was written by another program."


def _ranges(values: Sequence[int]) -> str:
    """Format ascending numbers as ranges: 0 to 20, 255."""
    starts = [n for n, value in enumerate(values) if n == 0 or value != values[n - 1] + 1]
    ends = [*(start - 1 for start in starts[1:]), len(values) - 1]
    spans = [(values[a], values[b]) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)
