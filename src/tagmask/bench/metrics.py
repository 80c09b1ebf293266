"""Mask metrics: intersection over union from accumulated pixel counts.

Uses numpy only, so that results can be scored without a model. Tag metrics are in `tag_metrics`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Integer, Num

from tagmask.errors import InputError, ShapeError

__all__ = ["Average", "Cell", "ConfusionMatrix"]

Average: TypeAlias = Literal["union", "truth"]

Cell: TypeAlias = tuple[int, int, int]
"""True class, predicted class (the number of classes if the prediction is invalid), pixels."""


class ConfusionMatrix:
    """Pixel counts by (true class, predicted class) over a data set; every score is a ratio of sums.

    Args:
        classes: number of classes; labels are 0 .. classes - 1.
        ignore: ground-truth label of pixels that are not scored.

    Raises:
        InputError: `classes` under 1.

    Source:
        mmsegmentation's IoU metric; tested against its values.

    Example:
        >>> matrix = ConfusionMatrix(2)
        >>> matrix.update(np.array([[0, 1, 1]]), np.array([[0, 1, 0]]))
        >>> matrix.iou().tolist(), matrix.miou()
        ([0.5, 0.5], 0.5)
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        if classes < 1:
            raise InputError(f"Got {classes} classes. Give at least 1.")
        self.classes = classes
        self.ignore = ignore
        self._counts = np.zeros((classes, classes + 1), np.int64)

    def update(self, labels: Integer[np.ndarray, "*size"], truth: Integer[np.ndarray, "*size"]) -> None:
        """Count the pixels of one image, or of any array.

        Args:
            labels: predicted class per pixel. Values outside 0 .. classes - 1 are invalid and
                count as wrong: they add to the true class's pixels, but to no predicted class.
            truth: true class per pixel, or `ignore`.

        Raises:
            ShapeError: `labels` and `truth` differ in shape.
            InputError: `truth` holds an invalid value.
        """
        if labels.shape != truth.shape:
            raise ShapeError(
                f"Labels are {labels.shape}, the ground truth is {truth.shape}. Both need the image's size; "
                "do not resize them, find the cause."
            )
        scored = truth != self.ignore
        true = truth[scored].astype(np.int64)
        if true.size and not 0 <= true.min() <= true.max() < self.classes:
            raise InputError(
                f"The ground truth has labels {true.min()} to {true.max()}, with {self.classes} classes. "
                f"Labels are 0 to {self.classes - 1}, or {self.ignore} for pixels that are not scored."
            )
        predicted = labels[scored].astype(np.int64)
        predicted[(predicted < 0) | (predicted >= self.classes)] = self.classes
        width = self.classes + 1
        self._counts += np.bincount(true * width + predicted, minlength=self._counts.size).reshape(-1, width)

    def cells(self) -> list[Cell]:
        """All non-zero counts; a single image has few, whatever the number of classes."""
        true, predicted = np.nonzero(self._counts)
        pixels = self._counts[true, predicted]
        return list(zip(true.tolist(), predicted.tolist(), pixels.tolist(), strict=True))

    def add(self, cells: Iterable[Sequence[int]]) -> None:
        """Add counts in the form that `cells` returns.

        Raises:
            InputError: a cell outside this matrix, or a count below 0.
        """
        for true, predicted, pixels in cells:
            if not (0 <= true < self.classes and 0 <= predicted <= self.classes and pixels >= 0):
                raise InputError(
                    f"Invalid count {[true, predicted, pixels]} for {self.classes} classes. Give "
                    f"a true class, a predicted class ({self.classes} if invalid) and a number of pixels."
                )
            self._counts[true, predicted] += pixels

    def grouped(self, groups: Sequence[int], count: int) -> "ConfusionMatrix":
        """Merge the counts into coarser classes.

        Args:
            groups: the coarser class of each class.
            count: number of coarser classes.

        Raises:
            InputError: not one group per class, or a group outside 0 .. count - 1.
        """
        if len(groups) != self.classes or not all(0 <= group < count for group in groups):
            raise InputError(
                f"Got {len(groups)} groups for {self.classes} classes. "
                f"Give each class a group from 0 to {count - 1}."
            )
        coarse = ConfusionMatrix(count, self.ignore)
        table = np.array([*groups, count])
        np.add.at(coarse._counts, (table[:-1, None], table[None, :]), self._counts)
        return coarse

    @property
    def matrix(self) -> Int[np.ndarray, "classes classes"]:
        """Pixels by true class (rows) and predicted class (columns); invalid predictions are left out."""
        return self._counts[:, :-1].copy()

    def iou(self) -> Float[np.ndarray, " classes"]:
        """IoU per class; NaN for a class in neither the ground truth nor the predictions."""
        correct, true, predicted = self._sums()
        return _ratio(correct, true + predicted - correct)

    def accuracy(self) -> Float[np.ndarray, " classes"]:
        """Share of each class's pixels that are correct; NaN for a class that the ground truth lacks."""
        correct, true, _ = self._sums()
        return _ratio(correct, true)

    def miou(self, average: Average = "union") -> float:
        """Mean IoU; NaN if there is no class to average.

        Args:
            average: "union" averages over the classes in the ground truth or the predictions (a class
                that is only predicted counts as 0), as mmsegmentation and SCLIP do; "truth" averages
                over the classes in the ground truth, as CLIP-ES and CLS-SEG do.

        Raises:
            InputError: an unknown `average`.
        """
        if average not in ("union", "truth"):
            raise InputError(f"Unknown average {average!r}. Give 'union' or 'truth'.")
        iou = self.iou()
        return _mean(iou if average == "union" else iou[self._counts.sum(1) > 0])

    def pixel_accuracy(self) -> float:
        """Share of all scored pixels that are correct; NaN if there are none."""
        correct, true, _ = self._sums()
        return _mean(_ratio(correct.sum(keepdims=True), true.sum(keepdims=True)))

    def mean_accuracy(self) -> float:
        """Mean of `accuracy` over the classes in the ground truth; NaN if there are none."""
        return _mean(self.accuracy())

    def _sums(self) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
        """Pixels per class that are correct, in the ground truth, and predicted."""
        return self._counts.diagonal(), self._counts.sum(1), self._counts[:, :-1].sum(0)


def _ratio(part: Num[np.ndarray, " n"], total: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    ratio = np.full(len(total), np.nan)
    np.divide(part, total, out=ratio, where=total > 0)
    return ratio


def _mean(values: Float[np.ndarray, " n"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
