"""From scores to tags, in numpy alone: by the image's own range, or by thresholds learned from some.

TagCLIP's rule: a tag scores above a share of its image's own range of scores, so no threshold holds for all
images.
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
    """The score a tag must exceed: `tau` of the way from an image's lowest score to its highest.

    Computed in the scores' own precision, since a score may lie on the cut exactly.
    """
    low, high = scores.min(axis=-1), scores.max(axis=-1)
    return np.asarray(low + scores.dtype.type(tau) * (high - low))


def above_relative_threshold(
    scores: Float[np.ndarray, "*images c"], tau: float
) -> Bool[np.ndarray, "*images c"]:
    """Which classes score above the cut. Strictly: an image whose scores are all equal has none.

    Example:
        >>> above_relative_threshold(np.float32([[0.0, 0.5, 1.0], [3.0, 2.0, 2.6]]), 0.5).tolist()
        [[False, False, True], [True, False, True]]
    """
    over: Bool[np.ndarray, "*images c"] = scores > relative_threshold(scores, tau)[..., None]
    return over


def tag_threshold(scores: Float[np.ndarray, " f"], tau: float) -> float:
    """The score a tag of one image must exceed, in float32 as the scores are."""
    return float(relative_threshold(scores.astype(np.float32, copy=False), tau))


def choose_tags(
    scores: Float[np.ndarray, " f"], tau: float, *, min_score: float = 0.0, top: int | None = None
) -> tuple[int, ...]:
    """Classes taken as present, ascending.

    By the paper's rule there is always at least one: the best, if none is above the cut. `min_score` and
    `top` then take away classes under a score and all but the best few; nothing may be left.

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
    """The score that each word must exceed in this image: its threshold, else the image's own cut."""
    cut = tag_threshold(scores, tau)
    own = [cut if threshold is None else threshold for threshold in thresholds]
    return np.array(own or [cut] * len(scores), np.float32)


def choose(
    scores: Float[np.ndarray, " f"],
    tau: float,
    thresholds: Sequence[float | None] = (),
    *,
    min_score: float | None = None,
    top: int | None = None,
) -> tuple[int, ...]:
    """Words taken as present, ascending.

    Without thresholds there is always at least one before `min_score` and `top` take some away, since the
    rule compares the words of one image. With them there may be none: that is what they are for.

    Example:
        >>> choose(np.float32([0.1, 0.7, 0.5]), 0.5)
        (1, 2)
        >>> choose(np.float32([0.1, 0.7, 0.5]), 0.5, [0.05, 0.8, None])
        (0, 2)
    """
    least = -np.inf if min_score is None else min_score
    if not any(threshold is not None for threshold in thresholds):
        return choose_tags(scores, tau, min_score=least, top=top)
    chosen = np.flatnonzero((scores > thresholds_of_image(scores, tau, thresholds)) & (scores >= least))
    if top is not None:
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:top]
    return tuple(sorted(int(c) for c in chosen))


def best_thresholds(
    scores: Float[np.ndarray, "n f"], truth: Shaped[np.ndarray, "..."]
) -> tuple[float | None, ...]:
    """Per word, the threshold that serves best on labelled images.

    The rule, made for few labels: of all cuts half way between two neighbouring scores, the one with the
    greatest F1 of "score above the cut"; of several, the one in the widest gap, which is the least sure to
    move with the next image; of these, the highest. A cut under all scores is tried as well. Words that no
    image has, or that all have, get None: nothing can be learned about them.

    Args:
        scores: of labelled images.
        truth: true or non-zero where the word is in the image.

    Raises:
        ShapeError: the two differ in shape.

    Example:
        >>> best_thresholds(np.float32([[0.9], [0.7], [0.2], [0.1]]), np.array([[1], [1], [0], [0]]))
        (0.45,)
    """
    if scores.shape != truth.shape:
        raise ShapeError(
            f"got scores of {scores.shape} for a truth of {truth.shape}; both are (images, words)"
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
    possible = np.append(gaps[:-1] > 0, True)  # equal scores cannot be told apart; all can be taken
    f1, gaps = np.where(possible, f1, -1.0), np.where(possible, gaps, -1.0)
    best = np.lexsort((taken, -gaps, -np.round(f1, 12)))[0]
    if best == len(ranked) - 1:
        return _short(np.nextafter(np.float32(ranked[-1]), np.float32(-np.inf)))
    cut = np.float32((ranked[best] + ranked[best + 1]) / 2)
    # Neighbours in float32 have no middle.
    return _short(cut if cut < ranked[best] else np.float32(ranked[best + 1]))


def _short(value: np.float32) -> float:
    """The number with the fewest digits that is this one in float32, for files that people read."""
    return float(str(value))
