"""How far a figure over some scenes can be trusted: scenes drawn again, with replacement.

Ways are compared on the same draws, so that what is hard for all of them does not blur the difference.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from tagmask.bench.miniature.measurements import Counts, Scores

__all__ = ["Draws", "bootstrap_interval", "bootstrap_samples", "mean_ap", "miou", "verdict"]

Draws = Int[ndarray, "r n"]
"""How often each of n scenes is in each of r draws; row 0 is all scenes once."""

_SURE = 0.95


def bootstrap_samples(scenes: int, count: int = 200, seed: int = 0) -> Draws:
    """All scenes once, then `count` draws of as many scenes with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=count)
    return np.concatenate([np.ones((1, scenes), drawn.dtype), drawn])


def miou(counts: Counts, drawn: Draws) -> Float[ndarray, " r"]:
    """Mean IoU of each draw, in percent, over the classes that its truth or answers hold."""
    total = np.tensordot(drawn, counts, axes=1).astype(np.float64)
    right = np.diagonal(total, axis1=1, axis2=2)
    either = total.sum(axis=1) + total.sum(axis=2) - right
    with np.errstate(invalid="ignore"):
        iou: Float[ndarray, "r c"] = right / either
    mean: Float[ndarray, " r"] = 100 * np.nanmean(iou, axis=1)
    return mean


def mean_ap(scores: Scores, truth: Bool[ndarray, "n c"], drawn: Draws) -> Float[ndarray, " r"]:
    """Mean average precision of each draw, in percent, over the classes that are in any of its scenes.

    Area under the raw precision-recall steps; of scenes with one score the first comes first, and a
    scene that was drawn twice counts twice at once.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    totals = np.zeros(len(drawn))
    counted = np.zeros(len(drawn))
    for c in range(scores.shape[1]):
        weight = drawn[:, order[:, c]].astype(np.float64)
        hits = weight * truth[order[:, c], c]
        seen, found = weight.cumsum(axis=1), hits.cumsum(axis=1)
        there = found[:, -1]
        precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
        held = there > 0
        totals[held] += (hits * precision).sum(axis=1)[held] / there[held]
        counted += held
    return 100 * totals / np.maximum(counted, 1)


def bootstrap_interval(values: Float[ndarray, " r"]) -> float:
    """Standard deviation over the draws: one standard error of the figure over all scenes."""
    return float(values[1:].std())


def verdict(upper: Float[ndarray, " r"], lower: Float[ndarray, " r"]) -> str:
    """Whether `upper` is above `lower`: "yes", "no", or "open" where the draws do not agree."""
    share = float((upper[1:] > lower[1:]).mean())
    if share >= _SURE:
        return "yes"
    return "no" if share <= 1 - _SURE else "open"
