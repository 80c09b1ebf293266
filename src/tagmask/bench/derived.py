"""What was measured for a figure of a table, and figures that several runs give: means and gains."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tagmask.bench.catalogue import Cell
from tagmask.bench.summary import Summary

__all__ = ["Measured", "Result", "computed", "measured"]


@dataclass(frozen=True)
class Measured:
    """Our value for one figure."""

    value: float
    """In percent, or percentage points; NaN if there is nothing to score."""
    partial: tuple[str, ...] = ()
    """Why it does not cover the papers' data; empty if it does."""


Result = Measured | str
"""Our value for a figure, or the reason why it is missing."""


def measured(cell: Cell, summary: Summary) -> Measured:
    """Return a run's score in the metric of a figure."""
    return Measured(summary.scores[cell.column.metric], summary.partial)


def computed(cell: Cell, results: Mapping[Cell, Result]) -> Result:
    """Compute a figure from the results of its runs: their mean, or the difference of two means.

    Args:
        cell: a figure with `plus`.
        results: of the runs in `plus` and `minus`.

    Returns:
        The value; without a result for each run, the reason, which names every run without one.
    """
    values: list[float] = []
    partial: list[str] = []
    missing: list[str] = []
    for part in (*cell.plus, *cell.minus):
        name, result = " ".join([str(part.recipe), *part.settings]), results[part]
        if isinstance(result, str) or math.isnan(result.value):
            reason = result.rstrip(".") if isinstance(result, str) else "nothing to score"
            missing.append(f"{name} ({reason})")
            continue
        values.append(result.value)
        partial += [f"{name}: {reason}" for reason in result.partial]
    if missing:
        return f"no result for {'; '.join(missing)}"
    first, second = values[: len(cell.plus)], values[len(cell.plus) :]
    value = sum(first) / len(first) - (sum(second) / len(second) if second else 0.0)
    return Measured(value, tuple(partial))
