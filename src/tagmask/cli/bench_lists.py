"""`tagmask bench list` and `tagmask bench tags`: print figures and tag scores."""

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
from tagmask.strict_json import json_text

__all__ = ["show_figures", "show_tag_scores"]

_MAX_NAMES = 5
"""Largest number of missing images to name."""


def show_figures(pattern: str | None, *, as_json: bool) -> None:
    """Print the figures that match `pattern`, table by table.

    Raises:
        InputError: no figure matches.
    """
    matches = list(cells(pattern))
    if not matches:
        raise InputError(
            f"No table, row, column or recipe matches {pattern!r}. The tables are {', '.join(all_tables())}."
        )
    if as_json:
        for cell in matches:
            typer.echo(json_text(_cell_record(cell), ensure_ascii=False))
        return
    for name, group in groupby(matches, key=lambda cell: cell.table):
        table = all_tables()[name]
        typer.echo(f"{bold(name)}: {table.title} ({table.paper})")
        group_cells = list(group)
        for line in _lines(group_cells):
            typer.echo(f"  {line}")
        columns = {cell.column.key: cell.column for cell in group_cells if cell.column.needs}
        for column in columns.values():
            images = f", {column.images} images" if column.images else ""
            typer.echo(f"  {column.label} needs {column.needs}{images}")
        typer.echo("")
    message(
        f"{len(matches)} figures, of which {sum(cell.command is not None for cell in matches)} can be run"
    )


def _lines(group: Sequence[Cell]) -> list[str]:
    rows = max(len(cell.row) for cell in group)
    columns = max(len(cell.column.label) for cell in group)
    lines = []
    for cell in group:
        figure = "?" if cell.figure is None else f"{cell.figure:g}"
        metric = METRICS.get(cell.column.metric, cell.column.metric)
        how = cell.command or ("no such recipe" if cell.recipe else "cited")
        how += f" (a model trained with {', '.join(cell.training)})" if cell.training else ""
        place = f"{cell.row:<{rows}}  {cell.column.label:<{columns}}"
        lines.append(f"{place}  {metric:<9}  {figure:>6}  {cell.source:<13}  {how}")
    return lines


def _cell_record(cell: Cell) -> dict[str, object]:
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
        "training": list(cell.training),
        "note": cell.note,
    }


def show_tag_scores(tags: Path, truth: Path, classes: int, *, raw_coco_stuff: bool) -> bool:
    """Print the scores of a file of tags. Returns True if it does not cover all listed images.

    Raises:
        InputError: a file cannot be read, or the files have no image in common.
    """
    listed = read_truth(truth, classes, raw_coco_stuff=raw_coco_stuff)
    scores = scored_tags(read_tags(tags, classes), listed, classes)
    partial = f" (partial: of {len(listed)})" if scores.partial else ""
    typer.echo(f"{scores.images} images{partial}, {scores.exact} with exactly the ground-truth tags")
    typer.echo(f"{scores.right} tags correct, {scores.wrong} wrong, {scores.missed} missed")
    for name, score in zip(("all decisions", "mean of classes", "mean of images"), scores.f1, strict=True):
        typer.echo(
            f"{name:<16} precision {score.precision:.4f}  recall {score.recall:.4f}  F1 {score.f1:.4f}"
        )
    _report_missing("in the ground truth but not in the tags", scores.without_tags)
    _report_missing("in the tags but not in the ground truth", scores.not_listed)
    return scores.partial


def _report_missing(place: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        message(f"{len(names)} images are {place}: {', '.join(names[:_MAX_NAMES])}{more}")
