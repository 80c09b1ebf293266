"""What a run leaves for people and programs: result.json, result.md and a plot of its classes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tagmask.bench.catalogue import Cell
from tagmask.bench.plot import bars_svg
from tagmask.bench.protocol import METRICS, Protocol
from tagmask.bench.summary import FAILURES, Summary
from tagmask.files import write_bytes

__all__ = ["Comparison", "RunReport", "compare_with_published", "headline", "write_pages"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A figure of a paper beside ours."""

    cell: Cell
    ours: float

    @property
    def difference(self) -> float:
        """Ours less the paper's, in points; NaN where ours is unknown."""
        return self.ours - (self.cell.figure if self.cell.figure is not None else math.nan)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Everything that there is to say about one run."""

    name: str
    """Of the recipe, with what was changed."""
    data: str
    """Of the data set, with the split."""
    protocol: Protocol
    summary: Summary
    comparisons: Sequence[Comparison]
    about: Mapping[str, Any]
    """What single results depend on (`session.described`), and a note, if there is one."""


def compare_with_published(summary: Summary, cells: Sequence[Cell]) -> list[Comparison]:
    """Each figure with the score of ours that it is to be compared with."""
    return [
        Comparison(cell=cell, ours=summary.scores[cell.column.metric])
        for cell in cells
        if cell.column.metric in summary.scores
    ]


def headline(found: RunReport) -> str:
    """One line: the number, what it is of, and whether it is whole.

    A part of a set is never printed as if it were all of it.
    """
    protocol, summary = found.protocol, found.summary
    value = summary.scores[protocol.metric]
    shown = "unknown" if math.isnan(value) else f"{value:.2f}"
    partial = f" (partial: {'; '.join(summary.partial)})" if summary.partial else ""
    return (
        f"{found.name} on {found.data}, {summary.scored} images: {METRICS[protocol.metric]} {shown}{partial}"
    )


def write_pages(folder: Path, found: RunReport) -> None:
    """Write result.json, result.md and classes.svg.

    Raises:
        OutputError: the folder cannot be written.
    """
    summary, metric = found.summary, found.protocol.metric
    text = json.dumps(_result(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(folder / "result.json", text.encode("utf-8", "backslashreplace"))
    kind = "IoU" if metric == "miou" else "Average precision"
    title = f"{kind} of each class, {found.name} on {found.data}" + (", partial" if summary.partial else "")
    mean = summary.scores["miou" if metric == "miou" else "map"]
    write_bytes(folder / "classes.svg", bars_svg(title, summary.classes, mean).encode())
    page = "\n".join(_page(found)) + "\n"
    write_bytes(folder / "result.md", page.encode("utf-8", "backslashreplace"))


def _result(found: RunReport) -> dict[str, Any]:
    protocol, summary = found.protocol, found.summary
    return {
        "recipe": found.name,
        "data": found.data,
        "metric": protocol.metric,
        "value": _json(summary.scores[protocol.metric]),
        "partial": list(summary.partial),
        "average": protocol.average,
        "groups": protocol.groups,
        "scores": {key: _json(value) for key, value in summary.scores.items()},
        "classes": {key: _json(value) for key, value in summary.classes.items()},
        "images": {
            "asked": summary.asked,
            "scored": summary.scored,
            "failed": [{"id": f.id, "kind": f.kind, "reason": f.reason} for f in summary.failures],
        },
        "published": [
            {
                "table": each.cell.table,
                "row": each.cell.row,
                "metric": each.cell.column.metric,
                "figure": each.cell.figure,
                "source": each.cell.source,
                "note": each.cell.note,
                "ours": _json(each.ours),
                "difference": _json(each.difference),
            }
            for each in found.comparisons
        ],
        "about": dict(found.about),
    }


def _page(found: RunReport) -> list[str]:
    summary = found.summary
    lines = [f"# {found.name} on {found.data}", "", headline(found), ""]
    if note := found.about.get("note"):
        lines += [f"Note: {note}.", ""]
    if found.comparisons:
        ours = "ours (partial)" if summary.partial else "ours"
        lines += [f"| table | row | score | paper | {ours} | difference |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {each.cell.table} | {_cell(each.cell.row)} | {METRICS[each.cell.column.metric]} "
            f"| {each.cell.figure:g} {each.cell.source} | {_shown(each.ours)} "
            f"| {_shown(each.difference, '+')} |"
            for each in found.comparisons
        ]
        lines.append("")
    lines += ["| score | percent |", "|---|---|"]
    lines += [f"| {METRICS.get(key, key)} | {_shown(value)} |" for key, value in summary.scores.items()]
    lines += ["", "![Classes](classes.svg)", "", "| class | percent |", "|---|---|"]
    lines += [f"| {_cell(key)} | {_shown(value)} |" for key, value in summary.classes.items()]
    if summary.failures:
        lines += ["", "| failed image | what | why |", "|---|---|---|"]
        lines += [
            f"| {_cell(f.id)} | {FAILURES.get(f.kind, f.kind)} | {_cell(f.reason)} |"
            for f in summary.failures
        ]
    return lines


def _shown(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.2f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
