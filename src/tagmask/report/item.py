"""One picture and what was found in it; its words brought to common numbers, so that colours agree."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Int, UInt8

from tagmask.errors import InputError, ShapeError
from tagmask.results import Segmentation, Tags

__all__ = ["Layer", "ReportItem", "Slots", "layers", "made", "sampled"]

Slots: TypeAlias = Int[np.ndarray, "h w"]
"""The number, within its sight, of each pixel's word; -1 is nothing."""


@dataclass(frozen=True, eq=False)
class ReportItem:
    """One picture and what was found in it."""

    name: str
    """What the picture is called, e.g. its file name."""
    image: UInt8[np.ndarray, "h w 3"]
    """Upright RGB."""
    tags: Tags | None
    """Which words are in it, if that was asked."""
    segmentations: tuple[tuple[str, Segmentation], ...]
    """Where they are: what each was made by, and the result. The first is shown first."""
    truth: Segmentation | None = None
    """Where they really are, if that is known."""
    note: str = ""
    """A remark to print with it."""
    maps: tuple[tuple[str, Float[np.ndarray, "_ _"]], ...] = ()
    """Words and where they are felt, 0..1: small pictures below the tags."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One way of labelling a picture."""

    by: str
    """What it was made by."""
    slots: Slots
    """Word per pixel."""
    shares: tuple[tuple[int, float], ...]
    """The words present and the share of the pixels that each has, 0..1, largest first."""
    unlabelled: float
    """Share of the pixels without a label."""
    background: int | None
    """The word that is left untinted."""
    agreement: float | None = None
    """Share of the pixels labelled in the truth that have the same word, where the two can be compared."""


def made(sight: ReportItem) -> tuple[tuple[str, Segmentation], ...]:
    """All labellings of a sight: its segmentations, then its truth where that is known."""
    return (*sight.segmentations, *((("truth", sight.truth),) if sight.truth else ()))


def layers(sight: ReportItem) -> tuple[tuple[str, ...], tuple[Layer, ...]]:
    """Number a sight's words, and relabel its segmentations and its truth with these numbers.

    The first segmentation's words come first and keep their order, so that its colours are those of its
    overlay; the others' same words take the same numbers.

    Returns:
        The words, and a layer for each segmentation, then one for the truth.

    Raises:
        ShapeError: labels that are not of the picture's size.
        InputError: a label without a word.
    """
    all_made = made(sight)
    words = tuple(dict.fromkeys(word for _, segmentation in all_made for word in segmentation.words))
    numbers = {word: i for i, word in enumerate(words)}
    result = [_layer(sight, by, segmentation, numbers) for by, segmentation in all_made]
    if sight.truth is None:
        return words, tuple(result)
    truth = result.pop()
    known = [set(segmentation.words) for _, segmentation in sight.segmentations]
    asked = {words[slot] for slot, _ in truth.shares}
    compared = [
        _compared(layer, truth) if asked and asked <= vocabulary else layer
        for layer, vocabulary in zip(result, known, strict=True)
    ]
    return words, (*compared, truth)


def sampled(slots: Slots, longest: int) -> tuple[Int[np.ndarray, "gh gw"], int]:
    """Every n-th pixel of every n-th row, so that no side is longer; and n.

    Example:
        >>> sampled(np.arange(10)[None], 4)
        (array([[1, 4, 7, 9]]), 3)
    """
    step = -(-max(slots.shape) // longest)
    rows, columns = (np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in slots.shape)
    sample: Int[np.ndarray, "gh gw"] = slots[np.ix_(rows, columns)]
    return sample, step


def _layer(sight: ReportItem, by: str, segmentation: Segmentation, numbers: dict[str, int]) -> Layer:
    labels = segmentation.labels
    if labels.shape != sight.image.shape[:2] or not labels.size:
        raise ShapeError(
            f"{sight.name}: the picture is {sight.image.shape[:2]} (h, w) and the labels of {by} are "
            f"{labels.shape}. Give the picture that they were made from."
        )
    ignore_index = np.iinfo(labels.dtype).max
    unnamed = (labels >= len(segmentation.words)) & (labels != ignore_index)
    if unnamed.any():
        raise InputError(
            f"{sight.name}: label {int(labels[unnamed].max())} is in the mask of {by}, but there are "
            f"{len(segmentation.words)} words, counted from 0. Give the words that it was made with."
        )
    table = np.full(ignore_index + 1, -1, np.int32)
    slots_of_words = [numbers[word] for word in segmentation.words][:ignore_index]
    table[: len(slots_of_words)] = slots_of_words
    slots: Slots = table[labels]
    counts = np.bincount(slots.ravel() + 1, minlength=len(numbers) + 1)
    order = [int(slot) for slot in np.argsort(-counts[1:], kind="stable") if counts[1 + slot]]
    return Layer(
        by=by,
        slots=slots,
        shares=tuple((slot, float(counts[1 + slot] / labels.size)) for slot in order),
        unlabelled=float(counts[0] / labels.size),
        background=numbers[segmentation.words[0]] if segmentation.background else None,
    )


def _compared(layer: Layer, truth: Layer) -> Layer:
    known = truth.slots >= 0
    agreement = float((layer.slots == truth.slots)[known].mean())
    return Layer(layer.by, layer.slots, layer.shares, layer.unlabelled, layer.background, agreement)
