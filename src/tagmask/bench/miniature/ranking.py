"""Whether rows stand in the order that their paper reports."""

from collections.abc import Sequence

from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.bootstrap import verdict

__all__ = ["orders"]


def orders(
    labels: Sequence[str], paper: Sequence[float | None], ours: Sequence[Float[ndarray, " r"]]
) -> list[str]:
    """For each row whether it stands to the others as published.

    Args:
        labels: of the rows.
        paper: published figures; None takes no part.
        ours: figures of each draw of scenes.

    Returns:
        "" without a published figure; "yes" where every difference to another row has the paper's sign,
        beyond the spread; "no: under X" or "no: over X" naming the rows it should stand over, or under;
        "open: X" where the draws do not tell it from those.
    """
    return [_order(i, labels, paper, ours) for i in range(len(labels))]


def _order(
    i: int, labels: Sequence[str], paper: Sequence[float | None], ours: Sequence[Float[ndarray, " r"]]
) -> str:
    own = paper[i]
    if own is None:
        return ""
    wrong, undecided = [], []
    for j, other in enumerate(paper):
        if other is None or other == own:
            continue
        above = own > other
        said = verdict(*((ours[i], ours[j]) if above else (ours[j], ours[i])))
        if said == "no":
            wrong.append(f"{'under' if above else 'over'} {labels[j]}")
        elif said == "open":
            undecided.append(labels[j])
    if wrong:
        return "no: " + ", ".join(wrong)
    return "open: " + ", ".join(undecided) if undecided else "yes"
