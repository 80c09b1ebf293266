import inspect
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.dense.windows import (
    Windows,
    plan_windows,
    resize_matrix,
    single_window,
    stitch_matrices,
    tile_windows,
)
from tagmask.errors import InputError, ShapeError
from tests.oracles import stitch as oracle

side = st.integers(1, 40)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("size", "count"),
    [((336, 448), 6), ((336, 505), 8), ((336, 336), 4), ((560, 1120), 36), ((448, 597), 15), ((200, 448), 3)],
)
def test_window_counts_of_the_published_settings(size, count):
    assert len(plan_windows(size, 224, 112)) == count


def test_windows_go_row_by_row_and_end_flush():
    windows = plan_windows((10, 17), crop=8, stride=5)
    assert windows.boxes == (
        (0, 0, 8, 8), (5, 0, 13, 8), (9, 0, 17, 8),
        (0, 2, 8, 10), (5, 2, 13, 10), (9, 2, 17, 10),
    )  # fmt: skip
    assert windows.canvas == (10, 17)


@settings(deadline=None, max_examples=60)
@given(size=st.tuples(side, side), crop=st.integers(1, 45), stride=st.integers(1, 20))
def test_plan_equals_the_step_by_step_version(size, crop, stride):
    tops, lefts = (tuple(oracle.window_starts(s, crop, stride)) for s in size)
    gaps = any(b - a > crop for starts in (tops, lefts) for a, b in pairwise(starts))
    if gaps:
        with pytest.raises(InputError, match="gaps"):
            plan_windows(size, crop, stride)
        return
    windows = plan_windows(size, crop, stride)
    assert (windows.tops, windows.lefts) == (tops, lefts)
    assert (windows.height, windows.width) == (min(crop, size[0]), min(crop, size[1]))
    assert windows.canvas == size


def test_stride_over_the_crop_is_valid_if_the_last_window_closes_the_gap():
    assert plan_windows((5, 5), crop=3, stride=4).tops == (0, 2)


@pytest.mark.parametrize(("crop", "stride"), [(0, 1), (1, 0), (-3, 2), (4, 6)])
def test_invalid_windows_are_refused(crop, stride):
    with pytest.raises(InputError, match="stride"):
        plan_windows((30, 30), crop, stride)


@pytest.mark.parametrize("tops", [(), (1,), (0, 5), (0, 0)])
def test_windows_must_cover_the_image(tops):
    with pytest.raises(InputError, match="without gaps"):
        Windows(tops, (0,), 4, 4)


def test_empty_sizes_are_refused():
    with pytest.raises(InputError, match="image size"):
        single_window((0, 4))
    with pytest.raises(InputError, match="image size"):
        plan_windows((4, 0), 2, 2)
    with pytest.raises(InputError, match="resize size"):
        resize_matrix(3, 0)


