import re

import numpy as np
import pytest

from tagmask.errors import ShapeError
from tagmask.report import AttentionExample, render
from tagmask.report.attention import attention_section, attention_sheet
from tests.report.test_heatmap import decoded
from tests.report.test_page import Page

PICTURE = np.full((60, 90, 3), 200, np.uint8)
POINTS = ((15, 30), (80, 5))


def look(**changes: object) -> AttentionExample:
    """Two points under two methods on a grid of 12 x 18: all in the patch itself, and everywhere alike."""
    weights = np.full((2, 2, 12, 18), 0.01, np.float32)
    weights[0] = 0
    weights[0, 0, 6, 3] = weights[0, 1, 1, 16] = 0.2
    values = {"image": PICTURE, "points": POINTS, "methods": ("maskclip", "clip"), "weights": weights}
    return AttentionExample(**(values | changes))


def warm(cell: np.ndarray) -> np.ndarray:
    return cell[..., 0] > cell[..., 2] + 40


def test_a_figure_a_method_and_point_warm_where_the_weight_is() -> None:
    html = attention_section(look(), "Title <1>", "Lead & more")
    pictures = decoded(html)
    assert len(pictures) == 2 * 3
    h, w = pictures[0].shape[:2]
    assert (h, w) == (240, 360)
    assert not warm(pictures[0]).any()
    # A patch is 20 pixels wide, and stretched smoothly into its neighbours.
    for cell, row, column in ((pictures[1], 6, 3), (pictures[4], 1, 16)):
        middle = 20 * row + 10, 20 * column + 10
        assert warm(cell)[middle]
        away = np.ones((h, w), bool)
        away[max(middle[0] - 40, 0) : middle[0] + 40, middle[1] - 40 : middle[1] + 40] = False
        assert not warm(cell)[away].any()
    # What is alike everywhere is the strongest everywhere; only the ring is not warm.
    assert warm(pictures[2]).mean() > 0.9
    page = Page(f"<main>{html}</main>")
    assert {"Title <1>", "Lead & more", "maskclip", "clip"} <= set(page.text)
    assert re.findall(r"patch at (\d+,\d+)<", html) == ["15,30", "80,5"]
    assert html.count("each patch keeps its own value") == 1  # said once


def test_the_point_is_ringed() -> None:
    one = look(points=POINTS[:1], weights=look().weights[:, :1])
    picture = decoded(attention_section(one, "", ""))[0]
    changed = np.abs(picture - 200).max(axis=2) > 30
    rows, columns = np.nonzero(changed)
    # Pixel 15, 30 of 90 x 60 is drawn four times as large; the ring goes round its patch of 20 pixels.
    assert 40 <= columns.max() - columns.min() < 50
    assert abs((columns.min() + columns.max()) / 2 - 4 * 15.5) < 3
    assert abs((rows.min() + rows.max()) / 2 - 4 * 30.5) < 3
    assert not changed[4 * 30, 4 * 15]


def test_a_sheet_has_a_row_a_point_and_a_column_a_method() -> None:
    one = attention_sheet(look(points=POINTS[:1], weights=look().weights[:, :1]))
    two = attention_sheet(look())
    assert two.width == one.width > 3 * 300
    assert two.height - one.height > 200


def test_the_page_shows_looks_below_the_sights_and_stays_whole() -> None:
    html = render("t", "l", [], {}, looks=[("Where it looks", "Said.", look())])
    page = Page(html)
    assert "Where it looks" in page.text
    assert len(page.all("section", "look")) == 1
    assert len(page.all("div", "gaze")) == 2
    assert all(img["src"].startswith("data:") and img["alt"] for img in page.all("img"))
    assert "look" not in {a.get("class") for a in Page(render("t", "l", [], {})).all("section")}


def test_weights_of_other_methods_or_points_are_refused() -> None:
    with pytest.raises(ShapeError, match="wanted are 2 methods, 1 points"):
        look(points=POINTS[:1])
