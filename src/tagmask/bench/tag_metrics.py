"""How good tags are: average precision of their scores, precision, recall and F1 of what was chosen.

Papers mean different things by "average precision" and differ in what they do with labels that are in doubt,
so both are named here and chosen aloud. numpy only, so that results can be scored where no model runs.
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
"""True or non-zero where the class is in the image."""

Unsure: TypeAlias = Bool[np.ndarray, "images classes"]
"""True where nobody can say: that image is left out of that class's scoring."""

Hits: TypeAlias = Bool[np.ndarray, " ranked"]
"""Best score first: whether the image has the class."""


# -- Average precision ---------------------------------------------------------------------------------------


def average_precision(
    scores: Float[np.ndarray, "images classes"],
    truth: Truth,
    rule: str = "ranks",
    unsure: Unsure | None = None,
) -> Float[np.ndarray, " classes"]:
    """Average precision per class.

    Args:
        scores: any real numbers; only their order within a class matters. Of equal scores the
            earlier image ranks first, except by the rule "steps", which counts them together.
        truth: which classes are in which images.
        rule: "ranks", the mean over a class's images of the precision at their rank (TagCLIP);
            "steps", the same with equal scores counted together (scikit-learn, torchmetrics);
            "eleven", the mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or
            more (VOC 2007); "area", the area under the precision made monotone (VOC 2010 on).
        unsure: what to leave out.

    Returns:
        0..1 per class; 0 for a class that is in no image.

    Raises:
        ShapeError: arrays that differ in shape.
        InputError: another `rule`.

    Source:
        "ranks" as coded by the authors of TagCLIP (AAAI 2024), whose order of equal scores is
        undefined; "eleven" and "area" as in PASCAL VOC's development kits.

    Example:
        >>> average_precision(np.array([[0.9], [0.8], [0.1]]), np.array([[1], [0], [1]])).round(4).tolist()
        [0.8333]
    """
    _require_same(scores, truth)
    check_choice("rule", rule, tuple(AP_RULES))
    if unsure is not None:
        _require_same(unsure, truth)
    found = np.zeros(scores.shape[1])
    for c in range(scores.shape[1]):
        kept = slice(None) if unsure is None else ~unsure[:, c]
        order = np.argsort(-scores[kept, c], kind="stable")
        ranked, hits = scores[kept, c][order], truth[kept, c][order] != 0
        if hits.any():
            found[c] = AP_RULES[rule](ranked, hits)
    return found


def mean_average_precision(
    scores: Float[np.ndarray, "images classes"],
    truth: Truth,
    rule: str = "ranks",
    unsure: Unsure | None = None,
    *,
    absent: Literal["zero", "left out"] = "zero",
) -> float:
    """Mean of `average_precision` over the classes.

    Args:
        scores: as in `average_precision`, like `truth`, `rule` and `unsure`.
        truth: which classes are in which images.
        rule: which definition.
        unsure: what to leave out.
        absent: classes in no image count as 0 (TagCLIP, scikit-learn, torchmetrics), or are left
            out of the mean, which is then over fewer classes. The papers' lists have all classes.

    Returns:
        0..1; NaN if no class is left.

    Raises:
        ShapeError: arrays that differ in shape.
        InputError: another `rule` or `absent`.
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
    # In whole numbers: a recall of 3 in 10 must reach 0.3.
    tenths, best = 10 * hits.cumsum(), _best_from_here(hits)
    needed = hits.sum() * np.arange(11)
    return float(np.mean([best[np.argmax(tenths >= need)] for need in needed]))


def _by_area(ranked: Num[np.ndarray, " ranked"], hits: Hits) -> float:
    return float(_best_from_here(hits)[hits].sum() / hits.sum())


def _precision(hits: Hits) -> Float[np.ndarray, " ranked"]:
    precision: Float[np.ndarray, " ranked"] = hits.cumsum() / np.arange(1, len(hits) + 1)
    return precision


def _best_from_here(hits: Hits) -> Float[np.ndarray, " ranked"]:
    """The best precision at this rank or any later one."""
    best: Float[np.ndarray, " ranked"] = np.maximum.accumulate(_precision(hits)[::-1])[::-1]
    return best


AP_RULES: Mapping[str, Callable[[Num[np.ndarray, " ranked"], Hits], float]] = MappingProxyType(
    {"ranks": _by_ranks, "steps": _by_steps, "eleven": _at_eleven, "area": _by_area}
)


# -- Decisions -----------------------------------------------------------------------------------------------


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


def f1_of_decisions(
    chosen: Bool[np.ndarray, "images classes"], truth: Truth, unsure: Unsure | None = None
) -> F1Scores:
    """F1, precision and recall of given decisions.

    A class that is never chosen has precision 0, one that is in no image has recall 0, and
    both stay in the means; images alike.

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
    right = chosen & present
    return F1Scores(
        _f1(*(a.reshape(-1).sum(keepdims=True) for a in (right, chosen, present))),
        _f1(*(a.sum(0) for a in (right, chosen, present))),
        _f1(*(a.sum(1) for a in (right, chosen, present))),
    )


def _f1(right: Int[np.ndarray, " n"], chosen: Int[np.ndarray, " n"], present: Int[np.ndarray, " n"]) -> F1:
    precision, recall = _share(right, chosen), _share(right, present)
    both = precision + recall
    return F1(2 * precision * recall / both if both else 0.0, precision, recall)


def _share(part: Int[np.ndarray, " n"], total: Int[np.ndarray, " n"]) -> float:
    """Mean of the ratios, 0 where there is nothing to divide by."""
    ratio = np.zeros(len(total))
    np.divide(part, total, out=ratio, where=total > 0)
    return float(ratio.mean())


def _require_same(given: Shaped[np.ndarray, "..."], truth: Shaped[np.ndarray, "..."]) -> None:
    if given.shape != truth.shape:
        raise ShapeError(
            f"got {given.shape} for a truth of {truth.shape}; both are (images, classes), in the same order"
        )
