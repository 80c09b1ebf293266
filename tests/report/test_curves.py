"""Charts: scale of the lines, averaging, and escaping of names."""

import re

import pytest

from tagmask.errors import ShapeError
from tagmask.report import Curve, Curves, render
from tagmask.report.curves import curve_charts
from tests.report.pages import HOSTILE, Page, report_item


def points(html: str) -> list[list[tuple[float, float]]]:
    lines = re.findall(r'points="([^"]*)"', html)
    return [[(float(x), float(y)) for x, y in (p.split(",") for p in line.split())] for line in lines]


def test_lines_are_drawn_to_scale() -> None:
    html = curve_charts(
        [Curves("Loss", (Curve("a", (0, 5, 10), (4, 2, 0)), Curve("b", (0.0, 10.0), (1.0, 1.0))))]
    )
    (first, second) = points(html)
    assert first[0][0] < first[1][0] < first[2][0]
    assert first[1] == ((first[0][0] + first[2][0]) / 2, (first[0][1] + first[2][1]) / 2)
    assert first[0][1] < first[2][1], "larger values are higher"
    assert second[0][1] == pytest.approx(first[2][1] + (first[0][1] - first[2][1]) / 4, abs=0.1)
    page = Page(html)
    assert "a from 4 to 0; b from 1 to 1" in page.all("svg")[0]["aria-label"]
    assert "10 steps" in page.text


def test_long_lines_are_averaged() -> None:
    steps = tuple(float(i) for i in range(1, 10_001))
    (line,) = points(
        curve_charts([Curves("Loss", (Curve("a", steps, tuple(i % 2 for i in range(10_000))),))])
    )
    assert len(line) == 200
    assert {y for _, y in line} == {line[0][1]}, "each piece has the same mean"


def test_non_finite_values_are_omitted() -> None:
    nan = float("nan")
    (line,) = points(curve_charts([Curves("Loss", (Curve("a", (1.0, 2.0, 3.0), (1.0, nan, 3.0)),))]))
    assert len(line) == 2
    assert curve_charts([Curves("Loss", (Curve("a", (1.0,), (nan,)),))]) == ""
    assert curve_charts([]) == ""


def test_single_point_is_drawn() -> None:
    assert len(points(curve_charts([Curves("Loss", (Curve("a", (1.0,), (0.0,)),))]))) == 1


def test_different_numbers_of_x_and_y_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 x values and 1 y values"):
        curve_charts([Curves("Loss", (Curve("a", (1.0, 2.0), (1.0,)),))])


def test_charts_are_on_the_page_and_escape_names() -> None:
    charts = [Curves(HOSTILE, (Curve(HOSTILE, (1.0, 2.0), (1.0, 2.0)),), unit=HOSTILE)]
    page = Page(render("t", "l", [report_item()], {}, charts=charts))
    assert len(page.all("figure", "chart")) == 1
    assert len(page.all("script")) == 1
