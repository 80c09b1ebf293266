"""From scores to tags: by a threshold relative to the image's score range, or by learned thresholds.

The relative threshold is TagCLIP's rule: it differs from image to image. This module needs NumPy only.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Shaped

from tagmask.errors import ShapeError

__all__ = [
    "above_relative_threshold",
    "best_thresholds",
    "choose",
    "choose_tags",
    "relative_threshold",
    "tag_threshold",
    "thresholds_of_image",
]


def relative_threshold(scores: Float[np.ndarray, "*images c"], tau: float) -> Float[np.ndarray, "*images"]:
    """Return the score that a tag must exceed: lowest + tau * (highest - lowest) of an image's scores.

    Computed in the scores' dtype, since a score may equal the threshold.
    """
    low, high = scores.min(axis=-1), scores.max(axis=-1)
    return np.asarray(low + scores.dtype.type(tau) * (high - low))


def above_relative_threshold(
    scores: Float[np.ndarray, "*images c"], tau: float
) -> Bool[np.ndarray, "*images c"]:
    """Return which classes score above the threshold; none if all scores of an image are equal.

    Example:
        >>> above_relative_threshold(np.float32([[0.0, 0.5, 1.0], [3.0, 2.0, 2.6]]), 0.5).tolist()
        [[False, False, True], [True, False, True]]
    """
    over: Bool[np.ndarray, "*images c"] = scores > relative_threshold(scores, tau)[..., None]
    return over


def tag_threshold(scores: Float[np.ndarray, " f"], tau: float) -> float:
    """Return the relative threshold of one image, computed in float32."""
    return float(relative_threshold(scores.astype(np.float32, copy=False), tau))


def choose_tags(
    scores: Float[np.ndarray, " f"], tau: float, *, min_score: float = 0.0, top: int | None = None
) -> tuple[int, ...]:
    """Return the classes that are present by the relative threshold, ascending.

    As in the paper, there is always at least one: the best, if none exceeds the threshold. Of these,
    `min_score` removes classes with lower scores, and `top` all but the best; none may remain.

    Args:
        scores: of one image.
        tau: relative threshold, 0..1.
        min_score: lowest score of a tag.
        top: greatest number of tags.

    Example:
        >>> choose_tags(np.float32([0.1, 0.7, 0.5]), 0.5)
        (1, 2)
        >>> choose_tags(np.float32([0.1, 0.7, 0.5]), 0.5, min_score=0.6)
        (1,)
    """
    chosen = np.flatnonzero(above_relative_threshold(scores.astype(np.float32, copy=False), tau))
    if not len(chosen):
        chosen = np.array([scores.argmax()])
    chosen = chosen[scores[chosen] >= min_score]
    if top is not None:
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:top]
    return tuple(sorted(int(c) for c in chosen))


def thresholds_of_image(
    scores: Float[np.ndarray, " f"], tau: float, thresholds: Sequence[float | None] = ()
) -> Float[np.ndarray, " f"]:
    """Return the score that each class must exceed: its threshold, else the image's relative threshold."""
    relative = tag_threshold(scores, tau)
    per_class = [relative if threshold is None else threshold for threshold in thresholds]
    return np.array(per_class or [relative] * len(scores), np.float32)


def choose(
    scores: Float[np.ndarray, " f"],
    tau: float,
    thresholds: Sequence[float | None] = (),
    *,
    min_score: float | None = None,
    top: int | None = None,
) -> tuple[int, ...]:
    """Return the classes that are present, ascending.

    Without learned thresholds, this is `choose_tags`. With them, an image may have no tags at all.

    Args:
        scores: of one image.
        tau: relative threshold, 0..1, for classes without a learned one.
        thresholds: per class, the score to exceed or None; empty for none.
        min_score: lowest score of a tag.
        top: greatest number of tags.

    Example:
        >>> choose(np.float32([0.1, 0.7, 0.5]), 0.5)
        (1, 2)
        >>> choose(np.float32([0.1, 0.7, 0.5]), 0.5, [0.05, 0.8, None])
        (0, 2)
    """
    lowest = -np.inf if min_score is None else min_score
    if not any(threshold is not None for threshold in thresholds):
        return choose_tags(scores, tau, min_score=lowest, top=top)
    chosen = np.flatnonzero((scores > thresholds_of_image(scores, tau, thresholds)) & (scores >= lowest))
    if top is not None:
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:top]
    return tuple(sorted(int(c) for c in chosen))


def best_thresholds(
    scores: Float[np.ndarray, "n f"], truth: Shaped[np.ndarray, "..."]
) -> tuple[float | None, ...]:
    """Return, per class, the threshold with the best F1 on labelled images.

    The rule is made for few labels. Candidate thresholds lie half way between neighbouring scores, and one
    lies below all scores. The best F1 of "score > threshold" wins; of equals, the candidate in the widest
    gap, as it is the most stable; of these, the highest. Classes that are in no image or in all images get
    None, as nothing can be learned about them.

    Args:
        scores: of the labelled images.
        truth: ground-truth tags (n, f), true or non-zero if the class is in the image.

    Raises:
        ShapeError: scores and truth differ in shape.

    Example:
        >>> best_thresholds(np.float32([[0.9], [0.7], [0.2], [0.1]]), np.array([[1], [1], [0], [0]]))
        (0.45,)
    """
    if scores.shape != truth.shape:
        raise ShapeError(
            f"The scores have shape {scores.shape}, the truth {truth.shape}. Give both as (images, words)."
        )
    present = truth != 0
    return tuple(_best(scores[:, c], present[:, c]) for c in range(scores.shape[1]))


def _best(scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]) -> float | None:
    if not present.any() or present.all():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    taken = np.arange(1, len(ranked) + 1)
    f1 = 2 * present[order].cumsum() / (taken + present.sum())
    gaps = np.append(ranked[:-1] - ranked[1:], 0.0)
    possible = np.append(gaps[:-1] > 0, True)  # no threshold separates equal scores; the last includes all
    f1, gaps = np.where(possible, f1, -1.0), np.where(possible, gaps, -1.0)
    best = np.lexsort((taken, -gaps, -np.round(f1, 12)))[0]
    if best == len(ranked) - 1:
        return _short(np.nextafter(np.float32(ranked[-1]), np.float32(-np.inf)))
    middle = np.float32((ranked[best] + ranked[best + 1]) / 2)
    # Two neighbouring float32 values have no middle.
    return _short(middle if middle < ranked[best] else np.float32(ranked[best + 1]))


def _short(value: np.float32) -> float:
    """The shortest decimal number that is this value in float32, for recipe files."""
    return float(str(value))
