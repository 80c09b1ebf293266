"""Proposed regions: spans, means and painting, compared with naive versions on masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError, ShapeError
from tagmask.regions import proposals as module
from tagmask.regions.proposals import ProposalBuilder, Proposals, RegionScores
from tagmask.regions.run_lengths import mask_from_columns, mask_spans


def random_masks(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    masks = rng.random((count, *size)) < rng.random((count, 1, 1))
    if count > 1:
        masks[0] = False
    return masks


def painted(masks: np.ndarray) -> np.ndarray:
    """The number of the mask at each pixel, painted one after the other, the largest first."""
    result = np.full(masks.shape[1:], -1)
    for number in sorted(range(len(masks)), key=lambda number: -masks[number].sum()):
        result[masks[number]] = number
    return result


def order_of(masks: np.ndarray) -> list[int]:
    """The number of the mask that each region was, among those with pixels."""
    numbers = [number for number in range(len(masks)) if masks[number].any()]
    return sorted(numbers, key=lambda number: -masks[number].sum())


def column_runs(mask: np.ndarray) -> np.ndarray:
    runs, value, length = [], False, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return np.array([*runs, length])


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(deadline=None, max_examples=50)
@given(size=sizes, count=st.integers(1, 5), seed=st.integers(0, 99), loop=st.sampled_from([1, 64]))
def test_masks_and_columns_are_painted_the_largest_first(
    size: tuple[int, int], count: int, seed: int, loop: int
) -> None:
    masks = random_masks(count, size, seed)
    builder = ProposalBuilder(size)
    for mask in masks:
        builder.add_columns(column_runs(mask))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LOOP", loop)
        for regions in (Proposals.of_masks(masks, size), builder.proposals()):
            assert regions.areas.tolist() == [masks[number].sum() for number in order_of(masks)]
            numbers = np.array([*order_of(masks), -1])
            np.testing.assert_array_equal(numbers[regions.index_map()], painted(masks))


@settings(deadline=None, max_examples=50)
@given(size=sizes, count=st.integers(1, 4), rows=st.integers(1, 9), seed=st.integers(0, 99))
def test_means_are_those_over_each_mask(size: tuple[int, int], count: int, rows: int, seed: int) -> None:
    masks = random_masks(count, size, seed)
    scores = np.random.default_rng(seed).random((3, *size), np.float32)
    sums = RegionScores(Proposals.of_masks(masks, size), 3)
    for top in range(0, size[0], rows):
        sums.add(top, scores[:, top : top + rows])
    expected = [scores[:, masks[number]].mean(axis=1, dtype=np.float64) for number in order_of(masks)]
    np.testing.assert_allclose(sums.means(), np.reshape(expected, (-1, 3)), rtol=1e-12)


@settings(deadline=None, max_examples=30)
@given(size=sizes, seed=st.integers(0, 99))
def test_labels_have_a_region_for_each_value_but_0(size: tuple[int, int], seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, size).astype(np.uint16) * 16_000
    values = [value for value in np.unique(labels) if value]
    regions = Proposals.of_labels(labels)
    masks = Proposals.of_masks([labels == value for value in values], size)
    np.testing.assert_array_equal(regions.index_map(), masks.index_map())
    assert regions.areas.tolist() == masks.areas.tolist()


@settings(deadline=None, max_examples=50)
@given(size=sizes, seed=st.integers(0, 99))
def test_columns_decode_to_the_mask(size: tuple[int, int], seed: int) -> None:
    (mask,) = random_masks(1, size, seed)
    found, left = mask_from_columns(column_runs(mask), size)
    whole = np.zeros(size, bool)
    whole[:, left : left + found.shape[1]] = found
    np.testing.assert_array_equal(whole, mask)
    starts, stops = mask_spans(found, 0, left, size[1])
    assert all(stops[:-1] < starts[1:])
    assert (stops - starts).sum() == mask.sum()


def test_equal_regions_are_painted_in_their_order() -> None:
    masks = np.array([[[1, 1, 0]], [[0, 1, 1]]], bool)
    assert Proposals.of_masks(masks, (1, 3)).index_map().tolist() == [[0, 1, 1]]


def test_no_region_leaves_everything_uncovered() -> None:
    regions = Proposals.of_masks(np.zeros((2, 2, 3), bool), (2, 3))
    assert len(regions) == 0
    assert (regions.index_map() == -1).all()
    assert RegionScores(regions, 2).means().shape == (0, 2)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"is \(3, 2\), but the image is \(2, 3\)"):
        Proposals.of_masks(np.zeros((1, 3, 2), bool), (2, 3))


def test_too_many_regions_and_too_many_pieces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(1, 65_537).reshape(256, 256)
    with pytest.raises(InputError, match="more than 65535 regions"):
        Proposals.of_labels(labels)
    monkeypatch.setattr(module, "_MOST_SPANS", 10)
    stripes = np.tile(np.array([False, True]), (4, 4))
    Proposals.of_masks([stripes], (4, 8))
    with pytest.raises(InputError, match="too many pieces"):
        Proposals.of_masks([stripes, stripes], (4, 8))
