"""Bootstrap over scenes: standard errors, and whether a difference between two setups is significant.

All setups are compared on the same bootstrap samples, so that scene difficulty cancels out.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from tagmask.bench.miniature.setups import Counts, Scores

__all__ = ["Draws", "bootstrap_interval", "bootstrap_samples", "mean_ap", "miou", "verdict"]

Draws = Int[ndarray, "r n"]
"""Count of each of n scenes in each of r bootstrap samples; row 0 has every scene once."""

_CONFIDENCE = 0.95


def bootstrap_samples(scenes: int, count: int = 200, seed: int = 0) -> Draws:
    """Draw `count` samples of `scenes` scenes with replacement; row 0 has every scene once."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(scenes, np.full(scenes, 1 / scenes), size=count)
    return np.concatenate([np.ones((1, scenes), drawn.dtype), drawn])


def miou(counts: Counts, drawn: Draws) -> Float[ndarray, " r"]:
    """Mean IoU of each sample, in percent, over the classes in its ground truth or predictions.

    A pixel in a column beyond the classes is missing from its class and belongs to no other.
    """
    total = np.tensordot(drawn, counts, axes=1).astype(np.float64)
    correct = np.diagonal(total, axis1=1, axis2=2)
    union = total.sum(axis=1)[:, : counts.shape[1]] + total.sum(axis=2) - correct
    with np.errstate(invalid="ignore"):
        iou: Float[ndarray, "r c"] = correct / union
    mean: Float[ndarray, " r"] = 100 * np.nanmean(iou, axis=1)
    return mean


def mean_ap(scores: Scores, truth: Bool[ndarray, "n c"], drawn: Draws) -> Float[ndarray, " r"]:
    """Mean average precision of each sample, in percent, over the classes in any of its scenes.

    Area under the raw precision-recall steps. Ties are ranked by scene order; a scene that was drawn twice
    counts twice in one step.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    totals = np.zeros(len(drawn))
    counted = np.zeros(len(drawn))
    for c in range(scores.shape[1]):
        weight = drawn[:, order[:, c]].astype(np.float64)
        hits = weight * truth[order[:, c], c]
        ranked, true = weight.cumsum(axis=1), hits.cumsum(axis=1)
        positives = true[:, -1]
        precision = np.divide(true, ranked, out=np.zeros_like(true), where=ranked > 0)
        present = positives > 0
        totals[present] += (hits * precision).sum(axis=1)[present] / positives[present]
        counted += present
    return 100 * totals / np.maximum(counted, 1)


def bootstrap_interval(values: Float[ndarray, " r"]) -> float:
    """Standard deviation over the bootstrap samples: one standard error."""
    return float(values[1:].std())


def verdict(upper: Float[ndarray, " r"], lower: Float[ndarray, " r"]) -> str:
    """Whether `upper` exceeds `lower` in 95 % of the samples: "yes", "no" (the reverse), or "open"."""
    share = float((upper[1:] > lower[1:]).mean())
    if share >= _CONFIDENCE:
        return "yes"
    return "no" if share <= 1 - _CONFIDENCE else "open"
