"""One image and its results; its words get common indices so that colours agree between segmentations."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from tagmask.errors import InputError, ShapeError
from tagmask.results import Segmentation, Tags

__all__ = ["Layer", "ReportItem", "Slots", "layers", "segmentations_of", "subsample"]

Slots: TypeAlias = Int[np.ndarray, "h w"]
"""Index of each pixel's word within its item; -1 is no label."""


@dataclass(frozen=True, eq=False)
class ReportItem:
    """One image and its results."""

    name: str
    """The image's name, e.g. its file name."""
    image: UInt8[np.ndarray, "h w 3"] | None
    """Upright RGB; None: the page shows no picture, and neither masks nor maps."""
    tags: Tags | None
    """Tags of the image, if any."""
    segmentations: tuple[tuple[str, Segmentation], ...]
    """Source (e.g. a method) and result of each segmentation. The first is shown by default."""
    truth: Segmentation | None = None
    """Ground truth, if known."""
    note: str = ""
    """Text printed below the name."""
    maps: tuple[tuple[str, Float[np.ndarray, "_ _"]], ...] = ()
    """Words and their activation maps, 0..1, shown as thumbnails below the tags."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One segmentation of an image, with item-wide word indices."""

    source: str
    """Source of the segmentation, e.g. a method."""
    slots: Slots
    """Word of each pixel."""
    shares: tuple[tuple[int, float], ...]
    """The words present and their shares of the pixels, 0..1, largest first."""
    unlabelled: float
    """Share of the pixels without a label."""
    background: int | None
    """The word that is drawn without a colour."""
    confidence: Mapping[int, float]
    """Confidence, 0..1, of the words that have one."""
    found: tuple[int, int] | None = None
    """How many of the ground truth's words are found, and their number, if comparable."""


def segmentations_of(item: ReportItem) -> tuple[tuple[str, Segmentation], ...]:
    """Return an item's segmentations, then its ground truth if known."""
    return (*item.segmentations, *((("ground truth", item.truth),) if item.truth else ()))


def layers(item: ReportItem) -> tuple[tuple[str, ...], tuple[Layer, ...]]:
    """Relabel an item's segmentations and ground truth with common word indices.

    The first segmentation's words come first and keep their order, so that its colours are those of its
    overlay. Equal words of the others get the same indices.

    Returns:
        The words, and a layer for each segmentation, then one for the ground truth.

    Raises:
        ShapeError: labels differ from the image in size.
        InputError: a label has no word.
    """
    segmentations = segmentations_of(item)
    words = tuple(dict.fromkeys(word for _, segmentation in segmentations for word in segmentation.words))
    indices = {word: i for i, word in enumerate(words)}
    result = [_layer(item, source, segmentation, indices) for source, segmentation in segmentations]
    if item.truth is None:
        return words, tuple(result)
    truth = result.pop()
    vocabularies = [set(segmentation.words) for _, segmentation in item.segmentations]
    truth_words = {words[slot] for slot, _ in truth.shares}
    compared = [
        replace(layer, found=words_found(layer.slots, truth.slots, truth.background))
        if truth_words and truth_words <= vocabulary
        else layer
        for layer, vocabulary in zip(result, vocabularies, strict=True)
    ]
    return words, (*compared, truth)


def words_found(
    labels: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"], background: int | None
) -> tuple[int, int]:
    """Count the words of a ground truth whose regions are found: an IoU of at least one half.

    Args:
        labels: the label of each pixel.
        truth: the true label of each pixel; pixels below 0 are not counted.
        background: the label that is no object, if any.

    Returns:
        The number of words found, and the number of words in the ground truth.

    Example:
        >>> words_found(np.array([[0, 1, 1, 2]]), np.array([[0, 1, 1, 1]]), background=0)
        (1, 1)
    """
    known = truth >= 0
    words = [int(word) for word in np.unique(truth[known]) if word != background]
    found = 0
    for word in words:
        predicted, true = (labels == word) & known, truth == word
        found += 2 * int((predicted & true).sum()) >= int((predicted | true).sum())
    return found, len(words)


def subsample(slots: Slots, longest: int) -> tuple[Int[np.ndarray, "gh gw"], int]:
    """Return every n-th pixel of every n-th row, and the smallest n for which no side exceeds `longest`.

    Example:
        >>> subsample(np.arange(10)[None], 4)
        (array([[1, 4, 7, 9]]), 3)
    """
    step = -(-max(slots.shape) // longest)
    rows, columns = (np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in slots.shape)
    sample: Int[np.ndarray, "gh gw"] = slots[np.ix_(rows, columns)]
    return sample, step


def _layer(item: ReportItem, source: str, segmentation: Segmentation, indices: dict[str, int]) -> Layer:
    labels = segmentation.labels
    if item.image is not None and (labels.shape != item.image.shape[:2] or not labels.size):
        raise ShapeError(
            f"{item.name}: The image is {item.image.shape[:2]} (h, w), but the labels of {source} are "
            f"{labels.shape}. Give the image that they were made from."
        )
    ignore_index = np.iinfo(labels.dtype).max
    unnamed = (labels >= len(segmentation.words)) & (labels != ignore_index)
    if unnamed.any():
        raise InputError(
            f"{item.name}: The mask of {source} has label {int(labels[unnamed].max())}, but only "
            f"{len(segmentation.words)} words are given (labels start at 0). "
            "Give the words that it was made with."
        )
    table = np.full(ignore_index + 1, -1, np.int32)
    slots_of_words = [indices[word] for word in segmentation.words][:ignore_index]
    table[: len(slots_of_words)] = slots_of_words
    slots: Slots = table[labels]
    counts = np.bincount(slots.ravel() + 1, minlength=len(indices) + 1)
    order = [int(slot) for slot in np.argsort(-counts[1:], kind="stable") if counts[1 + slot]]
    return Layer(
        source=source,
        slots=slots,
        shares=tuple((slot, float(counts[1 + slot] / labels.size)) for slot in order),
        unlabelled=float(counts[0] / labels.size),
        background=indices[segmentation.words[0]] if segmentation.background else None,
        confidence={
            indices[word]: value
            for word, value in (segmentation.class_confidence or {}).items()
            if word in indices
        },
    )
