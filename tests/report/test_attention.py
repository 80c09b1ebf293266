"""Attention maps in sheets and in pages."""

import re

import numpy as np
import pytest

from tagmask.errors import ShapeError
from tagmask.report import AttentionExample, render
from tagmask.report.attention import attention_section, attention_sheet
from tests.report.pages import Page, decoded

IMAGE = np.full((60, 90, 3), 200, np.uint8)
POINTS = ((15, 30), (80, 5))


def example(**changes: object) -> AttentionExample:
    """Two points under two methods on a grid of 12 x 18: attention only to the patch itself, and uniform."""
    weights = np.full((2, 2, 12, 18), 0.01, np.float32)
    weights[0] = 0
    weights[0, 0, 6, 3] = weights[0, 1, 1, 16] = 0.2
    values = {"image": IMAGE, "points": POINTS, "methods": ("maskclip", "clip"), "weights": weights}
    return AttentionExample(**(values | changes))


def warm(cell: np.ndarray) -> np.ndarray:
    return cell[..., 0] > cell[..., 2] + 40


def test_one_figure_per_method_and_point_warm_where_attention_is_high() -> None:
    html = attention_section(example(), "Title <1>", "Lead & more")
    images = decoded(html)
    assert len(images) == 2 * 3
    h, w = images[0].shape[:2]
    assert (h, w) == (240, 360)
    assert not warm(images[0]).any()
    # A patch is 20 pixels wide; interpolation blurs it into its neighbours.
    for cell, row, column in ((images[1], 6, 3), (images[4], 1, 16)):
        centre = 20 * row + 10, 20 * column + 10
        assert warm(cell)[centre]
        outside = np.ones((h, w), bool)
        outside[max(centre[0] - 40, 0) : centre[0] + 40, centre[1] - 40 : centre[1] + 40] = False
        assert not warm(cell)[outside].any()
    # Uniform attention is maximal everywhere; only the ring is not warm.
    assert warm(images[2]).mean() > 0.9
    page = Page(f"<main>{html}</main>")
    assert {"Title <1>", "Lead & more", "maskclip", "clip"} <= set(page.text)
    assert re.findall(r"patch at (\d+,\d+)<", html) == ["15,30", "80,5"]
    assert html.count("each patch keeps its own value") == 1


def test_ring_marks_the_point() -> None:
    single = example(points=POINTS[:1], weights=example().weights[:, :1])
    image = decoded(attention_section(single, "", ""))[0]
    changed = np.abs(image - 200).max(axis=2) > 30
    rows, columns = np.nonzero(changed)
    # Pixel 15, 30 of 90 x 60 is drawn four times larger; the ring surrounds its patch of 20 pixels.
    assert 40 <= columns.max() - columns.min() < 50
    assert abs((columns.min() + columns.max()) / 2 - 4 * 15.5) < 3
    assert abs((rows.min() + rows.max()) / 2 - 4 * 30.5) < 3
    assert not changed[4 * 30, 4 * 15]


def test_sheet_has_a_row_per_point_and_a_column_per_method() -> None:
    one = attention_sheet(example(points=POINTS[:1], weights=example().weights[:, :1]))
    two = attention_sheet(example())
    assert two.width == one.width > 3 * 300
    assert two.height - one.height > 200


def test_page_shows_attention_sections() -> None:
    html = render("t", "l", [], {}, attention=[("Attention maps", "Lead.", example())])
    page = Page(html)
    assert "Attention maps" in page.text
    assert len(page.all("section", "attention")) == 1
    assert len(page.all("div", "attention-row")) == 2
    assert all(img["src"].startswith("data:") and img["alt"] for img in page.all("img"))
    assert "attention" not in {a.get("class") for a in Page(render("t", "l", [], {})).all("section")}


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match="Expected 2 methods, 1 points"):
        example(points=POINTS[:1])
