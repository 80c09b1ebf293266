"""PASCAL Context, ADE20K, Cityscapes: the meaning of the mask values."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.scenes import CITY_IDS
from tests.data import layouts


@pytest.mark.parametrize(("name", "expected"), [("context60", (0, 1, 59)), ("context59", (255, 0, 58))])
def test_context_with_and_without_background(tmp_path: Path, name: str, expected: tuple[int, ...]) -> None:
    layouts.context_prepared(tmp_path)
    dataset = open_dataset(name, tmp_path)
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), layouts.rows(*expected))
    assert dataset.classes[expected[1]] == "aeroplane"
    assert dataset.classes[expected[2]] == "wood"


def test_ade20k_counts_from_one_and_has_unlabelled_pixels(tmp_path: Path) -> None:
    layouts.ade20k(tmp_path)
    dataset = open_dataset("ade20k", tmp_path)
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), layouts.rows(255, 0, 149))
    assert (dataset.classes[0], dataset.classes[149]) == ("wall", "flag")


def test_cityscapes_scores_19_of_34_ids(tmp_path: Path) -> None:
    scored = [value for value in range(34) if CITY_IDS[value] != 255]
    assert scored == [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert [CITY_IDS[value] for value in scored] == list(range(19))
    layouts.cityscapes(tmp_path)
    first, second = open_dataset("cityscapes", tmp_path).samples
    assert (first.id, second.id) == ("frankfurt_000000_000294", "munster_000000_000019")
    np.testing.assert_array_equal(first.read_mask(), layouts.rows(255, 0, 18))


def test_converted_cityscapes_masks_are_preferred(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    place = tmp_path / "cityscapes" / "gtFine" / "val" / "munster"
    converted = place / "munster_000000_000019_gtFine_labelTrainIds.png"
    layouts.mask(converted, layouts.rows(3, 18, 255), coloured=False)
    first, second = open_dataset("cityscapes", tmp_path).samples
    np.testing.assert_array_equal(second.read_mask(), layouts.rows(3, 18, 255))
    np.testing.assert_array_equal(first.read_mask(), layouts.rows(255, 0, 18))
