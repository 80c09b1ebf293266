"""From a mask file's values to class indices, with every way in which masks go wrong told apart."""

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
"""What each value of a mask file means: a class index, the ignored value, or -1: not the set's."""

IGNORE = 255


def codes(meaning: Mapping[int, int]) -> Codes:
    """Codes of 8-bit masks from value to class index; 255 stays 255 unless `meaning` says otherwise.

    Example:
        >>> codes({7: 0, 8: 1})[7:10]
        (0, 1, -1)
    """
    whole = {IGNORE: IGNORE, **meaning}
    return tuple(whole.get(value, -1) for value in range(256))


def plain(classes: int) -> Codes:
    """Values are class indices."""
    return codes({value: value for value in range(classes)})


def without_zero(classes: int) -> Codes:
    """0 is not scored, n is class n - 1: for masks that count from 1, or whose background is left out.

    Example:
        >>> without_zero(2)[:4]
        (255, 0, 1, -1)
    """
    return codes({0: IGNORE} | {value: value - 1 for value in range(1, classes + 1)})


def read_labels(mask: Path, image: Path | None, meaning: Codes) -> Labels:
    """Read a mask's indices, and say what they mean.

    Args:
        mask: a PNG with a palette, or with 8- or 16-bit grey.
        image: the image it belongs to, whose header says how large the mask must be; not looked at if it is
            None or not there.
        meaning: of each value.

    Raises:
        ImageError: no such file, a damaged one, colours instead of indices, or a value that means nothing.
        ShapeError: a mask of another size than its image.
    """
    values = read_index_png(mask)
    size = image_size(image) if image is not None and image.exists() else values.shape
    if size != values.shape:
        (h, w), (high, wide) = values.shape, size
        raise ShapeError(
            f"{mask} is {h} x {w} pixels (height x width), its image {image} {high} x {wide}. They do not "
            "belong together, or one was resized; fetch both again."
        )
    top = int(values.max())
    table: np.ndarray = np.full(
        max(top + 1, len(meaning)), -1, np.int16 if max(meaning) < 2**15 else np.int32
    )
    table[: len(meaning)] = meaning
    labels = table[values]
    if int(labels.min()) < 0:
        raise ImageError(_no_class(mask, values[labels < 0], meaning, np.unique(values)))
    return labels.astype(np.uint8 if max(meaning) <= 255 else np.uint16)


def _no_class(mask: Path, strange: np.ndarray, meaning: Codes, values: np.ndarray) -> str:
    known = [value for value, index in enumerate(meaning) if index >= 0]
    said = ", ".join(map(str, np.unique(strange)[:5]))
    text = f"{mask} holds {said} in {strange.size} pixels; its values are {_ranges(known)}."
    # The grey that Pillow and others make of a palette's colours.
    red, green, blue = palette(len(meaning))[known].astype(np.int64).T
    greys = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    if len(meaning) <= 256 and np.isin(values, greys).all():
        return (
            f"{text} They look like a palette's colours turned to grey: save the indices, not their colours."
        )
    return f"{text} It is another set's mask, or made by another program."


def _ranges(values: Sequence[int]) -> str:
    """Ascending numbers in words: 0 to 20, 255."""
    starts = [n for n, value in enumerate(values) if n == 0 or value != values[n - 1] + 1]
    ends = [*(start - 1 for start in starts[1:]), len(values) - 1]
    spans = [(values[a], values[b]) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in spans)
