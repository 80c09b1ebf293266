"""Check whether rows rank in the order that their paper reports."""

from collections.abc import Sequence

from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.bootstrap import verdict

__all__ = ["orders"]


def orders(
    labels: Sequence[str], paper: Sequence[float | None], ours: Sequence[Float[ndarray, " r"]]
) -> list[str]:
    """Compare each row's rank with the published order.

    Args:
        labels: the rows' labels.
        paper: published figures; rows with None are skipped.
        ours: our values, one per bootstrap sample.

    Returns:
        Per row: "" without a published figure; "yes" if every difference to another row has the paper's
        sign in 95 % of the samples; "no: under X" or "no: over X", where X are the rows it should rank
        above, or below; "open: X" if the samples do not separate it from the rows X.
    """
    return [_order(i, labels, paper, ours) for i in range(len(labels))]


def _order(
    i: int, labels: Sequence[str], paper: Sequence[float | None], ours: Sequence[Float[ndarray, " r"]]
) -> str:
    figure = paper[i]
    if figure is None:
        return ""
    wrong, undecided = [], []
    for j, other in enumerate(paper):
        if other is None or other == figure:
            continue
        above = figure > other
        result = verdict(*((ours[i], ours[j]) if above else (ours[j], ours[i])))
        if result == "no":
            wrong.append(f"{'under' if above else 'over'} {labels[j]}")
        elif result == "open":
            undecided.append(labels[j])
    if wrong:
        return "no: " + ", ".join(wrong)
    return "open: " + ", ".join(undecided) if undecided else "yes"
