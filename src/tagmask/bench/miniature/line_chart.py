"""Draw a measured table whose rows are points as a line chart, as SVG."""

from collections.abc import Sequence
from itertools import groupby

from tagmask.bench.miniature.bootstrap import bootstrap_interval
from tagmask.bench.miniature.page import MeasuredTable
from tagmask.bench.miniature.rows import MaskRow, TagRow
from tagmask.report.text import escaped

__all__ = ["lines_svg"]

_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 46, 170, 58, 44, 760, 330
_COLOURS = ("#4269d0", "#c0392b", "#2f8f5b", "#8a6d1a")
_STEPS = (1, 2, 5, 10, 20)
_SHIFT = 4.0
"""Distance between the points of two lines at one x, in pixels, so that their error bars do not overlap."""
_LABEL_GAP = 15
"""Least distance between the names of two lines, in pixels."""


def lines_svg(measured: MeasuredTable) -> str:
    """Draw a line per series, with bars of one standard error, on an axis that fits the values.

    Args:
        measured: of a table with an `axis`, whose rows all have a `point`.
    """
    table = measured.table
    rows: Sequence[TagRow | MaskRow] = table.rows
    points = [
        (*row.point, float(ours[0]), bootstrap_interval(ours))
        for row, ours in zip(rows, measured.ours, strict=True)
        if row.point is not None
    ]
    xs = sorted({x for _, x, *_ in points})
    low = min(value - error for *_, value, error in points)
    high = max(value + error for *_, value, error in points)
    step = next((step for step in _STEPS if high - low <= 6 * step), _STEPS[-1])
    bottom, top = int(low // step) * step, -int(-high // step) * step

    def place(x: int, value: int | float) -> tuple[float, float]:
        across = (x - xs[0] + 0.5) / (xs[-1] - xs[0] + 1)
        up = (value - bottom) / max(top - bottom, step)
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    title, end = escaped(table.title), _WIDTH - _RIGHT
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' "
        f"height='{_HEIGHT}' role='img' aria-label='{title}'>",
        "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#222}"
        ".t{font-size:15px;font-weight:600}.g{stroke:#e3e3e3}.l{fill:none;stroke-width:2}</style>",
        f"<text class='t' x='12' y='20'>{title}</text>",
        f"<text x='12' y='38' fill-opacity='.7'>{measured.unit} in the miniature world; bars: one standard "
        "error</text>",
    ]
    for tick in range(bottom, max(top, bottom + step) + 1, step):
        y = place(xs[0], tick)[1]
        parts.append(f"<line class='g' x1='{_LEFT}' x2='{end}' y1='{y}' y2='{y}'/>")
        parts.append(f"<text x='{_LEFT - 8}' y='{y + 4}' text-anchor='end'>{tick}</text>")
    for label in xs:
        across = place(label, bottom)[0]
        parts.append(f"<text x='{across}' y='{_HEIGHT - _BOTTOM + 18}' text-anchor='middle'>{label}</text>")
    middle = (_LEFT + end) / 2
    parts.append(f"<text x='{middle}' y='{_HEIGHT - 8}' text-anchor='middle'>{escaped(table.axis)}</text>")
    names: list[tuple[float, str, str]] = []
    lines = [(name, list(group)) for name, group in groupby(points, key=lambda point: point[0])]
    for i, (colour, (name, group)) in enumerate(zip(_COLOURS, lines, strict=False)):
        shift = _SHIFT * (i - (len(lines) - 1) / 2)
        line = []
        for _, at, value, error in group:
            x, y = place(at, value)
            line.append(((x + shift, y), place(at, value - error)[1], place(at, value + error)[1]))
        path = " ".join(f"{x},{y}" for (x, y), *_ in line)
        parts.append(f"<polyline class='l' stroke='{colour}' points='{path}'/>")
        for (x, y), below, above in line:
            parts.append(
                f"<line x1='{x}' x2='{x}' y1='{below}' y2='{above}' stroke='{colour}' stroke-opacity='.5'/>"
            )
            parts.append(f"<circle cx='{x}' cy='{y}' r='3.5' fill='{colour}'/>")
        names.append((line[-1][0][1], name, colour))
    last = -float(_LABEL_GAP)
    for y, name, colour in sorted(names):
        last = max(y, last + _LABEL_GAP)
        parts.append(f"<text x='{end + 8}' y='{last + 4}' style='fill:{colour}'>{escaped(name)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"
