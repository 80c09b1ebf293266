"""Line charts of values over time, as SVG without scripts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tagmask.errors import ShapeError
from tagmask.masks import overlay_colours
from tagmask.report.text import escaped

__all__ = ["Curve", "Curves", "curve_charts"]

_WIDTH, _HEIGHT = 480, 190
_LEFT, _BELOW, _ABOVE = 46, 24, 10
"""Margins for the axis labels: left, bottom and top, in pixels."""
_MAX_POINTS = 200
"""Largest number of points per line; longer lines are averaged in pieces."""


@dataclass(frozen=True)
class Curve:
    """One line."""

    name: str
    x: tuple[int | float, ...]
    """Ascending x values."""
    y: tuple[int | float, ...]


@dataclass(frozen=True)
class Curves:
    """Several lines in one chart."""

    title: str
    lines: tuple[Curve, ...]
    unit: str = "steps"
    """Unit of x."""


def curve_charts(charts: Sequence[Curves]) -> str:
    """Return the charts as HTML, or "" if there are none. Non-finite points and empty charts are omitted.

    Raises:
        ShapeError: a line has a different number of x and y values.
    """
    figures = [_chart(chart) for chart in charts]
    return f'<section class="charts">{"".join(figures)}</section>\n' if any(figures) else ""


def _chart(chart: Curves) -> str:
    lines = [(line.name, *_averaged(line)) for line in chart.lines]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return ""
    right = max(float(x[-1]) for _, x, _ in lines)
    ticks = _ticks(min(float(y.min()) for *_, y in lines), max(float(y.max()) for *_, y in lines))
    low, high = ticks[0], ticks[-1]
    width, height = _WIDTH - _LEFT - 8, _HEIGHT - _ABOVE - _BELOW

    def position(x: float, y: float) -> str:
        # a run of one step is drawn at the right end
        return f"{_LEFT + width * x / max(right, 1e-9):.1f},{_ABOVE + height * (high - y) / (high - low):.1f}"

    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in overlay_colours(len(lines))]
    paths = "".join(
        f'<polyline style="--c:{colour}" points="{" ".join(map(position, x.tolist(), y.tolist()))}"/>'
        for (_, x, y), colour in zip(lines, colours, strict=True)
    )
    rules = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y}" y2="{y}"/>'
        f'<text x="{_LEFT - 6}" y="{y}" dy=".32em" text-anchor="end">{tick:g}</text>'
        for tick in ticks
        for y in [position(0.0, tick).split(",")[1]]
    )
    ends = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">0</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{right:g} {escaped(chart.unit)}</text>'
    )
    description = "; ".join(f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, _, y in lines)
    keys = "".join(
        f'<li><span class="key" style="--c:{colour}"><b></b><span class="word">{escaped(name)}</span>'
        f'<span class="part">{y[-1]:.3g}</span></span></li>'
        for (name, _, y), colour in zip(lines, colours, strict=True)
    )
    return (
        f'<figure class="chart"><h3>{escaped(chart.title)}</h3>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' aria-label="{escaped(f"{chart.title}: {description}")}">'
        f'{rules}{ends}{paths}</svg><ul class="keys">{keys}</ul></figure>'
    )


def _averaged(line: Curve) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the finite points of a line, averaged in pieces if there are many.

    The x of a piece is that of its last point.
    """
    if len(line.x) != len(line.y):
        raise ShapeError(
            f"The line {line.name} has {len(line.x)} x values and {len(line.y)} y values. "
            "Give one y for each x."
        )
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    if len(x) <= _MAX_POINTS:
        return x, y
    pieces = np.array_split(np.arange(len(x)), _MAX_POINTS)
    return np.array([x[piece[-1]] for piece in pieces]), np.array([y[piece].mean() for piece in pieces])


def _ticks(low: float, high: float) -> list[float]:
    """Return about four round numbers that cover a range, starting at 0 if no value is negative.

    Example:
        >>> _ticks(0.2, 1.7)
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    low = min(low, 0.0)
    span = max(high - low, 1e-9)
    unit = 10 ** math.floor(math.log10(span / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * 4 >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(max(high, low + step) / step - 1e-9)
    return [round(float(step * i), 12) for i in range(first, last + 1)]
