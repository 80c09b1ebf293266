"""Tag metrics: average precision of the scores; precision, recall and F1 of the chosen tags.

Papers define "average precision" differently and treat uncertain labels differently, so both are explicit
arguments here. Uses numpy only, so that results can be scored without a model.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int, Num, Shaped

from tagmask.checks import check_choice
from tagmask.errors import ShapeError

__all__ = [
    "AP_RULES",
    "F1",
    "F1Scores",
    "average_precision",
    "f1_of_decisions",
    "mean_average_precision",
]

Truth: TypeAlias = Shaped[np.ndarray, "images classes"]
"""True or non-zero if the class is in the image."""

Unsure: TypeAlias = Bool[np.ndarray, "images classes"]
"""True if the label is uncertain: the image is left out of that class's scoring."""

Hits: TypeAlias = Bool[np.ndarray, " ranked"]
"""Whether each image has the class, best score first."""


# -- Average precision ---------------------------------------------------------------------------------------


def average_precision(
    scores: Float[np.ndarray, "images classes"],
    truth: Truth,
    rule: str = "ranks",
    unsure: Unsure | None = None,
) -> Float[np.ndarray, " classes"]:
    """Compute the average precision per class.

    Args:
        scores: any real numbers; only their order within a class matters. Ties are ranked by image
            order, except under the rule "steps", which counts equal scores together.
        truth: ground-truth classes of each image.
        rule: "ranks", the mean over a class's images of the precision at their rank (TagCLIP);
            "steps", the same with equal scores counted together (scikit-learn, torchmetrics);
            "eleven", the mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or
            more (VOC 2007); "area", the area under the monotone precision curve (from VOC 2010).
        unsure: uncertain labels, left out of scoring.

    Returns:
        0..1 per class; 0 for a class that is in no image.

    Raises:
        ShapeError: arrays that differ in shape.
        InputError: an unknown `rule`.

    Source:
        "ranks" as coded by the authors of TagCLIP (AAAI 2024), where the order of equal scores is
        undefined; "eleven" and "area" as in PASCAL VOC's devkits.

    Example:
        >>> average_precision(np.array([[0.9], [0.8], [0.1]]), np.array([[1], [0], [1]])).round(4).tolist()
        [0.8333]
    """
    _require_same(scores, truth)
    check_choice("rule", rule, tuple(AP_RULES))
    if unsure is not None:
        _require_same(unsure, truth)
    values = np.zeros(scores.shape[1])
    for c in range(scores.shape[1]):
        scored = slice(None) if unsure is None else ~unsure[:, c]
        order = np.argsort(-scores[scored, c], kind="stable")
        ranked, hits = scores[scored, c][order], truth[scored, c][order] != 0
        if hits.any():
            values[c] = AP_RULES[rule](ranked, hits)
    return values


def mean_average_precision(
    scores: Float[np.ndarray, "images classes"],
    truth: Truth,
    rule: str = "ranks",
    unsure: Unsure | None = None,
    *,
    absent: Literal["zero", "left out"] = "zero",
) -> float:
    """Compute the mean of `average_precision` over the classes.

    Args:
        scores: as in `average_precision`, like `truth`, `rule` and `unsure`.
        truth: ground-truth classes of each image.
        rule: the definition of average precision.
        unsure: uncertain labels, left out of scoring.
        absent: classes in no image count as 0 ("zero": TagCLIP, scikit-learn, torchmetrics), or are
            left out of the mean ("left out"). The papers' lists have all classes.

    Returns:
        0..1; NaN if no class is left.

    Raises:
        ShapeError: arrays that differ in shape.
        InputError: an unknown `rule` or `absent`.
    """
    check_choice("absent", absent, ("zero", "left out"))
    values = average_precision(scores, truth, rule, unsure)
    if absent == "left out":
        sure = truth != 0 if unsure is None else (truth != 0) & ~unsure
        values = values[sure.any(axis=0)]
    return float(values.mean()) if values.size else float("nan")


def _by_ranks(ranked: Num[np.ndarray, " ranked"], hits: Hits) -> float:
    return float((_precision(hits) * hits).sum() / hits.sum())


