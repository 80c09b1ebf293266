"""Score single images: pixel counts, or scored tags, or the kind of failure."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Integer

from tagmask.api import Segmenter, Tagger
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, ShapeError, TagmaskError
from tagmask.runs.ordered_map import out_of_memory
from tagmask.types import Image

__all__ = ["Scorer", "ScoringError", "failure_kind", "mask_scorer", "tag_scorer"]

Scorer = Callable[[Sample], Mapping[str, object]]
"""Returns the record of one image, as JSON.

For masks `pixels`: counts by true and predicted class (`metrics.ConfusionMatrix.cells`). For tags `scores`,
one for each tag, and `chosen`: indices of the chosen tags.
"""

Read = TypeVar("Read")


class ScoringError(TagmaskError):
    """An image that cannot be scored because of its files.

    Args:
        kind: image, mask, size, labels or tags (`summary.FAILURES`).
        reason: what is wrong.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def failure_kind(error: Exception) -> str:
    """What kind of failure an image's error is: one of `summary.FAILURES`."""
    if isinstance(error, ScoringError):
        return error.kind
    if out_of_memory(error):
        return "memory"
    return "method" if isinstance(error, TagmaskError) else "unexpected"


def mask_scorer(segmenter: Segmenter, dataset: Dataset, *, given_tags: bool = False) -> Scorer:
    """Return a function that segments a sample and counts its pixels by true and predicted class.

    Args:
        segmenter: its classes are `dataset.classes`, in that order.
        dataset: the data set of the samples.
        given_tags: pass each image's ground-truth tags to the method.

    Raises:
        InputError: the numbers of classes differ, or only the data set has a background.
    """
    _check_same_classes(segmenter.words, dataset.classes, dataset.name, "masks")
    if dataset.classes[0] == "background" and not segmenter.background:
        raise InputError(
            f"{dataset.name} has a background class, {segmenter.recipe.name} has none. "
            "Give a recipe of that data set."
        )

    def score(sample: Sample) -> Mapping[str, object]:
        tags = None
        if given_tags:
            if sample.tags is None:
                raise ScoringError("tags", "its ground-truth tags are unknown")
            tags = list(sample.tags)
        if sample.read_mask is None:
            raise ScoringError("mask", "it has no mask")
        image = _read("image", sample.read_image)
        truth = _read("mask", sample.read_mask)
        return _count_pixels(segmenter, image, truth, tags, dataset.ignore)

    return score


def _count_pixels(
    segmenter: Segmenter,
    image: Image,
    truth: Integer[np.ndarray, "_ _"],
    tags: list[int] | None,
    ignore: int,
) -> Mapping[str, object]:
    if truth.shape != image.shape[:2]:
        raise ScoringError("size", f"its mask is {truth.shape} (h, w), the image {image.shape[:2]}")
    matrix = ConfusionMatrix(len(segmenter.words), ignore)
    labels = segmenter(image, tags=tags).labels
    try:
        matrix.update(labels, truth)
    except InputError as error:
        raise ScoringError("labels", str(error)) from error
    return {"pixels": matrix.cells()}


def tag_scorer(tagger: Tagger, dataset: Dataset) -> Scorer:
    """Return a function that tags a sample and records all scores.

    Raises:
        InputError: the numbers of classes differ.
    """
    _check_same_classes(tagger.words, dataset.tag_classes, dataset.name, "tags")

    def score(sample: Sample) -> Mapping[str, object]:
        if sample.tags is None:
            raise ScoringError("tags", "its ground-truth tags are unknown")
        tags = tagger(_read("image", sample.read_image))
        # The shortest text that parses to the same float32.
        return {"scores": [float(str(score)) for score in tags.scores], "chosen": tags.chosen}

    return score


def _read(kind: str, read: Callable[[], Read]) -> Read:
    try:
        return read()
    except (TagmaskError, OSError) as error:
        kind = "size" if isinstance(error, ShapeError) else kind
        raise ScoringError(kind, str(error) or type(error).__name__) from error


def _check_same_classes(ours: tuple[str, ...], theirs: tuple[str, ...], name: str, what: str) -> None:
    if len(ours) != len(theirs):
        raise InputError(
            f"The recipe's {what} have {len(ours)} classes ({', '.join(ours[:3])}, ...), {name} has "
            f"{len(theirs)} ({', '.join(theirs[:3])}, ...). Give a recipe of that data set."
        )
