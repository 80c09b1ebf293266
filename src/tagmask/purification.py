"""Which words purification dropped from an image, and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

__all__ = ["AMBIGUOUS", "BY_TAG", "KEPT", "REASONS", "REDUNDANT", "Dropped", "Purification"]

KEPT, REDUNDANT, AMBIGUOUS, BY_TAG = range(4)
REASONS: Final = ("kept", "redundant", "ambiguous", "tag")
"""Names of these four."""


class Dropped(NamedTuple):
    """Why a word was dropped from an image."""

    reason: str
    """"redundant": its map does not survive propagation; "ambiguous": another word won its region; "tag": the
    image does not have that tag."""
    score: float | None
    """For "tag" the tagger's score, None if the tags were given; else the redundancy score of the best
    window, 0..1."""


@dataclass(frozen=True, eq=False)
class Purification:
    """The decisions on one image, window by window; words are counted without the background."""

    boxes: tuple[tuple[int, int, int, int], ...]
    """The windows, (x0, y0, x1, y1) in pixels of the scaled image."""
    scores: Float[np.ndarray, "windows f"]
    """How far each word's map is the same before and after propagation: s, 0..0.5, float32. 0 for words that
    did not compete."""
    decisions: UInt8[np.ndarray, "windows f"]
    """An index into `REASONS`."""
    groups: Int[np.ndarray, "windows f"]
    """Group of words that share a region, from 0 in each window; -1 for words that were dropped before."""
    tag_scores: Float[np.ndarray, " f"] | None = None
    """The tagger's scores, if it was used."""

    def dropped(self, words: Sequence[str]) -> dict[str, Dropped]:
        """Map each word that was dropped in every window to the reason, in the order of the words.

        If the reason differs between windows, it is the one of the window in which the word came farthest.

        Args:
            words: the names of the classes.
        """
        found: dict[str, Dropped] = {}
        for c, word in enumerate(words):
            decisions = self.decisions[:, c]
            if (decisions == KEPT).any():
                continue
            if (decisions == BY_TAG).any():
                score = None if self.tag_scores is None else float(self.tag_scores[c])
                found[word] = Dropped(REASONS[BY_TAG], score)
            else:
                s = float(self.scores[:, c].max())
                found[word] = Dropped(REASONS[int(decisions.max())], s / (1 - s))
        return found
