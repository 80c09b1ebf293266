"""Score images, one by one or in parallel; each gives a record with its result or the reason for its failure.

Records do not depend on the number of workers and come in the order of the images.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from jaxtyping import Integer

from tagmask.api import Segmenter, Tagger
from tagmask.bench.journal import Record
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, ShapeError, TagmaskError
from tagmask.runs.ordered_map import Outcome, ordered_map, out_of_memory
from tagmask.types import Image

__all__ = ["evaluate", "mask_scorer", "tag_scorer"]

Scorer = Callable[[Sample], Record]
Read = TypeVar("Read")


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

    def score(sample: Sample) -> Record:
        tags = None
        if given_tags:
            if sample.tags is None:
                return Record(id=sample.id, failed="tags", reason="its ground-truth tags are unknown")
            tags = list(sample.tags)
        if sample.read_mask is None:
            return Record(id=sample.id, failed="mask", reason="it has no mask")
        try:
            image = _read("image", sample.read_image)
            truth = _read("mask", sample.read_mask)
        except _UnreadableError as error:
            return Record(id=sample.id, failed=error.what, reason=str(error))
        return _count_pixels(sample.id, segmenter, image, truth, tags, dataset.ignore)

    return score


def _count_pixels(
    name: str,
    segmenter: Segmenter,
    image: Image,
    truth: Integer[np.ndarray, "_ _"],
    tags: list[int] | None,
    ignore: int,
) -> Record:
    if truth.shape != image.shape[:2]:
        reason = f"its mask is {truth.shape} (h, w), the image {image.shape[:2]}"
        return Record(id=name, failed="size", reason=reason)
    matrix = ConfusionMatrix(len(segmenter.words), ignore)
    labels = segmenter(image, tags=tags).labels
    try:
        matrix.update(labels, truth)
    except InputError as error:
        return Record(id=name, failed="labels", reason=str(error))
    return Record(id=name, pixels=tuple(matrix.cells()))


def tag_scorer(tagger: Tagger, dataset: Dataset) -> Scorer:
    """Return a function that tags a sample and records all scores.

    Raises:
        InputError: the numbers of classes differ.
    """
    _check_same_classes(tagger.words, dataset.tag_classes, dataset.name, "tags")

    def score(sample: Sample) -> Record:
        if sample.tags is None:
            return Record(id=sample.id, failed="tags", reason="its ground-truth tags are unknown")
        try:
            tags = tagger(_read("image", sample.read_image))
        except _UnreadableError as error:
            return Record(id=sample.id, failed=error.what, reason=str(error))
        # The shortest text that parses to the same float32.
        return Record(id=sample.id, scores=tuple(float(str(s)) for s in tags.scores), chosen=tags.chosen)

    return score


class _UnreadableError(TagmaskError):
    """A file of the data set is unreadable."""

    def __init__(self, what: str, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.what = "size" if isinstance(error, ShapeError) else what


def _read(what: str, read: Callable[[], Read]) -> Read:
    try:
        return read()
    except (TagmaskError, OSError) as error:
        raise _UnreadableError(what, error) from error


def _check_same_classes(ours: tuple[str, ...], theirs: tuple[str, ...], name: str, what: str) -> None:
    if len(ours) != len(theirs):
        raise InputError(
            f"The recipe's {what} have {len(ours)} classes ({', '.join(ours[:3])}, ...), {name} has "
            f"{len(theirs)} ({', '.join(theirs[:3])}, ...). Give a recipe of that data set."
        )


def evaluate(samples: Iterable[Sample], score: Scorer, *, workers: int = 1) -> Iterator[Record]:
    """Score samples lazily, in order.

    Errors of a single image (its files, their sizes, out of memory) become its record; bugs are raised.

    Raises:
        InputError: `workers` is not a number of 1 or more.
    """
    for outcome in ordered_map(samples, score, workers=workers, ahead=workers):
        yield _failed(outcome) if outcome.result is None else outcome.result


def _failed(outcome: Outcome[Sample, Record]) -> Record:
    name, error = outcome.item.id, outcome.error
    if error is not None and out_of_memory(error):
        reason = "out of memory for this image; use another device, or fewer workers"
        return Record(id=name, failed="memory", reason=reason)
    return Record(id=name, failed="method", reason=str(error))
