"""Polygons filled, against Pillow's drawing of each edge and pixel by pixel tests of what is inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PILImage
from PIL import ImageDraw

from tagmask.regions import centre_ring, components
from tagmask.regions.polygons import filled_polygon


def full(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    mask, top, left = filled_polygon(points, size)
    whole = np.zeros(size, bool)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    return whole


def test_rings_of_any_region_give_it_back() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        labels = (rng.random((11, 13)) < rng.uniform(0.3, 0.9)).view(np.uint8)
        for region in components(labels, 1, 2):
            ring = np.floor(centre_ring(region.mask) + np.array([region.left, region.top]) + 0.4).astype(int)
            np.testing.assert_array_equal(full(ring, labels.shape), region.full(labels.shape))


@settings(deadline=None, max_examples=80)
@given(points=st.lists(st.tuples(st.integers(-5, 20), st.integers(-5, 20)), min_size=1, max_size=9))
def test_what_is_inside_is_by_the_even_odd_rule(points: list[tuple[int, int]]) -> None:
    """Off the outline, which tools draw differently where it is slanted."""
    size = (12, 14)
    drawn = full(np.array(points), size)
    near = PILImage.new("1", (40, 40))
    moved = [(x + 10, y + 10) for x, y in points]
    ImageDraw.Draw(near).line([*moved, moved[0]], fill=1, width=3)
    near_outline = np.array(near)[10:22, 10:24]
    for y in range(size[0]):
        for x in range(size[1]):
            if not near_outline[y, x]:
                assert drawn[y, x] == inside(points, x, y), (x, y)
    for x, y in points:
        assert not (0 <= x < 14 and 0 <= y < 12) or drawn[y, x]


def inside(points: list[tuple[int, int]], x: int, y: int) -> bool:
    crossings = 0
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
            crossings += 1
    return crossings % 2 == 1


@pytest.mark.parametrize("far", [[[-9, -9], [-5, -9], [-5, -2]], [[40, 40], [50, 40], [50, 50]]])
def test_a_polygon_outside_of_the_image_has_no_pixels(far: list[list[int]]) -> None:
    assert not full(np.array(far), (6, 7)).any()


def test_one_that_surrounds_the_image_fills_it() -> None:
    assert full(np.array([[-9, -9], [30, -9], [30, 30], [-9, 30]]), (6, 7)).all()
