"""Overlays: tints, lines, names."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import ImageFont

from tagmask.errors import InputError, ShapeError
from tagmask.masks import (
    _best_place,
    _Chip,
    _placed,
    overlay,
    overlay_colours,
)
from tests.images.pictures import photo


def drawn(
    image: np.ndarray, labels: np.ndarray, names: list[str] | None = None, **options: object
) -> np.ndarray:
    """An overlay as an array; by default without names, so only tints and outlines."""
    names = [""] * 20 if names is None else names
    return np.asarray(overlay(image, labels, names, **options))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=40)
@given(data=st.data(), h=st.integers(1, 7), w=st.integers(1, 7), wide=st.booleans())
def test_tints_and_lines(data: st.DataObject, h: int, w: int, wide: bool) -> None:
    ignore_index = 65535 if wide else 255
    values = st.sampled_from([0, 1, 2, 3, ignore_index])
    labels = data.draw(arrays.arrays(np.uint16 if wide else np.uint8, (h, w), elements=values))
    skip = data.draw(st.frozensets(st.integers(0, 3)))
    opacity = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0]))
    outlines = data.draw(st.booleans())
    image = photo(h, w)
    colours = overlay_colours(20).astype(float)
    result = drawn(image, labels, skip=skip, opacity=opacity, outlines=outlines)

    def region(i: int, j: int) -> int:
        label = int(labels[i, j])
        return -1 if label in skip or label == ignore_index else label

    for i in range(h):
        for j in range(w):
            here = region(i, j)
            below = region(i + 1, j) if i + 1 < h else here
            right = region(i, j + 1) if j + 1 < w else here
            if outlines and (here != below or here != right):
                expected = np.full(3, 255.0)
            elif here < 0:
                expected = image[i, j].astype(float)
            else:
                expected = (1 - opacity) * image[i, j] + opacity * colours[here]
            assert np.abs(result[i, j] - expected).max() <= (1 if here >= 0 else 0)


@pytest.mark.parametrize("opacity", [0.25, 0.5, 0.75])
def test_tints_are_rounded(opacity: float) -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    exact = (1 - opacity) * image[:, 0] + opacity * overlay_colours(1)[0]
    assert np.abs(drawn(image, np.zeros((256, 1), np.uint8), opacity=opacity)[:, 0] - exact).max() <= 0.5


@pytest.mark.parametrize(("side", "width"), [(100, 1), (300, 1), (500, 2), (1000, 4), (1700, 6)])
def test_lines_are_thicker_in_larger_images(side: int, width: int) -> None:
    image = np.zeros((side, side, 3), np.uint8)
    labels = np.zeros((side, side), np.uint8)
    labels[:, side // 2 :] = 1
    white = (drawn(image, labels) == 255).all(axis=2)
    assert white.sum(axis=1).tolist() == [width] * side
    assert abs(np.flatnonzero(white[0]).mean() + 0.5 - side / 2) <= 0.5


def test_bands_join_without_seams() -> None:
    """More pixels than are processed at a time."""
    image = np.full((1500, 1000, 3), 100, np.uint8)
    result = drawn(image, np.zeros((1500, 1000), np.uint8), opacity=0.5)
    assert (result == result[0, 0]).all()


def test_inputs_are_unchanged() -> None:
    image, labels = photo(60, 80), np.zeros((60, 80), np.uint8)
    labels[:, 40:] = 1
    before = image.copy(), labels.copy()
    result = overlay(image, labels, ["cat", "dog"], skip=frozenset({0}))
    assert result.mode == "RGB"
    assert result.size == (80, 60)
    assert np.array_equal(image, before[0])
    assert np.array_equal(labels, before[1])


def test_ignored_pixels_have_no_tint_and_no_name() -> None:
    image = photo(50, 60)
    labels = np.full((50, 60), 255, np.uint8)
    assert np.array_equal(drawn(image, labels, [f"class {i}" for i in range(256)]), image)
    assert np.array_equal(drawn(image, labels, []), image)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (16, 16), (9, 400), (400, 9), (40, 40)])
@pytest.mark.parametrize(
    "name", ["cat", "", " \n ", "a rather long name of a class that fits nowhere", "猫 é"]
)
def test_tiny_images(size: tuple[int, int], name: str) -> None:
    labels = np.zeros(size, np.uint8)
    labels[size[0] // 2 :, size[1] // 2 :] = 1
    assert overlay(photo(*size), labels, [name, name]).size == size[::-1]


def blocks(h: int, w: int, rows: int, cols: int) -> np.ndarray:
    y, x = np.mgrid[:h, :w]
    return ((y * rows // h) * cols + x * cols // w).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((375, 500), (3, 3)), ((500, 375), (1, 4)), ((1201, 1799), (4, 5)), ((80, 100), (2, 1))],
)
def test_each_name_lies_in_its_region(size: tuple[int, int], grid: tuple[int, int]) -> None:
    labels = blocks(*size, *grid)
    n = grid[0] * grid[1]
    chips = _placed(labels, range(n), ["horse"] * n)
    assert [chip.label for chip in chips] == list(range(n))
    for chip in chips:
        under = labels[chip.top : chip.top + chip.height, chip.left : chip.left + chip.width]
        assert under.shape == (chip.height, chip.width)
        assert (under == chip.label).mean() > 0.9


@settings(deadline=None, max_examples=15)
@given(h=st.integers(20, 700), w=st.integers(20, 700), n=st.integers(1, 9), seed=st.integers(0, 99))
def test_names_stay_inside(h: int, w: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, n, (4, 4)).astype(np.uint8)
    labels = small[np.ix_(np.arange(h) * 4 // h, np.arange(w) * 4 // w)]
    names = ["cat", "dining table", "a really long name of something else"] * 3
    for chip in _placed(labels, np.unique(labels).tolist(), names):
        assert 0 <= chip.top <= h - chip.height
        assert 0 <= chip.left <= w - chip.width


def test_names_do_not_overlap_where_there_is_room() -> None:
    """Stripes much lower than a name: every name would fit best in the middle."""
    labels = (np.arange(300)[:, None] // 6 % 8 + np.zeros((1, 400))).astype(np.uint8)
    chips = _placed(labels, range(8), ["horse"] * 8)
    covered = np.zeros(labels.shape, int)
    for chip in chips:
        covered[chip.top : chip.top + chip.height, chip.left : chip.left + chip.width] += 1
    assert len(chips) == 8
    assert covered.max() == 1


def test_name_goes_to_the_largest_region() -> None:
    labels = np.full((300, 400), 255, np.uint8)
    labels[20:60, 20:100] = 0
    labels[150:290, 200:390] = 0
    labels[5:10, :] = 0
    (chip,) = _placed(labels, [0], ["cat"])
    assert chip.top >= 150
    assert chip.left >= 200


def test_name_shrinks_to_its_region() -> None:
    labels = np.zeros((375, 500), np.uint8)
    labels[100:115, 200:236] = 1
    small, large = _placed(labels, [1, 0], ["horse"] * 2)
    assert small.font.size < large.font.size


@pytest.mark.parametrize("taken", [False, True])
def test_chip_on_other_names_has_share_zero(taken: bool) -> None:
    labels = np.zeros((100, 100), np.uint8)
    (chip,) = _placed(labels, [0], ["horse"])
    _, _, cover = _best_place(chip, labels == 0, np.full((100, 100), taken), 1, (100, 100))
    assert cover == (0 if taken else 1)


def plain_best_place(
    chip: _Chip, region: np.ndarray, taken: np.ndarray, step: int, size: tuple[int, int]
) -> tuple[int, int, float]:
    """The place by its definition: every box cut off at the rim of the grid, and counted cell by cell."""
    high, wide = -(-chip.height // step), -(-chip.width // step)
    best, place = -np.inf, (0, 0, 0.0)
    for top in range((size[0] - chip.height) // step + 1):
        for left in range((size[1] - chip.width) // step + 1):
            shares = []
            for margin in (0, high, 2 * high, 4 * high):
                y, x = max(top - margin, 0), max(left - margin, 0)
                box = region[y : top + high + margin, x : left + wide + margin]
                shares.append(box.sum() / ((high + 2 * margin) * (wide + 2 * margin)))
            free = shares[0] > 0 and not taken[top : top + high, left : left + wide].any()
            depth = 2 * shares[0] + sum(shares[1:]) - (0 if free else 10)
            if depth > best:
                best, place = depth, (top, left, shares[0] if free else 0.0)
    return place


@pytest.mark.parametrize("seed", range(20))
def test_best_place_is_that_of_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    step = int(rng.integers(1, 4))
    size = (int(rng.integers(30, 60)) * step, int(rng.integers(60, 90)) * step - step // 2)
    grid = tuple(-(-side // step) for side in size)
    region, taken = (rng.random((5, 5)) < share for share in (0.5, 0.2))
    rows, columns = (np.arange(n) * 5 // n for n in grid)
    chip = _Chip(0, "cat", ImageFont.load_default(9), int(rng.integers(3, 17)), int(rng.integers(9, 41)))
    cells = region[np.ix_(rows, columns)], taken[np.ix_(rows, columns)]
    assert _best_place(chip, *cells, step, size) == plain_best_place(chip, *cells, step, size)


def test_overlapping_is_better_than_no_name() -> None:
    labels = blocks(14, 60, 1, 3)
    assert len(_placed(labels, range(3), ["dining table"] * 3)) == 3


@pytest.mark.parametrize(("share", "named"), [(0.004, False), (0.006, True)])
def test_names_of_small_regions_are_left_out(share: float, named: bool) -> None:
    labels = np.zeros((200, 200), np.uint8)
    labels.ravel()[: round(share * 40_000)] = 1
    image = photo(200, 200)
    plain, with_name = drawn(image, labels), drawn(image, labels, ["", "cat"])
    assert np.array_equal(plain, with_name) != named


def test_text_is_readable_on_every_colour() -> None:
    """The chip holds its class's colour, and black or white of contrast 4.5 or more (WCAG AA)."""

    def luminance(colour: np.ndarray) -> float:
        total = 0.0
        for value, weight in zip(colour.tolist(), (0.2126, 0.7152, 0.0722), strict=True):
            share = value / 255
            total += weight * (share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4)
        return total

    image = np.full((120, 160, 3), 90, np.uint8)
    for label in range(30):
        labels = np.full((120, 160), label, np.uint8)
        colour = overlay_colours(30)[label]
        (chip,) = _placed(labels, [label], ["horse"] * 30)
        result = drawn(image, labels, ["horse"] * 30)
        plate = result[chip.top + 2 : chip.top + chip.height - 2, chip.left + 2 : chip.left + chip.width - 2]
        assert (plate == colour).all(axis=2).mean() > 0.3
        light = luminance(colour)
        ink = 0 if (light + 0.05) / 0.05 > 1.05 / (light + 0.05) else 255
        assert np.abs(plate.astype(int) - ink).sum(axis=2).min() < 60
        assert max((light + 0.05) / 0.05, 1.05 / (light + 0.05)) > 4.5


def test_invalid_inputs_are_refused() -> None:
    unchecked = inspect.unwrap(overlay)  # without the shape checker, the function checks sizes itself
    image, labels = photo(4, 5), np.zeros((4, 5), np.uint8)
    with pytest.raises(ShapeError, match=r"size \(5, 4\), their image has \(4, 5\)"):
        unchecked(image, labels.T, ["cat"])
    with pytest.raises(InputError, match=r"Label 3 has no name: there are 1 names"):
        overlay(image, labels + np.uint8(3), ["cat"])
    assert np.array_equal(overlay(image, labels + np.uint8(3), ["cat"], skip=frozenset({3})), image)
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(InputError, match="opacity"):
            overlay(image, labels, ["cat"], opacity=opacity)
