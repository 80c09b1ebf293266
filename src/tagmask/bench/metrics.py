"""How good labels and tags are: IoU of masks, average precision and F1 of tags.

numpy only, so that results can be scored where no model runs.
"""

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Num, Shaped

from tagmask.errors import InputError, ShapeError

__all__ = [
    "F1",
    "ConfusionMatrix",
    "F1Scores",
    "average_precision",
    "f1_of_decisions",
    "f1_scores",
    "mean_average_precision",
    "over_relative_threshold",
    "reduce_zero",
]

Average: TypeAlias = Literal["union", "truth"]
Truth: TypeAlias = Shaped[np.ndarray, "images classes"]
"""True or non-zero where the class is in the image."""


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


def reduce_zero(truth: Integer[np.ndarray, "*size"]) -> Integer[np.ndarray, "*size"]:
    """Drop class 0 from the truth: 0 becomes 255 (ignored), n becomes n - 1, 255 stays.

    Example:
        >>> reduce_zero(np.array([0, 1, 2, 255], np.uint8)).tolist()
        [255, 0, 1, 255]
    """
    return np.where((truth == 0) | (truth == 255), 255, truth - 1).astype(truth.dtype)


def average_precision(
    scores: Float[np.ndarray, "images classes"], truth: Truth
) -> Float[np.ndarray, " classes"]:
    """Average precision per class: the mean, over its images, of the precision at their rank.

    Args:
        scores: any real numbers; only their order within a class matters. Of equal scores the
            earlier image ranks first.
        truth: which classes are in which images.

    Returns:
        0..1 per class; 0 for a class that is in no image.

    Raises:
        ShapeError: `scores` and `truth` differ in shape.

    Source:
        All-point average precision without interpolation, as coded by the authors of TagCLIP
        (AAAI 2024), whose order of equal scores is undefined.

    Example:
        >>> average_precision(np.array([[0.9], [0.8], [0.1]]), np.array([[1], [0], [1]])).round(4).tolist()
        [0.8333]
    """
    _require_same(scores, truth)
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(truth != 0, order, axis=0)
    precision = hits.cumsum(0) / np.arange(1, len(hits) + 1)[:, None]
    return _ratio((precision * hits).sum(0), hits.sum(0), otherwise=0.0)


def mean_average_precision(scores: Float[np.ndarray, "images classes"], truth: Truth) -> float:
    """Mean of `average_precision` over all classes, those in no image (0) included.

    Raises:
        ShapeError: `scores` and `truth` differ in shape.
    """
    return float(average_precision(scores, truth).mean())


class F1(NamedTuple):
    """All 0..1; `f1` is the harmonic mean of the other two, 0 where both are 0."""

    f1: float
    precision: float
    recall: float


class F1Scores(NamedTuple):
    """Three ways to average the same decisions."""

    overall: F1
    """Decisions of all images and classes pooled."""
    per_class: F1
    """Precision and recall of each class, their means over the classes, then F1 of the means."""
    per_sample: F1
    """The same over the images."""


def over_relative_threshold(
    scores: Float[np.ndarray, "images classes"], tau: float
) -> Bool[np.ndarray, "images classes"]:
    """Take the classes over lo + tau * (hi - lo), where lo and hi are the image's extreme scores.

    Strictly over: an image whose scores are all equal gets no class.
    """
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    over: Bool[np.ndarray, "images classes"] = scores > low + tau * (high - low)
    return over


def f1_scores(scores: Float[np.ndarray, "images classes"], truth: Truth, tau: float) -> F1Scores:
    """F1, precision and recall of the tags chosen by each image's relative threshold.

    Args:
        scores: any real numbers.
        truth: which classes are in which images.
        tau: place of the threshold between the image's least (0) and greatest (1) score.

    Raises:
        ShapeError: `scores` and `truth` differ in shape.

    Source:
        As coded by the authors of TagCLIP (AAAI 2024).
    """
    return f1_of_decisions(over_relative_threshold(scores, tau), truth)


def f1_of_decisions(chosen: Bool[np.ndarray, "images classes"], truth: Truth) -> F1Scores:
    """F1, precision and recall of given decisions.

    A class that is never chosen has precision 0, one that is in no image has recall 0, and
    both stay in the means; images alike.

    Raises:
        ShapeError: `chosen` and `truth` differ in shape.

    Example:
        >>> f1_of_decisions(np.array([[True, True]]), np.array([[1, 0]])).overall
        F1(f1=0.6666666666666666, precision=0.5, recall=1.0)
    """
    _require_same(chosen, truth)
    present = truth != 0
    right = chosen & present
    return F1Scores(
        _f1(*(a.reshape(-1).sum(keepdims=True) for a in (right, chosen, present))),
        _f1(*(a.sum(0) for a in (right, chosen, present))),
        _f1(*(a.sum(1) for a in (right, chosen, present))),
    )


def _f1(right: Int[np.ndarray, " n"], chosen: Int[np.ndarray, " n"], present: Int[np.ndarray, " n"]) -> F1:
    precision = float(_ratio(right, chosen, otherwise=0.0).mean())
    recall = float(_ratio(right, present, otherwise=0.0).mean())
    both = precision + recall
    return F1(2 * precision * recall / both if both else 0.0, precision, recall)


def _ratio(
    part: Num[np.ndarray, " n"], total: Num[np.ndarray, " n"], otherwise: float = np.nan
) -> Float[np.ndarray, " n"]:
    ratio = np.full(len(total), otherwise)
    np.divide(part, total, out=ratio, where=total > 0)
    return ratio


def _mean(values: Float[np.ndarray, " n"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _require_same(given: Shaped[np.ndarray, "..."], truth: Shaped[np.ndarray, "..."]) -> None:
    if given.shape != truth.shape:
        raise ShapeError(
            f"got {given.shape} for a truth of {truth.shape}; both are (images, classes), in the same order"
        )
