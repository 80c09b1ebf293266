"""An outline, filled by the even-odd rule, covers exactly its region."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tagmask.report.outlines import path_data


def polygons(path: str) -> list[list[tuple[int, int]]]:
    """Parse the corner points of each part of a path."""
    result = []
    for part in re.findall(r"M[^z]*z", path):
        numbers = [int(n) for n in re.findall(r"-?\d+", part)]
        points = [(numbers[0], numbers[1])]
        for dx, dy in zip(numbers[2::2], numbers[3::2], strict=True):
            points.append((points[-1][0] + dx, points[-1][1] + dy))
        result.append(points)
    return result


def is_inside(x: float, y: float, parts: list[list[tuple[int, int]]]) -> bool:
    """Return whether a ray to the right crosses the outlines an odd number of times."""
    crossings = 0
    for points in parts:
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) / (y1 - y0) * (x1 - x0):
                crossings += 1
    return crossings % 2 == 1


@settings(deadline=None, max_examples=150)
@given(mask=arrays.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outline_contains_exactly_the_region(mask: np.ndarray) -> None:
    parts = polygons(path_data(mask))
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            # Slightly off the centre, so that no corner point is on the ray.
            assert is_inside(2 * x + 1.02, 2 * y + 1.03, parts) == mask[y, x]


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        (["..", ".."], ""),
        (["...", ".#.", "..."], "M3 2l1 1-1 1-1-1z"),
        # Pixels that touch only at a corner are separate.
        (["....", ".#..", "..#.", "...."], "M3 2l1 1-1 1-1-1zM5 4l1 1-1 1-1-1z"),
    ],
)
def test_small_regions(rows: list[str], path: str) -> None:
    assert path_data(np.array([[cell == "#" for cell in row] for row in rows])) == path


def test_no_line_along_the_border() -> None:
    xs, ys = np.array(polygons(path_data(np.ones((3, 5), bool)))[0]).T
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (-4, 14, -4, 10)


def test_stairs_become_a_slope() -> None:
    stairs = np.tri(40, dtype=bool)
    assert len(polygons(path_data(np.pad(stairs, 1)))[0]) <= 8
