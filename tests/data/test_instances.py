"""COCO's instances: ids with gaps, polygons, crowds down the columns, who lies in front."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.regions import draw_classes, run_lengths
from tagmask.errors import ImageError, InputError
from tests.data import layouts

SIZE = layouts.SIZE


def drawn(*annotations: tuple[int, float, object], size: tuple[int, int] = SIZE) -> np.ndarray:
    return draw_classes("a.jpg", size, annotations)


def test_tags_are_category_indices_not_ids(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    dataset = open_dataset("coco2017", tmp_path)
    categories = json.loads((tmp_path / "annotations" / "instances_val2017.json").read_text())["categories"]
    ids = [category["id"] for category in categories]
    assert ids[-1] == 90
    assert [sample.tags for sample in dataset.samples] == [(0, 79), (ids.index(67),), ()]
    assert dataset.classes == ("background", *dataset.tag_classes)


def test_masks_have_both_parts_and_small_objects_in_front(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    first, crowd, empty = open_dataset("coco2017", tmp_path).samples
    expected = np.zeros(SIZE, int)
    expected[0:3, 0:8] = 1
    expected[4:6, 6:8] = 1
    expected[0:2, 0:2] = 80
    np.testing.assert_array_equal(first.read_mask(), expected)
    expected = np.zeros(SIZE, int)
    expected[1, 2:5] = crowd.tags[0] + 1
    np.testing.assert_array_equal(crowd.read_mask(), expected)
    assert not empty.read_mask().any()


def test_run_lengths_go_down_the_columns_and_keep_holes() -> None:
    from pycocotools import mask as library

    ring = np.zeros(SIZE, bool)
    ring[1:5, 1:6] = True
    ring[2:4, 2:4] = False
    plain = {"size": list(SIZE), "counts": layouts.run_lengths(ring)}
    np.testing.assert_array_equal(drawn((3, 9.0, plain)), ring * 4)
    packed = library.encode(np.asfortranarray(ring.astype(np.uint8)))
    as_text = {"size": list(SIZE), "counts": packed["counts"].decode()}
    np.testing.assert_array_equal(drawn((3, 9.0, as_text)), ring * 4)


@pytest.mark.parametrize("seed", range(20))
def test_compressed_run_lengths_are_the_librarys(seed: int) -> None:
    from pycocotools import mask as library

    rng = np.random.default_rng(seed)
    inside = rng.random((int(rng.integers(1, 90)), int(rng.integers(1, 70)))) < rng.random() ** 3
    packed = library.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"].decode()
    counts = layouts.run_lengths(inside)
    assert run_lengths(packed) == counts
    region = {"size": list(inside.shape), "counts": packed}
    np.testing.assert_array_equal(drawn((0, 1.0, region), size=inside.shape), inside)


def test_objects_of_one_size_keep_the_files_order() -> None:
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    assert drawn((1, 16, square), (2, 16, square))[0, 0] == 3
    assert drawn((2, 16, square), (1, 16, square))[0, 0] == 2


def test_a_polygon_of_two_points_is_not_taken_for_a_box() -> None:
    assert not drawn((0, 0, [[1, 1, 4, 4]])).any()


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({"size": [3, 3], "counts": [9]}, r"run lengths are for \[3, 3\], the image is \[6, 8\]"),
        ({"size": [6, 8], "counts": [9]}, "run lengths are for 9 of 48 pixels"),
        ({"size": [6, 8]}, "counts"),
        ({"size": [6, 8], "counts": "0"}, "run lengths are for 0 of 48 pixels"),
        ([["a"] * 6], "cannot be drawn"),
        (None, "cannot be drawn"),
    ],
)
def test_a_damaged_region_is_an_error_that_names_the_image(region: object, said: str) -> None:
    with pytest.raises(ImageError, match=r"a\.jpg: a region of class 5.*" + said):
        drawn((5, 1.0, region))


def test_without_pycocotools_there_are_tags_and_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts.coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    sample = open_dataset("coco2017", tmp_path).samples[0]
    assert sample.tags == (0, 79)
    with pytest.raises(InputError, match=r"pip install 'tagmask\[coco\]'"):
        sample.read_mask()


def test_the_shipped_list_has_masks_where_the_instances_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layouts.coco(tmp_path)
    dataset = open_dataset("coco2017", tmp_path, "tagclip-val")
    assert len(dataset.samples) == 4952
    assert dataset.samples[0].tags == (0, 56, 58, 60, 62, 68, 72, 73, 74, 75)
    assert dataset.samples[0].read_mask().max() == 80
    assert dataset.samples[-1].read_mask is None
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    with caplog.at_level(logging.INFO):
        assert open_dataset("coco2017", tmp_path, "tagclip-val").classes == ()
    assert "tags only, no masks" in caplog.text


@pytest.mark.parametrize("indent", [None, 0, 3])
def test_files_may_be_written_with_any_blanks_and_letters(tmp_path: Path, indent: int | None) -> None:
    layouts.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    before = [sample.read_mask() for sample in open_dataset("coco2017", tmp_path).samples]
    whole = json.loads(path.read_text())
    whole["images"][0]["file_name"] = "größe.jpg"
    whole = {"info": {"annotations": [1]}, **whole, "licenses": []}
    path.write_text(" \n" + json.dumps(whole, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    samples = open_dataset("coco2017", tmp_path).samples
    assert samples[0].id == "größe"
    for sample, labels in zip(samples, before, strict=True):
        np.testing.assert_array_equal(sample.read_mask(), labels)


def test_a_file_that_changes_under_a_run_is_an_error_of_its_images(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    samples = open_dataset("coco2017", tmp_path).samples
    path.write_text(" " + path.read_text())
    with pytest.raises(ImageError, match=r"000000000139\.jpg: its annotations in .* cannot be read any more"):
        samples[0].read_mask()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1,", "is no JSON"),
        ("[]", "is no JSON"),
        ("", "is no JSON"),
        ('{"annotations": [', "is no JSON"),
        ('{"annotations": [{}', "is no instances file of COCO's"),
        ('{"annotations": []', "is no JSON"),
        ('{"annotations": [], ', "is no JSON"),
        ('{"annotations": 3}', "is no instances file of COCO's"),
        ('{"images": [], "annotations": [{}], "categories": []}', "is no instances file of COCO's: KeyError"),
        ('{"images": [], "annotations": [ ], "categories": []}', "has 0 categories; COCO has 80"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: str, said: str) -> None:
    layouts.coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(InputError, match=rf"instances_val2017\.json {said}"):
        open_dataset("coco2017", tmp_path)
