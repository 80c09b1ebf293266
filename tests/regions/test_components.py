"""Connected components compared with a flood fill, pixel by pixel."""

import numpy as np
import pytest

from tagmask.regions import class_regions, components


def flood_filled(labels: np.ndarray, first: int, end: int) -> set[tuple[int, frozenset[tuple[int, int]]]]:
    """Every component as its label and its pixels."""
    found, seen = set(), set()
    for start in np.ndindex(labels.shape):
        if start in seen or not first <= labels[start] < end:
            continue
        inside, pending = set(), [start]
        while pending:
            y, x = pending.pop()
            in_image = 0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]
            if (y, x) in inside or not in_image or labels[y, x] != labels[start]:
                continue
            inside.add((y, x))
            pending += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
        seen |= inside
        found.add((int(labels[start]), frozenset(inside)))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_components_equal_a_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, rng.integers(2, 4), rng.integers(1, 20, 2)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    found = set()
    for region in components(labels, 1, 3):
        y, x = np.nonzero(region.full(labels.shape))
        found.add((region.label, frozenset(zip(y.tolist(), x.tolist(), strict=True))))
        assert region.area == len(y)
        assert region.box == (x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert found == flood_filled(labels, 1, 3)


def test_a_spiral_is_one_component() -> None:
    turns = np.zeros((41, 41), np.uint8)
    y, x, dy, dx, steps = 20, 20, 0, 1, 2
    while 0 <= y < 41 and 0 <= x < 41:
        for _ in range(2):
            for _ in range(steps):
                if 0 <= y < 41 and 0 <= x < 41:
                    turns[y, x] = 1
                y, x = y + dy, x + dx
            dy, dx = dx, -dy
        steps += 2
    assert len(list(components(turns, 1, 2))) == 1


def test_order_and_least_area() -> None:
    labels = np.array([[2, 0, 1, 1], [2, 1, 0, 0], [0, 0, 0, 1]], np.uint16)
    order = [(region.label, region.top, region.left) for region in components(labels, 1, 3)]
    assert order == [(1, 0, 2), (1, 1, 1), (1, 2, 3), (2, 0, 0)]
    assert [region.area for region in components(labels, 1, 3, min_area=2)] == [2, 2]


def test_one_region_per_class_leaves_out_the_background_and_pixels_of_no_class() -> None:
    labels = np.array([[0, 3, 255], [3, 0, 3]], np.uint8)
    (region,) = class_regions(labels, 1, 5)
    assert (region.label, region.area, region.box) == (3, 3, (0, 0, 3, 2))
    np.testing.assert_array_equal(region.full((2, 3)), labels == 3)
    assert not list(class_regions(np.full((2, 2), 255, np.uint8), 0, 5))
    assert not list(components(np.full((2, 2), 65535, np.uint16), 0, 300))
