"""COCO-Stuff's ids: 182 raw, 171 used, 27 groups, 80 things."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.coco_stuff import COARSE, OBJECT, STUFF, coarse_names, object_names
from tagmask.errors import ImageError
from tagmask.settings.words import read_list
from tests.data import layouts

UNUSED = [raw - 1 for raw in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)]


def test_171_classes_are_the_used_ids_in_order() -> None:
    used = [raw for raw in range(182) if raw not in UNUSED]
    assert [STUFF[raw] for raw in used] == list(range(171))
    assert {STUFF[raw] for raw in [*UNUSED, *range(182, 255)]} == {-1}
    assert STUFF[255] == 255


def test_coco_object_maps_80_things_and_the_rest_to_background() -> None:
    things = [*range(11), *range(12, 25), 26, 27, *range(30, 44), *range(45, 65), 66, 69, *range(71, 82)]
    things += range(83, 90)
    assert [OBJECT[raw] for raw in things] == list(range(1, 81))
    assert {OBJECT[raw] for raw in [*range(91, 182), 255]} == {0}
    assert {OBJECT[raw] for raw in UNUSED} == {-1}
    names = object_names()
    assert (names[0], names[1], names[5], names[80]) == ("background", "person", "airplane", "toothbrush")


def test_groups_of_some_classes() -> None:
    words, groups = read_list("cocostuff171_tag"), coarse_names()
    group = {words[STUFF[raw]]: groups[COARSE[raw]] for raw in range(182) if STUFF[raw] >= 0}
    assert group["person"] == "person"
    assert group["cat"] == "animal"
    assert group["bus"] == "vehicle"
    assert group["floor-wood"] == "floor"
    assert group["clouds"] == "sky"
    assert group["wall-brick"] == "wall"
    assert COARSE[255] == 255


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coco-stuff", (0, 11, 80, 255)),
        ("coco-stuff27", (9, 8, 17, 255)),
        ("coco-object", (1, 12, 0, 0)),
    ],
)
def test_raw_masks_are_mapped_for_each_data_set(tmp_path: Path, name: str, expected: tuple[int, ...]) -> None:
    layouts.coco_stuff(tmp_path)
    sample = open_dataset(name, tmp_path, "val").samples[0]
    np.testing.assert_array_equal(sample.read_mask(), layouts.rows(*expected))


def test_converted_masks_are_preferred(tmp_path: Path) -> None:
    home = tmp_path / "coco_stuff164k"
    layouts.photo(home / "images" / "val2017" / "000000000139.jpg")
    place = home / "annotations" / "val2017"
    layouts.mask(place / "000000000139_labelTrainIds.png", layouts.rows(0, 170, 255), coloured=False)
    layouts.mask(place / "000000000139_instanceTrainIds.png", layouts.rows(0, 80), coloured=False)
    stuff = open_dataset("coco-stuff", tmp_path).samples[0].read_mask()
    np.testing.assert_array_equal(stuff, layouts.rows(0, 170, 255))
    things = open_dataset("coco-object", tmp_path).samples[0].read_mask()
    np.testing.assert_array_equal(things, layouts.rows(0, 80))
    with pytest.raises(ImageError, match=r"There is no file .*000000000139\.png"):
        open_dataset("coco-stuff27", tmp_path, "val").samples[0].read_mask()


def test_unused_raw_ids_are_refused(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    place = tmp_path / "stuffthingmaps" / "val2017" / "000000000139.png"
    layouts.mask(place, layouts.rows(0, 11, 200), coloured=False)
    with pytest.raises(
        ImageError, match=r"invalid values 11, 200 in 32 pixels\. Valid are 0 to 10, 12 to 24, 26"
    ):
        open_dataset("coco-stuff", tmp_path).samples[0].read_mask()


def test_curated_split_has_tags_of_the_171_classes(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    dataset = open_dataset("coco-stuff27", tmp_path)
    assert len(dataset.samples) == 4172
    words = dataset.tag_classes
    # The first image has the raw ids 0 61 63 66 71 77 81 83 84 85 97 ...
    assert [words[tag] for tag in dataset.samples[0].tags[:8]] == [
        "person",
        "chair",
        "pottedplant",
        "diningtable",
        "tv",
        "microwave",
        "refrigerator",
        "book",
    ]
    assert np.mean([len(sample.tags) for sample in dataset.samples]) == pytest.approx(8.771, abs=5e-4)


def test_10k_release_counts_from_one(tmp_path: Path) -> None:
    layouts.coco_stuff10k_prepared(tmp_path)
    opened = open_dataset("coco-stuff-10k", tmp_path)
    (sample,) = opened.samples
    assert opened.name == "coco-stuff10k"
    np.testing.assert_array_equal(sample.read_mask(), layouts.rows(255, 0, 170))
