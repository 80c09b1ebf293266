"""A bar chart of the classes as a self-contained SVG."""

import math
from collections.abc import Mapping

from tagmask.report.text import escaped

__all__ = ["bars_svg"]

_ROW, _TOP, _LEFT, _RIGHT, _WIDTH = 18, 46, 170, 56, 760
_MAX_LABEL = 26


def bars_svg(title: str, values: Mapping[str, float], mean: float) -> str:
    """Draw a bar chart, best first; classes without a value come last and have no bar.

    Args:
        title: text above the bars.
        values: 0..100 by name; NaN if there is nothing to score.
        mean: drawn as a vertical line; not drawn if NaN.

    Example:
        >>> bars_svg("IoU", {"cat": 50.0, "dog": float("nan")}, 50.0).count("<rect class='bar'")
        1
    """
    order = sorted(values, key=lambda name: (math.isnan(values[name]), -_known(values[name])))
    height = _TOP + _ROW * len(order) + 14
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}' "
        f"height='{height}' role='img' aria-label='{escaped(title)}'>",
        "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#222}.bar{fill:#4269d0}"
        ".t{font-size:15px;font-weight:600}.g{stroke:#ddd}.m{stroke:#c0392b;stroke-dasharray:4 3}</style>",
        f"<text class='t' x='12' y='20'>{escaped(title)}</text>",
    ]
    for tick in range(0, 101, 20):
        x = _x(float(tick))
        parts.append(f"<line class='g' x1='{x}' x2='{x}' y1='{_TOP - 4}' y2='{height - 12}'/>")
        parts.append(f"<text x='{x}' y='{_TOP - 10}' text-anchor='middle'>{tick}</text>")
    for row, name in enumerate(order):
        parts += _bar(name, values[name], _TOP + _ROW * row)
    if not math.isnan(mean):
        x = _x(mean)
        parts.append(f"<line class='m' x1='{x}' x2='{x}' y1='{_TOP - 4}' y2='{height - 12}'/>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(name: str, value: float, y: int) -> list[str]:
    label = name if len(name) <= _MAX_LABEL else name[: _MAX_LABEL - 1] + "…"
    parts = [f"<text x='{_LEFT - 8}' y='{y + 13}' text-anchor='end'>{escaped(label)}</text>"]
    if math.isnan(value):
        return [
            *parts,
            f"<text x='{_LEFT + 4}' y='{y + 13}' fill-opacity='.6'>not in the ground truth</text>",
        ]
    length = round(_x(value) - _LEFT, 1)
    return [
        *parts,
        f"<rect class='bar' x='{_LEFT}' y='{y + 3}' width='{length}' height='{_ROW - 6}'/>",
        f"<text x='{_x(value) + 5}' y='{y + 13}'>{value:.1f}</text>",
    ]


def _x(percent: float) -> float:
    return round(_LEFT + min(max(percent, 0), 100) / 100 * (_WIDTH - _LEFT - _RIGHT), 1)


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value
