"""Tag scores as bars, best first, with the threshold drawn where it falls."""

from collections.abc import Mapping, Sequence

import numpy as np

from tagmask.errors import ShapeError
from tagmask.report.text import escaped
from tagmask.results import Tags

__all__ = ["tag_bars"]

_ROWS = 8
"""Bars drawn at least, where there are as many words."""
_BELOW = 3
"""Bars drawn at least below the threshold, so that it is seen to divide something."""


def tag_bars(tags: Tags, slots: Mapping[str, int], colours: Sequence[str]) -> str:
    """The part of a sight that says which words are in it.

    Args:
        tags: the words and their scores.
        slots: number of each word that the masks know too; it ties the bar to its region.
        colours: of each of these numbers.

    Raises:
        ShapeError: not one score per word.
    """
    if len(tags.words) != len(tags.scores):
        raise ShapeError(
            f"There are {len(tags.words)} words and {len(tags.scores)} scores; give one score per word."
        )
    scores = np.nan_to_num(tags.scores.astype(np.float64), nan=-np.inf, posinf=1.0, neginf=-np.inf)
    order = sorted(range(len(tags.words)), key=lambda c: (-scores[c], c))
    above = sum(bool(scores[c] > tags.threshold) for c in order)
    head = max(_ROWS, above + _BELOW)
    drawn = [c for i, c in enumerate(order) if i < head or c in tags.chosen]
    rest = [c for c in order if c not in drawn]
    scale = max(float(scores.max(initial=0.0)), tags.threshold if np.isfinite(tags.threshold) else 0.0, 1e-9)
    rows = [_row(tags, c, scores[c] / scale, slots, colours) for c in drawn]
    if np.isfinite(tags.threshold):
        rows.insert(
            above,
            f'<li class="cut"><span>threshold</span><span class="score">{tags.threshold:.3f}</span></li>',
        )
    place = float(np.clip(tags.threshold / scale, 0, 1)) if np.isfinite(tags.threshold) else 0.0
    none = "" if tags.chosen else '<p class="none">None of the words was found.</p>'
    return (
        f'<section class="tags"><h3>Tags</h3>{none}'
        f'<ol class="bars" style="--cut:{place:.4f}">{"".join(rows)}</ol>{_rest(tags, rest)}</section>'
    )


def _row(tags: Tags, c: int, length: float, slots: Mapping[str, int], colours: Sequence[str]) -> str:
    word = tags.words[c]
    slot = slots.get(word)
    tie = "" if slot is None else f' data-slot="{slot}"'
    colour = "" if slot is None else f";--c:{colours[slot]}"
    kind, spoken = (' class="tag"', '<span class="spoken"> (tag)</span>') if c in tags.chosen else ("", "")
    return (
        f'<li{kind}{tie} style="--v:{np.clip(length, 0, 1):.4f}{colour}">'
        f'<span class="word" title="{escaped(word)}">{escaped(word)}{spoken}</span>'
        f'<span class="bar"></span><span class="score">{tags.scores[c]:.3f}</span></li>'
    )


def _rest(tags: Tags, order: Sequence[int]) -> str:
    if not order:
        return ""
    items = "".join(f"<li>{escaped(tags.words[c])} <span>{tags.scores[c]:.3f}</span></li>" for c in order)
    what = "1 more word" if len(order) == 1 else f"{len(order)} more words"
    return f'<details><summary>{what} below</summary><ul class="rest">{items}</ul></details>'
