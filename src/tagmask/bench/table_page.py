"""Format a whole table: the paper's figures and ours."""

import math
from collections.abc import Mapping
from typing import Any

from tagmask.bench.catalogue import Cell, Table
from tagmask.bench.derived import Result
from tagmask.bench.protocol import METRICS

__all__ = ["table_page", "table_record"]

Results = Mapping[Cell, Result]
"""The result of each cell that can be run or computed."""


_NOT = {False: "not run", True: "not computed"}
"""What is said of a figure without a result, by whether it is computed from runs."""

_MARK = " (unverified)"


def table_page(table: Table, results: Results) -> str:
    """Format as Markdown: "paper / ours (difference)"; "*" marks results on a part of the data set.

    Nothing is subtracted from an unverified figure.
    """
    heads = [f"{column.label}, {METRICS.get(column.metric, column.metric)}" for column in table.columns]
    lines = [
        f"## {table.name}: {table.title}",
        "",
        f"{table.paper}. Paper / ours (difference). A single figure is cited, not run. "
        "* marks a part of the data set, (unverified) a figure that was not checked against the paper, from "
        "which nothing is subtracted.",
        "",
        "| | " + " | ".join(heads) + " |",
        "|---|" + "---|" * len(heads),
    ]
    by_key = {(cell.row, cell.column.key): cell for cell in table.cells}
    for row in table.rows:
        fields = [_field(by_key.get((row, column.key)), results) for column in table.columns]
        lines.append(f"| {row} | " + " | ".join(fields) + " |")
    notes = [f"* {note}" for note in _notes(table, results)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _field(cell: Cell | None, results: Results) -> str:
    result = None if cell is None else results.get(cell)
    if cell is None or (cell.figure is None and result is None):
        return ""
    printed = "?" if cell.figure is None else f"{cell.figure:g}"
    marked = printed if cell.figure is None or cell.verified else printed + _MARK
    if result is None:
        return marked
    if isinstance(result, str):
        return f"{marked} / {_NOT[bool(cell.plus)]}"
    ours = result.value
    mark = "*" if result.partial else ""
    if math.isnan(ours):
        return f"{marked} / -{mark}"
    difference = ""
    if cell.figure is not None:
        difference = f" ({ours - cell.figure:+.2f})" if cell.verified else _MARK
    return f"{printed} / {ours:.2f}{mark}{difference}"


def _notes(table: Table, results: Results) -> list[str]:
    notes = [f"{cell.row}: {cell.note}" for cell in table.cells if cell.note]
    for cell, result in results.items():
        where = f"{cell.row}, {cell.column.label}"
        if isinstance(result, str):
            notes.append(f"{where}: {_NOT[bool(cell.plus)]}: {result}")
        elif result.partial:
            notes.append(f"{where}: partial: {'; '.join(result.partial)}")
    return list(dict.fromkeys(notes))


def table_record(table: Table, results: Results) -> dict[str, Any]:
    """Return the table as a dictionary for JSON."""
    return {
        "table": table.name,
        "title": table.title,
        "paper": table.paper,
        "figures": [_record(cell, results.get(cell)) for cell in table.cells],
    }


def _record(cell: Cell, result: Result | None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "row": cell.row,
        "column": cell.column.key,
        "metric": cell.column.metric,
        "figure": cell.figure,
        "source": cell.source,
        "recipe": cell.recipe,
        "settings": list(cell.settings),
    }
    if isinstance(result, str):
        record[_NOT[bool(cell.plus)]] = result
    elif result is not None:
        ours = None if math.isnan(result.value) else result.value
        record |= {"ours": ours, "partial": list(result.partial)}
    return record
