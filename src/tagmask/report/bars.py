"""Bar chart of tag scores, best first, with the threshold in its place."""

from collections.abc import Mapping, Sequence

import numpy as np

from tagmask.errors import ShapeError
from tagmask.report.text import escaped
from tagmask.results import Tags

__all__ = ["tag_bars"]

_MIN_ROWS = 8
"""Smallest number of bars, if there are as many words."""
_MIN_BELOW = 3
"""Smallest number of bars below the threshold."""


def tag_bars(tags: Tags, slots: Mapping[str, int], colours: Sequence[str]) -> str:
    """Return the HTML section with the tag scores of one image.

    Args:
        tags: the words and their scores.
        slots: index of each word that also has a mask; it links the bar to its region.
        colours: colour of each index, `#rrggbb`.

    Raises:
        ShapeError: the number of scores differs from the number of words.
    """
    if len(tags.words) != len(tags.scores):
        raise ShapeError(
            f"There are {len(tags.words)} words and {len(tags.scores)} scores. Give one score per word."
        )
    scores = np.nan_to_num(tags.scores.astype(np.float64), nan=-np.inf, posinf=1.0, neginf=-np.inf)
    order = sorted(range(len(tags.words)), key=lambda c: (-scores[c], c))
    above = sum(bool(scores[c] > tags.threshold) for c in order)
    head = max(_MIN_ROWS, above + _MIN_BELOW)
    shown = [c for i, c in enumerate(order) if i < head or c in tags.chosen]
    rest = [c for c in order if c not in shown]
    scale = max(float(scores.max(initial=0.0)), tags.threshold if np.isfinite(tags.threshold) else 0.0, 1e-9)
    rows = [_row(tags, c, scores[c] / scale, slots, colours) for c in shown]
    if np.isfinite(tags.threshold):
        rows.insert(
            above,
            '<li class="threshold"><span>threshold</span>'
            f'<span class="score">{tags.threshold:.3f}</span></li>',
        )
    position = float(np.clip(tags.threshold / scale, 0, 1)) if np.isfinite(tags.threshold) else 0.0
    no_tags = "" if tags.chosen else '<p class="none">None of the words was found.</p>'
    return (
        f'<section class="tags"><h3>Tags</h3>{no_tags}'
        f'<ol class="bars" style="--threshold:{position:.4f}">{"".join(rows)}</ol>'
        f"{_folded(tags, rest)}</section>"
    )


def _row(tags: Tags, c: int, length: float, slots: Mapping[str, int], colours: Sequence[str]) -> str:
    word = tags.words[c]
    slot = slots.get(word)
    link = "" if slot is None else f' data-slot="{slot}"'
    colour = "" if slot is None else f";--c:{colours[slot]}"
    kind, suffix = (
        (' class="tag"', '<span class="visually-hidden"> (tag)</span>') if c in tags.chosen else ("", "")
    )
    return (
        f'<li{kind}{link} style="--v:{np.clip(length, 0, 1):.4f}{colour}">'
        f'<span class="word" title="{escaped(word)}">{escaped(word)}{suffix}</span>'
        f'<span class="bar"></span><span class="score">{tags.scores[c]:.3f}</span></li>'
    )


def _folded(tags: Tags, order: Sequence[int]) -> str:
    if not order:
        return ""
    items = "".join(f"<li>{escaped(tags.words[c])} <span>{tags.scores[c]:.3f}</span></li>" for c in order)
    summary = "1 more word" if len(order) == 1 else f"{len(order)} more words"
    return f'<details><summary>{summary} below</summary><ul class="rest">{items}</ul></details>'
