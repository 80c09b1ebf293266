"""Regions drawn on an image's label map."""

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.importers.canvas import Canvas


def canvas(size: tuple[int, int] = (6, 5)) -> Canvas:
    return Canvas(size, 0, np.dtype(np.uint8))


@pytest.mark.parametrize("first", [0, 1])
def test_the_smaller_of_two_lies_on_top(first: int) -> None:
    drawn, small = canvas(), np.ones((2, 2), bool)
    for label in (1, 2) if first else (2, 1):
        drawn.paint(label, small if label == 1 else np.ones((6, 5), bool))
    assert (drawn.labels == 1).sum() == 4
    assert (drawn.labels == 2).sum() == 26


def test_of_equal_ones_the_later_lies_on_top() -> None:
    drawn = canvas()
    for label in (1, 2):
        drawn.paint(label, np.ones((2, 2), bool), 1, 1)
    assert (drawn.labels[1:3, 1:3] == 2).all()


@pytest.mark.parametrize("seed", range(20))
def test_spans_in_rows_with_and_without_line_breaks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((6, 5)) < rng.uniform(0.05, 0.9)
    edges = np.flatnonzero(np.diff(np.pad(mask.ravel().view(np.int8), 1))).reshape(-1, 2)
    drawn = canvas()
    drawn.paint_spans(3, edges[:, 0], edges[:, 1])
    np.testing.assert_array_equal(drawn.labels, 3 * mask)
    apart = canvas()
    runs = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(mask.T.ravel())) + 1, [30]])).tolist()
    apart.paint_segmentation(3, {"size": [6, 5], "counts": [0, *runs] if mask[0, 0] else runs})
    np.testing.assert_array_equal(apart.labels, 3 * mask)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9, 1e9])
def test_points_far_outside_or_no_numbers(value: float) -> None:
    with pytest.raises(InputError, match="far outside"):
        canvas().paint_polygon(1, np.array([[0, 0], [1, value], [2, 2]]))


def test_a_polygon_of_a_million_points() -> None:
    with pytest.raises(InputError, match="too long"):
        canvas().paint_polygon(1, np.zeros((1_000_001, 2)))


def test_many_long_outlines() -> None:
    drawn, zigzag = canvas((4000, 3)), np.tile([[0.0, 0.0], [0.0, 3999.0]], (200, 1))

    def draw_many() -> None:
        for _ in range(20):
            drawn.paint_polygon(1, zigzag)

    with pytest.raises(InputError, match="too long"):
        draw_many()


def test_regions_that_cover_the_image_without_end() -> None:
    drawn, whole = canvas((1000, 1000)), np.ones((1000, 1000), bool)

    def paint_many() -> None:
        for _ in range(300):
            drawn.paint(1, whole)

    with pytest.raises(InputError, match="cover the image more than 100 times"):
        paint_many()
