"""One image after another, or a few side by side: what each adds to a number, or why it adds nothing.

Results do not depend on how many images are scored at the same time, and come out in the order of the images.
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
    """Mask an image and count its pixels by true and predicted class.

    Args:
        segmenter: its labels are those of `dataset.classes`, in that order.
        dataset: whose samples will be scored.
        given_tags: the method is told each image's true tags.

    Raises:
        InputError: the segmenter's labels are not as many as the data set's classes.
    """
    _check_same_classes(segmenter.words, dataset.classes, dataset.name, "masks")
    if dataset.classes[0] == "background" and not segmenter.background:
        raise InputError(f"{dataset.name} has a background and {segmenter.recipe.name} has none")

    def score(sample: Sample) -> Record:
        tags = None
        if given_tags:
            if sample.tags is None:
                return Record(id=sample.id, failed="tags", reason="its true tags are not known")
            tags = list(sample.tags)
        if sample.read_mask is None:
            return Record(id=sample.id, failed="mask", reason="it has no mask")
        try:
            image = _read("image", sample.read_image)
            truth = _read("mask", sample.read_mask)
        except _UnreadableError as error:
            return Record(id=sample.id, failed=error.what, reason=str(error))
        return _counted(sample.id, segmenter, image, truth, tags, dataset.ignore)

    return score


def _counted(
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
    """Tag an image and keep all scores.

    Raises:
        InputError: the tagger's words are not as many as the data set's classes.
    """
    _check_same_classes(tagger.words, dataset.tag_classes, dataset.name, "tags")

    def score(sample: Sample) -> Record:
        if sample.tags is None:
            return Record(id=sample.id, failed="tags", reason="its true tags are not known")
        try:
            found = tagger(_read("image", sample.read_image))
        except _UnreadableError as error:
            return Record(id=sample.id, failed=error.what, reason=str(error))
        # The shortest text that reads back as the same float32.
        return Record(id=sample.id, scores=tuple(float(str(s)) for s in found.scores), chosen=found.chosen)

    return score


class _UnreadableError(TagmaskError):
    """A file of the data set that cannot be read."""

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
            f"the recipe's {what} have {len(ours)} classes ({', '.join(ours[:3])}, ...) and {name} has "
            f"{len(theirs)} ({', '.join(theirs[:3])}, ...); give the recipe of that data set"
        )


def evaluate(samples: Iterable[Sample], score: Scorer, *, workers: int = 1) -> Iterator[Record]:
    """Score samples, in order, as the iterator is read.

    What is wrong with one image (its files, their sizes, the memory it needs) becomes its record; faults of
    the program itself are raised.

    Raises:
        InputError: `workers` is no number from 1 on.
    """
    for outcome in ordered_map(samples, score, workers=workers, ahead=workers):
        yield _failed(outcome) if outcome.result is None else outcome.result


def _failed(outcome: Outcome[Sample, Record]) -> Record:
    name, error = outcome.item.id, outcome.error
    if error is not None and out_of_memory(error):
        reason = "not enough memory for this image; use another device, or fewer workers"
        return Record(id=name, failed="memory", reason=reason)
    return Record(id=name, failed="method", reason=str(error))
