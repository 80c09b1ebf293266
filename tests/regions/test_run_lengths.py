"""Run lengths decoded again; label-studio-sdk and cvat-sdk decode them in `make bridges`."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError
from tagmask.regions import class_regions
from tagmask.regions.run_lengths import (
    brush_mask,
    brush_rle,
    region_brush_rle,
    row_runs,
    rows_from_runs,
)

MASKS = {
    "empty": np.zeros((4, 5), bool),
    "full": np.ones((4, 5), bool),
    "one pixel": np.eye(1, 12, 7, dtype=bool),
    "checkers": np.indices((9, 8)).sum(axis=0) % 2 == 1,
    "long runs": np.arange(300 * 400).reshape(300, 400) // 50_000 == 1,  # longer than a block's 65,536 values
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_both_forms_give_back_the_mask(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(rows_from_runs(row_runs(mask), mask.shape), mask)
    np.testing.assert_array_equal(brush_mask(np.array(brush_rle(mask)), mask.shape), mask)


@settings(deadline=None, max_examples=60)
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 999))
def test_any_mask_comes_back(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < rng.random()
    np.testing.assert_array_equal(rows_from_runs(row_runs(mask), size), mask)
    np.testing.assert_array_equal(brush_mask(np.array(brush_rle(mask)), size), mask)


def test_the_bits_of_a_small_mask() -> None:
    # 8 values; words of 8 bits; lengths of 3, 4, 8 or 16 bits; a run of 4 zeros, and one of 4 times 255.
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "1" + "00" + "011" + "00000000" + "1" + "00" + "011" + "11111111"
    bits += "0" * (8 - len(bits) % 8)
    expected = [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]
    assert brush_rle(np.array([[False, True]])) == expected


def test_literal_values_of_other_writers_are_read() -> None:
    bits = f"{8:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    bits += "0" + "00" + "111" + "".join(f"{value:08b}" for value in [9, 9, 9, 0, 9, 9, 9, 128])
    data = np.packbits(np.array([int(bit) for bit in bits], np.uint8)).astype(int)
    np.testing.assert_array_equal(brush_mask(data, (1, 2)), [[False, True]])


@pytest.mark.parametrize(
    "data", [[], [1, 2, 3], [256] * 20, [-1] * 20, brush_rle(np.ones((3, 3), bool))], ids=str
)
def test_damaged_or_other_masks_are_refused(data: list[int]) -> None:
    with pytest.raises(InputError, match="cannot be decoded"):
        brush_mask(np.array(data, np.int64), (2, 2))


def test_every_cut_of_a_stream_is_refused_or_right() -> None:
    mask = MASKS["checkers"]
    whole = brush_rle(mask)
    for end in range(len(whole) - 2):
        with pytest.raises(InputError):
            brush_mask(np.array(whole[:end], int), mask.shape)


@pytest.mark.parametrize("runs", [[3], [5], [-1, 5], [2, 3], [2**62, 2**62, 4]])
def test_runs_that_do_not_fit_are_refused(runs: list[int]) -> None:
    with pytest.raises(InputError, match="do not add up"):
        rows_from_runs(np.array(runs), (2, 2))


@settings(deadline=None, max_examples=60)
@given(size=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 999))
def test_a_region_is_encoded_like_the_whole_mask(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < 0.6
    mask[0, rng.integers(size[1])] = True
    for region in class_regions(mask.view(np.uint8), 1, 2):
        found = region_brush_rle(region.mask, region.top, region.left, size)
        assert found == brush_rle(mask)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999))
def test_blocks_that_end_inside_a_pixel_are_read(seed: int) -> None:
    """Of any writer: runs and literal values, of any length, in any of four sizes of the length."""
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(1, 7, 2).tolist())
    values: list[int] = []
    bits = f"{size[0] * size[1] * 4:032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    while len(values) < size[0] * size[1] * 4:
        length = int(min(rng.integers(1, 12), size[0] * size[1] * 4 - len(values)))
        index = int(rng.integers(0 if length <= 8 else 1, 4))
        bits += f"{(run := int(rng.integers(2))):b}" + f"{index:02b}"
        bits += f"{length - 1:0{(3, 4, 8, 16)[index]}b}"
        block = rng.choice([0, 0, 7, 255], 1 if run else length).tolist()
        bits += "".join(f"{value:08b}" for value in block)
        values += block * length if run else block
    bits += "0" * (-len(bits) % 8)
    data = np.array([int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)])
    opaque = np.array(values).reshape(*size, 4)[..., 3] > 0
    np.testing.assert_array_equal(brush_mask(data, size), opaque)
