from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.dense.boxes import component_boxes_union, mask_box
from tagmask.errors import ShapeError
from tests.oracles import components as oracle

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "units_small.npz")
masks = st.tuples(st.integers(1, 4), st.integers(1, 11), st.integers(1, 11)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def spiral(n):
    """One long arm that winds inwards, one cell wide, one cell apart."""
    grid = np.zeros((n, n), bool)
    y, x, dy, dx = 0, 0, 0, 1
    grid[0, 0] = True

    def free(y, x):
        return 0 <= y < n and 0 <= x < n and not grid[y, x]

    def clear(y, x):
        return free(y, x) and (not (0 <= y + dy < n and 0 <= x + dx < n) or not grid[y + dy, x + dx])

    turns = 0
    while turns < 2:
        if clear(y + dy, x + dx):
            y, x, turns = y + dy, x + dx, 0
            grid[y, x] = True
        else:
            dy, dx, turns = dx, -dy, turns + 1
    return grid


def snake(n, upright=False):
    """Full rows connected at alternating ends."""
    grid = np.zeros((n, n), bool)
    grid[::2] = True
    grid[1::4, -1] = True
    grid[3::4, 0] = True
    return grid.T.copy() if upright else grid


def comb(n):
    """Teeth that meet only in the last row."""
    grid = np.zeros((n, n), bool)
    grid[:, ::2] = True
    grid[-1] = True
    return grid


def zigzag(n):
    """Diagonals that meet corner to corner only."""
    y, x = np.indices((n, n))
    return (x + y) % 6 == np.where((y // 3) % 2, 0, (2 * y) % 6)


SHAPES = {
    "spiral": spiral(21),
    "spiral_turned": spiral(20)[::-1, ::-1].copy(),
    "snake": snake(19),
    "snake_upright": snake(19, upright=True),
    "comb": comb(15),
    "comb_upside_down": comb(15)[::-1].copy(),
    "zigzag": zigzag(18),
    "checkerboard": np.indices((14, 17)).sum(0) % 2 == 0,
    "dots": np.indices((14, 17)).max(0) % 2 + np.indices((14, 17)).min(0) % 2 == 0,
    "full": np.ones((6, 7), bool),
    "ring_around_a_dot": np.pad(np.pad(np.pad(np.ones((1, 1), bool), 1), 1, constant_values=True), 1),
    "last_column": np.arange(5) == 4 * np.ones((4, 1)),
}


def check(strong, lose_border):
    """strong: (c, gh, gw)."""
    scores = torch.from_numpy(strong).float()
    union, count = component_boxes_union(scores, torch.full((len(strong),), 0.5), lose_border=lose_border)
    np.testing.assert_array_equal(union, [oracle.boxes_union(mask, lose_border) for mask in strong])
    assert count.tolist() == [len(oracle.regions(mask)) for mask in strong]


@pytest.mark.parametrize("index", range(60))
def test_reference_maps(index):
    h, w, contours = GOLDEN["box/h_w_ncontours"][index]
    scores = GOLDEN["box/maps_padded_minus1"][index, :h, :w]
    threshold = GOLDEN["box/threshold"][index]
    union, count = component_boxes_union(torch.from_numpy(scores)[None], torch.tensor([threshold]))
    np.testing.assert_array_equal(union[0], GOLDEN["box/union_padded"][index, :h, :w])
    strong = oracle.strong_cells(scores, threshold)
    assert count.item() == len(oracle.regions(strong))
    # Outer contours omit regions inside holes; this is the only difference between the counts.
    assert oracle.outermost(strong) == contours


@pytest.mark.parametrize("lose_border", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name, lose_border):
    check(SHAPES[name][None], lose_border)


def test_shapes_have_the_expected_number_of_regions():
    assert {name: len(oracle.regions(shape)) for name, shape in SHAPES.items()} == {
        "spiral": 1, "spiral_turned": 1, "snake": 1, "snake_upright": 1, "comb": 1, "comb_upside_down": 1,
        "zigzag": len(oracle.regions(SHAPES["zigzag"])), "checkerboard": 1, "dots": 63, "full": 1,
        "ring_around_a_dot": 2, "last_column": 1,
    }  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(strong=masks, lose_border=st.booleans())
def test_random_masks(strong, lose_border):
    check(strong, lose_border)


@settings(deadline=None, max_examples=40)
@given(
    scores=arrays(np.float32, (3, 6, 7), elements=st.floats(0, 1, width=32)),
    threshold=arrays(np.float32, 3, elements=st.floats(0, 1, width=32)),
)
def test_thresholds_are_per_class_and_in_8_bits(scores, threshold):
    union, count = component_boxes_union(torch.from_numpy(scores), torch.from_numpy(threshold))
    strong = [
        oracle.strong_cells(plane, float(share)) for plane, share in zip(scores, threshold, strict=True)
    ]
    np.testing.assert_array_equal(union, [oracle.boxes_union(mask, lose_border=True) for mask in strong])
    assert count.tolist() == [len(oracle.regions(mask)) for mask in strong]


def test_levels_are_truncated_not_rounded():
    # 255 * 0.5 is 127.5: the level 127 is not over the threshold 127, as 128 would be.
    scores = torch.tensor([[[1.0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]])
    union, count = component_boxes_union(scores, torch.tensor([0.5]), lose_border=False)
    assert (union.sum().item(), count.item()) == (1, 1)


def test_product_with_the_threshold_is_not_rounded_up():
    # 0.58 * 50 is just under 29: float32 would round it up and lose the cell of level 29.
    assert 0.58 * 50 < 29 == np.float32(0.58) * np.float32(50)
    scores = torch.tensor([[[50.5 / 255, 29.5 / 255]]])
    threshold = torch.tensor([0.58], dtype=torch.float64)
    union, _ = component_boxes_union(scores, threshold, lose_border=False)
    assert union.tolist() == [[[True, True]]]


def test_nan_and_flat_classes_have_no_region():
    scores = torch.stack([torch.full((3, 3), torch.nan), torch.zeros(3, 3), torch.eye(3)])
    union, count = component_boxes_union(scores, scores.mean((1, 2)), lose_border=False)
    assert count.tolist() == [0, 0, 1]
    assert union.sum((1, 2)).tolist() == [0, 0, 9]


def test_no_classes_give_no_boxes():
    union, count = component_boxes_union(torch.zeros(0, 3, 4), torch.zeros(0))
    assert (union.shape, count.shape) == ((0, 3, 4), (0,))


def test_one_threshold_per_class():
    with pytest.raises(ShapeError, match="1 thresholds for 2 classes"):
        component_boxes_union(torch.zeros(2, 3, 3), torch.zeros(1))


@settings(deadline=None, max_examples=60)
@given(strong=masks, lose_border=st.booleans())
def test_mask_box(strong, lose_border):
    boxes = mask_box(torch.from_numpy(strong), lose_border=lose_border)
    for mask, box in zip(strong, boxes.tolist(), strict=True):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not len(rows):
            assert box == [0, 0, 0, 0]
            continue
        bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
        if lose_border:
            bottom, right = min(bottom, mask.shape[0] - 1), min(right, mask.shape[1] - 1)
        assert box == [columns[0], rows[0], right, bottom]
