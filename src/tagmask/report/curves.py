"""How numbers went over time, as line charts that need no script."""

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
"""Room for numbers beside and below the lines, and for the uppermost number."""
_POINTS = 200
"""Points of a line; longer ones are averaged, piece by piece."""


@dataclass(frozen=True)
class Curve:
    """One line."""

    name: str
    x: tuple[int | float, ...]
    """Ascending."""
    y: tuple[int | float, ...]


@dataclass(frozen=True)
class Curves:
    """Lines in one chart."""

    title: str
    lines: tuple[Curve, ...]
    unit: str = "steps"
    """Of x."""


def curve_charts(charts: Sequence[Curves]) -> str:
    """HTML of charts; nothing for none. Points that are no numbers are left out, and charts without points.

    Raises:
        ShapeError: not as many x as y.
    """
    drawn = [_chart(chart) for chart in charts]
    return f'<section class="charts">{"".join(drawn)}</section>\n' if any(drawn) else ""


def _chart(chart: Curves) -> str:
    lines = [(line.name, *_thinned(line)) for line in chart.lines]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return ""
    right = max(float(x[-1]) for _, x, _ in lines)
    ticks = _ticks(min(float(y.min()) for *_, y in lines), max(float(y.max()) for *_, y in lines))
    low, high = ticks[0], ticks[-1]
    across, down = _WIDTH - _LEFT - 8, _HEIGHT - _ABOVE - _BELOW

    def place(x: float, y: float) -> str:
        # one step is drawn at the right end, as the whole of its run
        return f"{_LEFT + across * x / max(right, 1e-9):.1f},{_ABOVE + down * (high - y) / (high - low):.1f}"

    colours = ["#" + bytes(rgb.tolist()).hex() for rgb in overlay_colours(len(lines))]
    paths = "".join(
        f'<polyline style="--c:{colour}" points="{" ".join(map(place, x.tolist(), y.tolist()))}"/>'
        for (_, x, y), colour in zip(lines, colours, strict=True)
    )
    rules = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - 8}" y1="{y}" y2="{y}"/>'
        f'<text x="{_LEFT - 6}" y="{y}" dy=".32em" text-anchor="end">{tick:g}</text>'
        for tick in ticks
        for y in [place(0.0, tick).split(",")[1]]
    )
    ends = (
        f'<text x="{_LEFT}" y="{_HEIGHT - 6}">0</text>'
        f'<text x="{_WIDTH - 8}" y="{_HEIGHT - 6}" text-anchor="end">{right:g} {escaped(chart.unit)}</text>'
    )
    told = "; ".join(f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, _, y in lines)
    keys = "".join(
        f'<li><span class="key" style="--c:{colour}"><b></b><span class="word">{escaped(name)}</span>'
        f'<span class="part">{y[-1]:.3g}</span></span></li>'
        for (name, _, y), colour in zip(lines, colours, strict=True)
    )
    return (
        f'<figure class="chart"><h3>{escaped(chart.title)}</h3>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escaped(f"{chart.title}: {told}")}">'
        f'{rules}{ends}{paths}</svg><ul class="keys">{keys}</ul></figure>'
    )


def _thinned(line: Curve) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """The line's points, or the means of pieces of it; the last point is the end of the last piece."""
    if len(line.x) != len(line.y):
        raise ShapeError(
            f"{line.name} has {len(line.x)} places and {len(line.y)} values; give one value a place"
        )
    x, y = np.asarray(line.x, np.float64), np.asarray(line.y, np.float64)
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= _POINTS:
        return x, y
    pieces = np.array_split(np.arange(len(x)), _POINTS)
    return np.array([x[piece[-1]] for piece in pieces]), np.array([y[piece].mean() for piece in pieces])


def _ticks(low: float, high: float) -> list[float]:
    """About four round numbers around a span, 0 among them where nothing is below.

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