def _by_steps(ranked: Num[np.ndarray, " ranked"], hits: Hits) -> float:
    last_of_equals = np.append(ranked[1:] != ranked[:-1], True)
    gained = np.diff(hits.cumsum()[last_of_equals], prepend=0)
    return float((gained * _precision(hits)[last_of_equals]).sum() / hits.sum())


def _at_eleven(ranked: Num[np.ndarray, " ranked"], hits: Hits) -> float:
    # Integers, so that a recall of 3 in 10 reaches 0.3 exactly.
    tenths, best = 10 * hits.cumsum(), _best_from_rank(hits)
    needed = hits.sum() * np.arange(11)
    return float(np.mean([best[np.argmax(tenths >= need)] for need in needed]))


def _by_area(ranked: Num[np.ndarray, " ranked"], hits: Hits) -> float:
    return float(_best_from_rank(hits)[hits].sum() / hits.sum())


def _precision(hits: Hits) -> Float[np.ndarray, " ranked"]:
    precision: Float[np.ndarray, " ranked"] = hits.cumsum() / np.arange(1, len(hits) + 1)
    return precision


def _best_from_rank(hits: Hits) -> Float[np.ndarray, " ranked"]:
    """The best precision at each rank or any later one."""
    best: Float[np.ndarray, " ranked"] = np.maximum.accumulate(_precision(hits)[::-1])[::-1]
    return best


AP_RULES: Mapping[str, Callable[[Num[np.ndarray, " ranked"], Hits], float]] = MappingProxyType(
    {"ranks": _by_ranks, "steps": _by_steps, "eleven": _at_eleven, "area": _by_area}
)


# -- Decisions -----------------------------------------------------------------------------------------------


class F1(NamedTuple):
    """F1, precision and recall, 0..1; `f1` is their harmonic mean, 0 if both are 0."""

    f1: float
    precision: float
    recall: float


class F1Scores(NamedTuple):
    """The same decisions, averaged over all, per class and per image."""

    overall: F1
    """All images and classes pooled."""
    per_class: F1
    """Mean precision and mean recall over the classes, and the F1 of these means."""
    per_sample: F1
    """The same, averaged over the images."""


def f1_of_decisions(
    chosen: Bool[np.ndarray, "images classes"], truth: Truth, unsure: Unsure | None = None
) -> F1Scores:
    """Compute F1, precision and recall of the chosen tags.

    A class that is never chosen has precision 0, a class that is in no image has recall 0; both
    stay in the means. The same holds for images.

    Raises:
        ShapeError: arrays that differ in shape.

    Example:
        >>> f1_of_decisions(np.array([[True, True]]), np.array([[1, 0]])).overall
        F1(f1=0.6666666666666666, precision=0.5, recall=1.0)
    """
    _require_same(chosen, truth)
    present = truth != 0
    if unsure is not None:
        _require_same(unsure, truth)
        chosen, present = chosen & ~unsure, present & ~unsure
    correct = chosen & present
    return F1Scores(
        _f1(*(a.reshape(-1).sum(keepdims=True) for a in (correct, chosen, present))),
        _f1(*(a.sum(0) for a in (correct, chosen, present))),
        _f1(*(a.sum(1) for a in (correct, chosen, present))),
    )


def _f1(correct: Int[np.ndarray, " n"], chosen: Int[np.ndarray, " n"], present: Int[np.ndarray, " n"]) -> F1:
    precision, recall = _share(correct, chosen), _share(correct, present)
    both = precision + recall
    return F1(2 * precision * recall / both if both else 0.0, precision, recall)


def _share(part: Int[np.ndarray, " n"], total: Int[np.ndarray, " n"]) -> float:
    """Mean of the ratios; a ratio with a zero denominator is 0."""
    ratio = np.zeros(len(total))
    np.divide(part, total, out=ratio, where=total > 0)
    return float(ratio.mean())


def _require_same(given: Shaped[np.ndarray, "..."], truth: Shaped[np.ndarray, "..."]) -> None:
    if given.shape != truth.shape:
        raise ShapeError(
            f"Got shape {given.shape}, the ground truth has {truth.shape}. "
            "Both are (images, classes), in the same order."
        )
