"""What `tagmask bench list` and `tagmask bench tags` print."""

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import typer

from tagmask.bench.catalogue import Cell, all_tables, cells
from tagmask.bench.protocol import METRICS
from tagmask.bench.tag_files import read_truth, scored_tags
from tagmask.cli.console import bold, message
from tagmask.errors import InputError
from tagmask.runtime.tag_files import read_tags

__all__ = ["show_figures", "show_tag_scores"]

_NAMED = 5
"""Images named one by one, of those that are missing."""


def show_figures(pattern: str | None, *, as_json: bool) -> None:
    """Print the figures that `pattern` fits, table by table.

    Raises:
        InputError: none does.
    """
    found = list(cells(pattern))
    if not found:
        raise InputError(
            f"no table, row, column or recipe fits {pattern!r}; the tables are {', '.join(all_tables())}"
        )
    if as_json:
        for cell in found:
            typer.echo(json.dumps(_summary_lines(cell), ensure_ascii=False))
        return
    for name, group in groupby(found, key=lambda cell: cell.table):
        table = all_tables()[name]
        typer.echo(f"{bold(name)}: {table.title} ({table.paper})")
        shown = list(group)
        for line in _lines(shown):
            typer.echo(f"  {line}")
        columns = {cell.column.key: cell.column for cell in shown if cell.column.needs}
        for column in columns.values():
            images = f", {column.images} images" if column.images else ""
            typer.echo(f"  {column.label} needs {column.needs}{images}")
        typer.echo("")
    message(
        f"{len(found)} figures, {sum(cell.command is not None for cell in found)} of them can be run here"
    )


def _lines(shown: Sequence[Cell]) -> list[str]:
    rows = max(len(cell.row) for cell in shown)
    columns = max(len(cell.column.label) for cell in shown)
    lines = []
    for cell in shown:
        figure = "?" if cell.figure is None else f"{cell.figure:g}"
        metric = METRICS.get(cell.column.metric, cell.column.metric)
        how = cell.command or ("recipe not here" if cell.recipe else "cited")
        place = f"{cell.row:<{rows}}  {cell.column.label:<{columns}}"
        lines.append(f"{place}  {metric:<9}  {figure:>6}  {cell.source:<13}  {how}")
    return lines


def _summary_lines(cell: Cell) -> dict[str, object]:
    return {
        "table": cell.table,
        "row": cell.row,
        "column": cell.column.key,
        "metric": cell.column.metric,
        "figure": cell.figure,
        "source": cell.source,
        "data": cell.column.data,
        "split": cell.column.split,
        "needs": cell.column.needs,
        "recipe": cell.recipe,
        "settings": list(cell.settings),
        "command": cell.command,
        "note": cell.note,
    }


def show_tag_scores(tags: Path, truth: Path, classes: int, *, raw_coco_stuff: bool) -> bool:
    """Print how well a file of tags agrees with a list; True if it is not the whole list.

    Raises:
        InputError: files that cannot be read, or have no image in common.
    """
    listed = read_truth(truth, classes, raw_coco_stuff=raw_coco_stuff)
    found = scored_tags(read_tags(tags, classes), listed, classes)
    partial = f" (partial: of {len(listed)})" if found.partial else ""
    typer.echo(f"{found.images} images{partial}, {found.exact} with just the true tags")
    typer.echo(f"{found.right} tags right, {found.wrong} wrong, {found.missed} missed")
    for name, score in zip(("all decisions", "mean of classes", "mean of images"), found.f1, strict=True):
        typer.echo(
            f"{name:<16} precision {score.precision:.4f}  recall {score.recall:.4f}  F1 {score.f1:.4f}"
        )
    _report_missing("in the list and not among the tags", found.without_tags)
    _report_missing("among the tags and not in the list", found.not_listed)
    return found.partial


def _report_missing(where: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        message(f"{len(names)} images are {where}: {', '.join(names[:_NAMED])}{more}")
