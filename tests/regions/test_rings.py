"""Rings filled by the even-odd rule: they give back the region, holes included."""

import numpy as np
import pytest

from tagmask.regions import centre_ring, components, corner_ring
from tests.regions.rings import filled


def drawn(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As OpenCV's fillPoly with whole numbers: what is inside, and the pixels of the line itself."""
    inside = np.zeros(size, bool)
    points = np.rint(ring).astype(int)
    shifted = filled(np.rint(ring) + 0.5, size)  # half a pixel on, so that centres lie on the line
    inside |= shifted
    for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
        steps = max(abs(xb - xa), abs(yb - ya), 1)
        for t in range(steps + 1):
            inside[round(ya + t * (yb - ya) / steps), round(xa + t * (xb - xa) / steps)] = True
    return inside


def regions(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(rng.integers(1, 15, 2)) < rng.choice([0.4, 0.6, 0.8, 0.95])).astype(np.uint8)
    return [region.mask for region in components(labels, 1, 2)]


@pytest.mark.parametrize("seed", range(60))
def test_corners_enclose_the_region(seed: int) -> None:
    for mask in regions(seed):
        ring = corner_ring(mask)
        np.testing.assert_array_equal(filled(ring, mask.shape), mask)
        x, y = ring.T
        area = 0.5 * (x * np.roll(y, -1) - np.roll(x, -1) * y).sum()
        assert area == np.count_nonzero(mask)


@pytest.mark.parametrize("seed", range(60))
def test_centres_give_back_the_region_where_the_line_is_drawn_too(seed: int) -> None:
    for mask in regions(seed):
        ring = centre_ring(mask)
        assert len(ring) >= 3
        np.testing.assert_array_equal(drawn(ring, mask.shape), mask)


def test_bridges_to_holes_run_inside_the_region() -> None:
    mask = np.ones((5, 9), bool)
    mask[2, [2, 4, 6]] = False  # the bridge of each hole ends at the hole on its left
    ring = centre_ring(mask)
    assert (mask[ring[:, 1].astype(int), ring[:, 0].astype(int)]).all()
    np.testing.assert_array_equal(drawn(ring, mask.shape), mask)


def test_thousands_of_holes_in_a_row() -> None:
    mask = np.ones((3, 6001), bool)
    mask[1, 1::2] = False
    np.testing.assert_array_equal(filled(corner_ring(mask), mask.shape), mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (6, 1)])
def test_lines_of_pixels_get_an_area(size: tuple[int, int]) -> None:
    ring = centre_ring(np.ones(size, bool))
    width, height = np.ptp(ring, axis=0)
    assert (height, width) == (size[0] - 0.875, size[1] - 0.875)
