"""Checks of complete, incomplete, wrong and damaged folders."""

from pathlib import Path

import pytest

from tagmask.data.catalogue import DATASETS
from tagmask.data.check import check_dataset
from tests.data import layouts


def check(
    name: str, root: Path, split: str | None = None, *, read: bool = False
) -> dict[str, tuple[bool, str]]:
    return {f.what: (f.ok, f.detail) for f in check_dataset(name, root, split, read=read)}


def test_complete_folder_is_ok(tmp_path: Path) -> None:
    layouts.folder(tmp_path)
    assert check("folder", tmp_path, read=True) == {
        "list": (True, "all: 2 images"),
        "images": (True, "2 of 2 files exist"),
        "masks": (True, "2 of 2 files exist"),
        "tags": (True, "2 of 2 images have known tags"),
        "images, decoded": (True, "2 of 2 are valid"),
        "masks, decoded": (True, "2 of 2 are valid"),
    }


def test_missing_files_are_counted_with_an_example_and_the_source(tmp_path: Path) -> None:
    layouts.voc2012(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2012"
    (home / "JPEGImages" / "2007_000042.jpg").unlink()
    (home / "SegmentationClass" / "2007_000033.png").unlink()
    (home / "Annotations" / "2007_000042.xml").unlink()
    results = check("voc2012", tmp_path)
    assert results == {
        "list": (False, "val: 2 of 1449 published images"),
        "images": (False, f"1 of 2 files exist; missing: {home}/JPEGImages/2007_000042.jpg"),
        "masks": (False, f"1 of 2 files exist; missing: {home}/SegmentationClass/2007_000033.png"),
        "tags": (False, "1 of 2 images have known tags; unknown: 2007_000042"),
        "source": (False, DATASETS["voc2012"].source),
    }


def test_damaged_files_are_found_by_decoding(tmp_path: Path) -> None:
    layouts.folder(tmp_path)
    image = tmp_path / "images" / "sub" / "b.jpg"
    image.write_bytes(image.read_bytes()[:200])
    layouts.mask(tmp_path / "masks" / "a.png", layouts.rows(0, 3))
    assert all(ok for ok, _ in check("folder", tmp_path).values())
    results = check("folder", tmp_path, read=True)
    ok, text = results["images, decoded"]
    assert not ok
    assert text.startswith("1 of 2 are valid; first error: ")
    assert "b.jpg" in text
    ok, text = results["masks, decoded"]
    assert not ok
    assert "a.png has invalid values 3 in 24 pixels. Valid are 0 to 2, 255" in text


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"miniature"}))
def test_empty_folder_reports_layout_and_source(name: str, tmp_path: Path) -> None:
    results = check(name, tmp_path)
    assert list(results) == ["layout", "source"]
    assert str(tmp_path) in results["layout"][1]
    assert results["source"] == (False, DATASETS[name].source)


def test_missing_annotations_of_a_list_are_counted(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    results = check("coco2017", tmp_path, "tagclip-val")
    assert results["masks"] == (False, "3 of 4952 images are annotated")
    assert results["images"][1].startswith("3 of 4952 files exist; missing: ")


def test_split_without_published_labels_needs_only_its_images(tmp_path: Path) -> None:
    layouts.voc2012(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2012"
    layouts.text(home / "ImageSets" / "Segmentation" / "test.txt", "2007_000033")
    found = check("voc2012", tmp_path, "test", read=True)
    del found["list"], found["source"]  # the published list is longer
    assert found == {
        "images": (True, "1 of 1 files exist"),
        "labels": (True, "not published: a server scores this split"),
        "images, decoded": (True, "1 of 1 are valid"),
    }
