"""Format the measured tables as Markdown and as SVG bar charts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.bootstrap import bootstrap_interval
from tagmask.bench.miniature.ranking import orders
from tagmask.bench.miniature.rows import MaskRow, Table, TagRow
from tagmask.report.text import escaped

__all__ = ["MeasuredTable", "markdown", "svg"]

_MARK = " (unverified)"
_ROW, _TOP, _LEFT, _RIGHT, _WIDTH = 22, 58, 210, 60, 760


@dataclass(frozen=True, eq=False)
class MeasuredTable:
    """A table and the measured values of its rows."""

    table: Table
    unit: str
    """"mAP" or "mIoU"."""
    ours: tuple[Float[ndarray, " r"], ...]
    """Of each row, percent: first over all scenes, then over each bootstrap sample."""


def markdown(measured: MeasuredTable) -> Iterator[str]:
    """Yield Markdown lines: our value with its standard error, the paper's figure, the ranking check."""
    table = measured.table
    labels = [row.label for row in table.rows]
    paper = [row.paper for row in table.rows]
    marked = ["" if row.paper is None else f"{row.paper}{_MARK * row.unverified}" for row in table.rows]
    yield f"### {table.title}"
    yield ""
    published = any(figure is not None for figure in paper)
    if published:
        yield f"| | {measured.unit} here | paper: {table.paper} | the paper's order |"
        yield "|---|---|---|---|"
    else:
        yield f"| | {measured.unit} here |"
        yield "|---|---|"
    checks = orders(labels, paper, measured.ours)
    for label, figure, ours, order in zip(labels, marked, measured.ours, checks, strict=True):
        line = f"| {label} | {ours[0]:.1f} ± {bootstrap_interval(ours):.1f} |"
        yield line + (f" {figure} | {order} |" if published else "")
    for row, reason in table.why.items():
        yield ""
        yield f"*{row}*: {reason}"
    if table.note:
        yield ""
        yield table.note
    yield ""


def svg(measured: MeasuredTable) -> str:
    """Draw bars with their standard errors, and a diamond at the paper's figure: dashed if unverified."""
    rows: Sequence[TagRow | MaskRow] = measured.table.rows
    height = _TOP + _ROW * len(rows) + 12
    title = escaped(measured.table.title)
    legend = f"bars: {measured.unit} in the miniature world"
    legend += "; diamonds: the paper, on its own data" if any(row.paper is not None for row in rows) else ""
    legend += "; dashed: unverified" if any(row.unverified for row in rows) else ""
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' "
        f"height='{height}' role='img' aria-label='{title}'>",
        "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#222}.b{fill:#4269d0}"
        ".t{font-size:15px;font-weight:600}.g{stroke:#e3e3e3}.e{stroke:#111;stroke-width:1.5}"
        ".p{fill:none;stroke:#c0392b;stroke-width:2}.u{stroke-dasharray:3 2}</style>",
        f"<text class='t' x='12' y='20'>{title}</text>",
        f"<text x='12' y='38' fill-opacity='.7'>{legend}</text>",
    ]
    for tick in range(0, 101, 20):
        x = _x(tick)
        parts.append(f"<line class='g' x1='{x}' x2='{x}' y1='{_TOP - 4}' y2='{height - 10}'/>")
        parts.append(f"<text x='{x}' y='{height}' text-anchor='middle' font-size='10'>{tick}</text>")
    for i, (row, ours) in enumerate(zip(rows, measured.ours, strict=True)):
        parts += _bar(row, float(ours[0]), bootstrap_interval(ours), _TOP + _ROW * i)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row: TagRow | MaskRow, value: float, spread: float, y: int) -> list[str]:
    middle, length = y + 9, round(_x(value) - _LEFT, 1)
    low, high = _x(value - spread), _x(value + spread)
    parts = [
        f"<text x='{_LEFT - 8}' y='{y + 13}' text-anchor='end'>{escaped(row.label)}</text>",
        f"<rect class='b' x='{_LEFT}' y='{y + 3}' width='{length}' height='{_ROW - 9}'/>",
        f"<line class='e' x1='{low}' x2='{high}' y1='{middle}' y2='{middle}'/>",
        f"<text x='{high + 6}' y='{y + 13}'>{value:.1f}</text>",
    ]
    if row.paper is not None:
        x, kind = _x(row.paper), "p u" if row.unverified else "p"
        source = f"paper: {row.paper}{_MARK * row.unverified}"
        parts.append(
            f"<path class='{kind}' d='M{x} {middle - 6}l5 6l-5 6l-5 -6z'><title>{source}</title></path>"
        )
    return parts


def _x(percent: int | float) -> float:
    return round(_LEFT + min(max(percent, 0.0), 100.0) / 100 * (_WIDTH - _LEFT - _RIGHT), 1)
