"""How good masks are: intersection over union, from counts that can be added up.

numpy only, so that results can be scored where no model runs. Tags are scored in `tag_metrics`.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int, Integer, Num

from tagmask.errors import InputError, ShapeError

__all__ = ["Average", "Cell", "ConfusionMatrix"]

Average: TypeAlias = Literal["union", "truth"]

Cell: TypeAlias = tuple[int, int, int]
"""True class, predicted class (the number of classes where that is none), pixels."""


class ConfusionMatrix:
    """Counts of (true class, predicted class) over a whole set; every score is a ratio of sums.

    Args:
        classes: number of classes; labels are 0 .. classes - 1.
        ignore: label of pixels that are not scored.

    Raises:
        InputError: `classes` under 1.

    Source:
        mmsegmentation's IoU metric, checked against its numbers.

    Example:
        >>> matrix = ConfusionMatrix(2)
        >>> matrix.update(np.array([[0, 1, 1]]), np.array([[0, 1, 0]]))
        >>> matrix.iou().tolist(), matrix.miou()
        ([0.5, 0.5], 0.5)
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        if classes < 1:
            raise InputError(f"got {classes} classes; give at least 1")
        self.classes = classes
        self.ignore = ignore
        self._counts = np.zeros((classes, classes + 1), np.int64)

    def update(self, labels: Integer[np.ndarray, "*size"], truth: Integer[np.ndarray, "*size"]) -> None:
        """Count one image, or any number of pixels.

        Args:
            labels: predicted class per pixel. Values outside 0 .. classes - 1 are wrong answers
                that belong to no class: they add to what the truth holds, not to what any class
                predicted.
            truth: true class per pixel, or `ignore`.

        Raises:
            ShapeError: `labels` and `truth` differ in shape.
            InputError: `truth` holds another value.
        """
        if labels.shape != truth.shape:
            raise ShapeError(
                f"got labels of {labels.shape} for truth of {truth.shape}; resize neither, find out why"
            )
        scored = truth != self.ignore
        true = truth[scored].astype(np.int64)
        if true.size and not 0 <= true.min() <= true.max() < self.classes:
            raise InputError(
                f"truth holds labels {true.min()} to {true.max()} for {self.classes} classes; "
                f"labels are 0 to {self.classes - 1}, or {self.ignore} where nothing is scored"
            )
        seen = labels[scored].astype(np.int64)
        seen[(seen < 0) | (seen >= self.classes)] = self.classes
        width = self.classes + 1
        self._counts += np.bincount(true * width + seen, minlength=self._counts.size).reshape(-1, width)

    def cells(self) -> list[Cell]:
        """All counts that are not zero: few for one image, however many classes there are."""
        true, seen = np.nonzero(self._counts)
        pixels = self._counts[true, seen]
        return list(zip(true.tolist(), seen.tolist(), pixels.tolist(), strict=True))

    def add(self, cells: Iterable[Sequence[int]]) -> None:
        """Add counts that were made elsewhere, as `cells` gives them.

        Raises:
            InputError: a cell that this matrix does not have, or a count below 0.
        """
        for true, seen, pixels in cells:
            if not (0 <= true < self.classes and 0 <= seen <= self.classes and pixels >= 0):
                raise InputError(
                    f"got the count {[true, seen, pixels]} for {self.classes} classes; wanted are a true "
                    f"class, a predicted class (or {self.classes} for none) and a number of pixels"
                )
            self._counts[true, seen] += pixels

    def grouped(self, groups: Sequence[int], count: int) -> "ConfusionMatrix":
        """The same pixels counted by coarser classes.

        Args:
            groups: of each class, the coarser class it belongs to.
            count: how many coarser classes there are.

        Raises:
            InputError: not one group a class, or a group outside 0 .. count - 1.
        """
        if len(groups) != self.classes or not all(0 <= group < count for group in groups):
            raise InputError(
                f"got {len(groups)} groups for {self.classes} classes; give each one of 0 to {count - 1}"
            )
        coarse = ConfusionMatrix(count, self.ignore)
        table = np.array([*groups, count])
        np.add.at(coarse._counts, (table[:-1, None], table[None, :]), self._counts)
        return coarse

    @property
    def matrix(self) -> Int[np.ndarray, "classes classes"]:
        """Pixels by true class (rows) and predicted class; answers that are no class are left out."""
        return self._counts[:, :-1].copy()

    def iou(self) -> Float[np.ndarray, " classes"]:
        """Intersection over union per class; NaN for a class that neither truth nor labels hold."""
        right, true, said = self._sums()
        return _ratio(right, true + said - right)

    def accuracy(self) -> Float[np.ndarray, " classes"]:
        """Share of each class's pixels that got it; NaN for a class that the truth does not hold."""
        right, true, _ = self._sums()
        return _ratio(right, true)

    def miou(self, average: Average = "union") -> float:
        """Mean IoU; NaN if there is no class to average.

        Args:
            average: "union" averages the classes that truth or labels hold (a class that is
                only predicted counts 0), as mmsegmentation and SCLIP do; "truth" averages the
                classes that the truth holds, as CLIP-ES and CLS-SEG do.

        Raises:
            InputError: another `average`.
        """
        if average not in ("union", "truth"):
            raise InputError(f'got the average "{average}"; give "union" or "truth"')
        iou = self.iou()
        return _mean(iou if average == "union" else iou[self._counts.sum(1) > 0])

    def pixel_accuracy(self) -> float:
        """Share of all scored pixels that are right; NaN if there are none."""
        right, true, _ = self._sums()
        return _mean(_ratio(right.sum(keepdims=True), true.sum(keepdims=True)))

    def mean_accuracy(self) -> float:
        """Mean of `accuracy` over the classes that the truth holds; NaN if there are none."""
        return _mean(self.accuracy())

    def _sums(self) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
        """Pixels per class that are right, true, and predicted."""
        return self._counts.diagonal(), self._counts.sum(1), self._counts[:, :-1].sum(0)


def _ratio(part: Num[np.ndarray, " n"], total: Num[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    ratio = np.full(len(total), np.nan)
    np.divide(part, total, out=ratio, where=total > 0)
    return ratio


def _mean(values: Float[np.ndarray, " n"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
