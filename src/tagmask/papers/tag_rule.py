"""TagCLIP's rule for what counts as a tag, in numpy alone, for scores of one image or of many.

A tag scores above a share of its image's own range of scores: no threshold holds for all images.
"""

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["choose_tags", "over_relative_cut", "relative_cut", "tag_cut"]


def relative_cut(scores: Float[np.ndarray, "*images c"], tau: float) -> Float[np.ndarray, "*images"]:
    """The score a tag must exceed: `tau` of the way from an image's lowest score to its highest.

    Computed in the scores' own precision, since a score may lie on the cut exactly.
    """
    low, high = scores.min(axis=-1), scores.max(axis=-1)
    return np.asarray(low + scores.dtype.type(tau) * (high - low))


def over_relative_cut(scores: Float[np.ndarray, "*images c"], tau: float) -> Bool[np.ndarray, "*images c"]:
    """Which classes score above the cut. Strictly: an image whose scores are all equal has none.

    Example:
        >>> over_relative_cut(np.float32([[0.0, 0.5, 1.0], [3.0, 2.0, 2.6]]), 0.5).tolist()
        [[False, False, True], [True, False, True]]
    """
    over: Bool[np.ndarray, "*images c"] = scores > relative_cut(scores, tau)[..., None]
    return over


def tag_cut(scores: Float[np.ndarray, " f"], tau: float) -> float:
    """The score a tag of one image must exceed, in float32 as the scores are."""
    return float(relative_cut(scores.astype(np.float32, copy=False), tau))


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
    chosen = np.flatnonzero(over_relative_cut(scores.astype(np.float32, copy=False), tau))
    if not len(chosen):
        chosen = np.array([scores.argmax()])
    chosen = chosen[scores[chosen] >= min_score]
    if top is not None:
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")][:top]
    return tuple(sorted(int(c) for c in chosen))
