"""COCO's instances: ids with gaps, polygons, run lengths in column order, overlaps."""

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


def test_run_lengths_are_column_order_and_keep_holes() -> None:
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
def test_compressed_run_lengths_equal_pycocotools(seed: int) -> None:
    from pycocotools import mask as library

    rng = np.random.default_rng(seed)
    inside = rng.random((int(rng.integers(1, 90)), int(rng.integers(1, 70)))) < rng.random() ** 3
    packed = library.encode(np.asfortranarray(inside.astype(np.uint8)))["counts"].decode()
    counts = layouts.run_lengths(inside)
    assert run_lengths(packed) == counts
    region = {"size": list(inside.shape), "counts": packed}
    np.testing.assert_array_equal(drawn((0, 1.0, region), size=inside.shape), inside)


def test_objects_of_equal_area_keep_the_files_order() -> None:
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    assert drawn((1, 16, square), (2, 16, square))[0, 0] == 3
    assert drawn((2, 16, square), (1, 16, square))[0, 0] == 2


def test_polygon_of_two_points_is_not_read_as_a_box() -> None:
    assert not drawn((0, 0, [[1, 1, 4, 4]])).any()


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"size": [3, 3], "counts": [9]}, r"run lengths are for size \[3, 3\], the image is \[6, 8\]"),
        ({"size": [6, 8], "counts": [9]}, "run lengths cover 9 of 48 pixels"),
        ({"size": [6, 8]}, "counts"),
        ({"size": [6, 8], "counts": "0"}, "run lengths cover 0 of 48 pixels"),
        ([["a"] * 6], "is invalid"),
        (None, "is invalid"),
    ],
)
def test_damaged_region_names_the_image(region: object, message: str) -> None:
    with pytest.raises(ImageError, match=r"a\.jpg: a region of class 5.*" + message):
        drawn((5, 1.0, region))


def test_without_pycocotools_there_are_only_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.coco(tmp_path)
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    sample = open_dataset("coco2017", tmp_path).samples[0]
    assert sample.tags == (0, 79)
    with pytest.raises(InputError, match=r"pip install 'tagmask\[coco\]'"):
        sample.read_mask()


def test_shipped_list_has_masks_only_with_instances(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
def test_files_may_have_any_whitespace_and_characters(tmp_path: Path, indent: int | None) -> None:
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


def test_changed_file_is_an_error(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    samples = open_dataset("coco2017", tmp_path).samples
    path.write_text(" " + path.read_text())
    with pytest.raises(
        ImageError,
        match=r"000000000139\.jpg: its annotations in .* have changed since the data set was opened",
    ):
        samples[0].read_mask()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1,", "is not valid JSON"),
        ("[]", "is not valid JSON"),
        ("", "is not valid JSON"),
        ('{"annotations": [', "is not valid JSON"),
        ('{"annotations": [{}', "is not a COCO instances file"),
        ('{"annotations": []', "is not valid JSON"),
        ('{"annotations": [], ', "is not valid JSON"),
        ('{"annotations": 3}', "is not a COCO instances file"),
        ('{"images": [], "annotations": [{}], "categories": []}', "is not a COCO instances file: KeyError"),
        ('{"images": [], "annotations": [ ], "categories": []}', "has 0 categories, COCO has 80"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    layouts.coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(InputError, match=rf"instances_val2017\.json {message}"):
        open_dataset("coco2017", tmp_path)
