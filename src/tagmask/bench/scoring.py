"""Score single images: pixel counts, or scored tags, or the kind of failure."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Integer

from tagmask.api import Segmenter, Tagger
from tagmask.bench.metrics import Cell, ConfusionMatrix
from tagmask.bench.trained import TrainedModel
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, ShapeError, TagmaskError
from tagmask.masks import IndexMap
from tagmask.runs.ordered_map import out_of_memory
from tagmask.types import Image

__all__ = ["Keep", "Scorer", "ScoringError", "failure_kind", "mask_scorer", "tag_scorer"]

Scorer = Callable[[Sample], Mapping[str, object]]
"""Returns the record of one image, as JSON.

For masks `pixels`: counts by true and predicted class (`metrics.ConfusionMatrix.cells`). For tags `scores`,
one for each tag, and `chosen`: indices of the chosen tags.
"""

Keep = Callable[[Sample, IndexMap], None]
"""Gets a sample and its mask; called from threads."""

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


def mask_scorer(
    segmenter: Segmenter | TrainedModel,
    dataset: Dataset,
    *,
    given_tags: bool = False,
    keep: Keep | None = None,
) -> Scorer:
    """Return a function that segments a sample and counts its pixels by true and predicted class.

    Args:
        segmenter: its classes are `dataset.classes`, in that order.
        dataset: the data set of the samples; where its labels are not published, nothing is counted.
        given_tags: pass each image's ground-truth tags to the method.
        keep: gets the mask of each sample.

    Raises:
        InputError: the numbers of classes differ, only the data set has a background, or there is neither
            ground truth nor `keep`.
    """
    if not dataset.labelled and keep is None:
        raise InputError(
            f"The labels of this split of {dataset.name} are not published. Give --submission FILE.tar and "
            "send the file to its server."
        )
    _check_same_classes(segmenter.words, dataset.classes, dataset.name, "masks")
    if dataset.classes[0] == "background" and not segmenter.background:
        raise InputError(
            f"{dataset.name} has a background class, {segmenter.recipe.name} has none. "
            "Give a recipe of that data set."
        )

    classes = len(segmenter.words)

    def score(sample: Sample) -> Mapping[str, object]:
        tags = None
        if given_tags:
            if sample.tags is None:
                raise ScoringError("tags", "its ground-truth tags are unknown")
            tags = list(sample.tags)
        if sample.read_mask is None and dataset.labelled:
            raise ScoringError("mask", "it has no mask")
        image = _read("image", sample.read_image)
        truth = None if sample.read_mask is None else _read("mask", sample.read_mask)
        if truth is not None and truth.shape != image.shape[:2]:
            raise ScoringError("size", f"its mask is {truth.shape} (h, w), the image {image.shape[:2]}")
        labels = _segment(segmenter, image, tags)
        if keep is not None:
            keep(sample, labels)
        return {"pixels": [] if truth is None else _count_pixels(labels, truth, classes, dataset.ignore)}

    return score


def _segment(segmenter: Segmenter | TrainedModel, image: Image, tags: list[int] | None) -> IndexMap:
    if isinstance(segmenter, TrainedModel):
        return segmenter.segment(image)
    labels: IndexMap = segmenter(image, tags=tags).labels
    return labels


def _count_pixels(
    labels: Integer[np.ndarray, "h w"], truth: Integer[np.ndarray, "h w"], classes: int, ignore: int
) -> list[Cell]:
    matrix = ConfusionMatrix(classes, ignore)
    try:
        matrix.update(labels, truth)
    except InputError as error:
        raise ScoringError("labels", str(error)) from error
    return matrix.cells()


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