@settings(deadline=None, max_examples=60)
@given(source=side, target=side)
def test_resize_matrix_equals_the_formula(source, target):
    values = uniform(source)
    expected = torch.tensor(oracle.resize_line(values.tolist(), target))
    torch.testing.assert_close(resize_matrix(source, target) @ values, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "target"),
    [(14, 224), (224, 14), (448, 500), (1120, 2048), (2000, 1999), (1, 7), (7, 1), (5, 5)],
)
def test_resize_matrix_equals_torch(source, target):
    values = uniform(source)
    expected = F.interpolate(values.view(1, 1, source, 1), size=(target, 1), mode="bilinear")[0, 0, :, 0]
    torch.testing.assert_close(resize_matrix(source, target) @ values, expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(side, side),
    crop=st.integers(1, 45),
    step=st.integers(1, 45),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    target=st.tuples(side, side),
)
def test_one_product_equals_the_four_steps(size, crop, step, grid, target):
    windows = plan_windows(size, crop, min(step, crop))
    maps = uniform(len(windows), 2, *grid)
    y, x = stitch_matrices(windows, grid, size, target)
    expected = oracle.stitch(maps, windows.boxes, size, target)
    torch.testing.assert_close(y @ tile_windows(maps, windows) @ x.T, expected, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(side, side),
    crop=st.integers(1, 45),
    step=st.integers(1, 45),
    padding=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    target=st.tuples(side, side),
)
def test_padding_of_windows_is_cropped(size, crop, step, padding, grid, target):
    windows = plan_windows(size, crop, min(step, crop))
    padded = (windows.height + padding[0], windows.width + padding[1])
    maps = uniform(len(windows), 2, *grid)
    y, x = stitch_matrices(windows, grid, size, target, padded=padded)
    expected = oracle.stitch(maps, windows.boxes, size, target, padded)
    torch.testing.assert_close(y @ tile_windows(maps, windows) @ x.T, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "padded"), [((45, 57), (48, 64)), ((46, 50), (48, 64)), ((33, 64), (48, 64))]
)
def test_odd_padding_goes_below_and_on_the_right(size, padded):
    maps = uniform(1, 2, 3, 4)
    y, x = stitch_matrices(single_window(size), (3, 4), size, size, padded=padded)
    full = F.interpolate(maps, size=padded, mode="bilinear", align_corners=False)
    above, left = ((p - s) // 2 for p, s in zip(padded, size, strict=True))
    below, right = (-((p - s + 1) // 2) or None for p, s in zip(padded, size, strict=True))
    expected = full[0, :, above:below, left:right]
    torch.testing.assert_close(y @ tile_windows(maps, single_window(size)) @ x.T, expected, rtol=0, atol=1e-6)


def test_one_product_at_working_size():
    size, target = (336, 448), (375, 500)
    windows = plan_windows(size, 224, 112)
    maps = uniform(len(windows), 3, 14, 14)
    y, x = stitch_matrices(windows, (14, 14), size, target)
    assert y.dtype == x.dtype == torch.float32
    assert (y.shape, x.shape) == ((375, 2 * 14), (500, 3 * 14))
    expected = oracle.stitch(maps, windows.boxes, size, target)
    torch.testing.assert_close(y @ tile_windows(maps, windows) @ x.T, expected, rtol=0, atol=1e-6)


def test_map_of_whole_image_is_resized_once_or_twice():
    size, grid, target = (33, 47), (2, 3), (50, 41)
    maps = uniform(1, 2, *grid)
    once = F.interpolate(maps, size=target, mode="bilinear")[0]
    twice = F.interpolate(F.interpolate(maps, size=size, mode="bilinear"), size=target, mode="bilinear")[0]
    for through, expected in ((False, once), (True, twice)):
        y, x = stitch_matrices(single_window(size), grid, size, target, through_canvas=through)
        torch.testing.assert_close(
            y @ tile_windows(maps, single_window(size)) @ x.T, expected, rtol=0, atol=1e-6
        )
    assert not torch.allclose(once, twice, atol=1e-3)


def test_several_windows_need_the_canvas():
    with pytest.raises(InputError, match="6 windows"):
        stitch_matrices(
            plan_windows((336, 448), 224, 112), (14, 14), (336, 448), (9, 9), through_canvas=False
        )


def test_canvas_must_be_the_planned_image():
    with pytest.raises(ShapeError, match=r"\(30, 41\)"):
        stitch_matrices(single_window((30, 40)), (2, 2), (30, 41), (9, 9))


def test_tile_windows_lays_maps_side_by_side():
    windows = plan_windows((4, 6), crop=2, stride=2)
    maps = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 2, 2)
    assert tile_windows(maps, windows)[0].tolist() == [
        [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2],
        [3, 3, 4, 4, 5, 5], [3, 3, 4, 4, 5, 5],
    ]  # fmt: skip


def test_tile_windows_needs_one_map_per_window():
    # Unwrapped: in tests, jaxtyping would raise before the error that users see.
    with pytest.raises(ShapeError, match="5 maps for 6 windows"):
        inspect.unwrap(tile_windows)(torch.zeros(5, 1, 2, 2), plan_windows((4, 6), 2, 2))
