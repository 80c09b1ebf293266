"""Write a run's results: result.json, result.md and a bar chart of the classes (classes.svg)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tagmask.bench.catalogue import Cell
from tagmask.bench.plot import bars_svg
from tagmask.bench.protocol import METRICS, Scoring
from tagmask.bench.summary import FAILURES, Summary
from tagmask.files import write_bytes
from tagmask.strict_json import json_text

__all__ = ["PAGES", "Comparison", "RunReport", "compare_with_published", "headline", "write_pages"]

PAGES = ("result.json", "result.md", "classes.svg")
"""Names of the files that `write_pages` writes."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published figure compared with ours."""

    cell: Cell
    ours: float

    @property
    def difference(self) -> float:
        """Ours minus the paper's, in percentage points; NaN if ours is unknown or the paper's unverified."""
        known = self.cell.figure is not None and self.cell.verified
        return self.ours - (cast(float, self.cell.figure) if known else math.nan)


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Everything that is reported about one run."""

    name: str
    """The recipe's name with its changed settings, or the folder of masks."""
    data: str
    """The data set's name with the split."""
    protocol: Scoring
    summary: Summary
    comparisons: Sequence[Comparison]
    about: Mapping[str, Any]
    """What the results depend on (`benchmark_run.benchmark_identity`), and a note if there is one."""
    labelled: bool = True
    """Whether the data set's labels are published; else there is no score."""


def compare_with_published(summary: Summary, cells: Sequence[Cell]) -> list[Comparison]:
    """Pair each published figure with our score in the same metric."""
    return [
        Comparison(cell=cell, ours=summary.scores[cell.column.metric])
        for cell in cells
        if cell.column.metric in summary.scores
    ]


def headline(report: RunReport) -> str:
    """One line: the score, what it was measured on, and whether the data set is complete.

    The score of a part of a data set is always marked as partial.
    """
    protocol, summary = report.protocol, report.summary
    value = summary.scores[protocol.metric]
    text = "unknown" if math.isnan(value) else f"{value:.2f}"
    partial = f" (partial: {'; '.join(summary.partial)})" if summary.partial else ""
    return (
        f"{report.name} on {report.data}, {summary.scored} images: {METRICS[protocol.metric]} {text}{partial}"
    )


def write_pages(folder: Path, report: RunReport) -> None:
    """Write result.json, result.md and classes.svg.

    Raises:
        OutputError: the folder cannot be written.
    """
    summary, metric = report.summary, report.protocol.metric
    text = json_text(_result(report), indent=2, ensure_ascii=False) + "\n"
    write_bytes(folder / "result.json", text.encode("utf-8", "backslashreplace"))
    kind = "IoU" if metric == "miou" else "Average precision"
    title = f"{kind} of each class, {report.name} on {report.data}" + (", partial" if summary.partial else "")
    mean = summary.scores["miou" if metric == "miou" else "map"]
    write_bytes(folder / "classes.svg", bars_svg(title, summary.classes, mean).encode())
    page = "\n".join(_page(report)) + "\n"
    write_bytes(folder / "result.md", page.encode("utf-8", "backslashreplace"))


def _result(report: RunReport) -> dict[str, Any]:
    protocol, summary = report.protocol, report.summary
    return {
        "recipe": report.name,
        "data": report.data,
        "metric": protocol.metric,
        "value": _json(summary.scores[protocol.metric]),
        "partial": list(summary.partial),
        "average": protocol.average,
        "groups": protocol.groups,
        "scores": {key: _json(value) for key, value in summary.scores.items()},
        "classes": {key: _json(value) for key, value in summary.classes.items()},
        "images": {
            "requested": summary.requested,
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
            for each in report.comparisons
        ],
        "about": dict(report.about),
    }


def _page(report: RunReport) -> list[str]:
    summary = report.summary
    lines = [f"# {report.name} on {report.data}", "", headline(report), ""]
    if note := report.about.get("note"):
        lines += [f"Note: {note}.", ""]
    if report.comparisons:
        ours = "ours (partial)" if summary.partial else "ours"
        lines += [f"| table | row | score | paper | {ours} | difference |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {each.cell.table} | {_escaped(each.cell.row)} | {METRICS[each.cell.column.metric]} "
            f"| {each.cell.figure:g} {each.cell.source} | {_percent(each.ours)} "
            f"| {_percent(each.difference, '+')} |"
            for each in report.comparisons
        ]
        lines.append("")
    lines += ["| score | percent |", "|---|---|"]
    lines += [f"| {METRICS.get(key, key)} | {_percent(value)} |" for key, value in summary.scores.items()]
    lines += ["", "![Classes](classes.svg)", "", "| class | percent |", "|---|---|"]
    lines += [f"| {_escaped(key)} | {_percent(value)} |" for key, value in summary.classes.items()]
    if summary.failures:
        lines += ["", "| failed image | problem | reason |", "|---|---|---|"]
        lines += [
            f"| {_escaped(f.id)} | {FAILURES.get(f.kind, f.kind)} | {_escaped(f.reason)} |"
            for f in summary.failures
        ]
    return lines


def _percent(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.2f}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _json(value: float) -> float | None:
    return None if math.isnan(value) else value
