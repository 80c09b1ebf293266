"""How sure a mask is of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from tagmask.errors import InputError, ShapeError

__all__ = ["MaskSummary", "WinningScores", "summarise_mask"]

_BAND = 1 << 20
"""Pixels counted at a time: NumPy's counting takes 16 bytes a pixel."""


@dataclass(frozen=True, eq=False)
class WinningScores:
    """The scores that decided a mask."""

    plane: Float[np.ndarray, "h w"]
    """The greatest score of each pixel, float32."""
    greatest_foreground: float
    """The greatest score that any foreground class has at any pixel; 0 if none competed."""

    @classmethod
    def of(cls, scores: Float[np.ndarray, "c h w"], foreground: int) -> "WinningScores":
        """Return the winning scores of a score map.

        Args:
            scores: score of each class at each pixel; there may be no class.
            foreground: index of the first foreground class.
        """
        if not len(scores):
            return cls(np.zeros(scores.shape[1:], np.float32), 0.0)
        greatest = float(scores[foreground:].max()) if len(scores) > foreground else 0.0
        return cls(scores.max(axis=0), greatest)

    def summarise(
        self,
        labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"],
        words: Sequence[str],
        background: bool,
    ) -> "MaskSummary":
        """Return `summarise_mask` of the mask that these scores decided."""
        return summarise_mask(
            labels, self.plane, words, background=background, greatest_foreground=self.greatest_foreground
        )


@dataclass(frozen=True)
class MaskSummary:
    """What a run records of one mask."""

    shares: dict[str, int]
    """Pixels of each class found, the background included; in the order of the classes."""
    class_confidence: dict[str, float]
    """Mean winning score over the pixels of each class found."""
    confidence: float
    """The smallest class confidence among the foreground classes found. Where none was found: 1 minus the
    greatest foreground score, so that an image that was nearly given a class comes early too."""
    absent: tuple[str, ...]
    """Words asked for that have no pixel."""


def summarise_mask(
    labels: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"],
    winning: Float[np.ndarray, "_ _"],
    words: Sequence[str],
    *,
    background: bool,
    greatest_foreground: float,
) -> MaskSummary:
    """Count a mask's pixels and average its scores, class by class.

    Args:
        labels: class per pixel; values that are no index of `words` mean no class.
        winning: score of that class per pixel.
        words: name of each class, all different.
        background: class 0 is the background, which nobody asked for.
        greatest_foreground: the greatest score that any foreground class has at any pixel.

    Raises:
        ShapeError: labels and scores are of different sizes.
        InputError: a score is no number.

    Example:
        >>> labels = np.array([[0, 1]], np.uint8)
        >>> summarise_mask(labels, np.array([[0.5, 0.75]], np.float32), ["sky", "cat", "dog"],
        ...                background=True, greatest_foreground=0.75)
        MaskSummary(shares={'sky': 1, 'cat': 1}, class_confidence={'sky': 0.5, 'cat': 0.75}, confidence=0.75, absent=('dog',))
    """  # noqa: E501 (a value as Python prints it)
    if labels.shape != winning.shape:
        raise ShapeError(f"labels are {labels.shape} and scores are {winning.shape} (h, w); give equal sizes")
    values = int(np.iinfo(labels.dtype).max) + 1
    counts, sums = np.zeros(values, np.int64), np.zeros(values)
    rows = max(1, _BAND // max(1, labels.shape[1]))
    for top in range(0, labels.shape[0], rows):
        index = labels[top : top + rows].ravel()
        counts += np.bincount(index, minlength=values)
        sums += np.bincount(index, weights=winning[top : top + rows].ravel(), minlength=values)
    found = [c for c in range(len(words)) if counts[c]]
    means = {c: float(sums[c] / counts[c]) for c in found}
    if not np.isfinite([*means.values(), greatest_foreground]).all():
        raise InputError("scores of this image are no numbers (NaN or infinite); check the weights")
    foreground = [c for c in range(len(words)) if c or not background]
    sure = [means[c] for c in foreground if c in means]
    return MaskSummary(
        shares={words[c]: int(counts[c]) for c in found},
        class_confidence={words[c]: means[c] for c in found},
        confidence=min(sure) if sure else 1 - float(greatest_foreground),
        absent=tuple(words[c] for c in foreground if not counts[c]),
    )
