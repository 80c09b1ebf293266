"""What is said of folders that are whole, in part, wrong or damaged."""

from pathlib import Path

import pytest

from tagmask.data.catalogue import DATASETS
from tagmask.data.check import check_dataset
from tests.data import layouts


def said(
    name: str, root: Path, split: str | None = None, *, read: bool = False
) -> dict[str, tuple[bool, str]]:
    return {f.what: (f.fine, f.said) for f in check_dataset(name, root, split, read=read)}


def test_a_whole_folder_is_fine(tmp_path: Path) -> None:
    layouts.folder(tmp_path)
    assert said("folder", tmp_path, read=True) == {
        "list": (True, "all: 2 images"),
        "images": (True, "2 of 2 files are there"),
        "masks": (True, "2 of 2 files are there"),
        "tags": (True, "2 of 2 images have known tags"),
        "images, read": (True, "2 of 2 can be used"),
        "masks, read": (True, "2 of 2 can be used"),
    }


def test_missing_files_are_counted_with_an_example_and_where_to_get_them(tmp_path: Path) -> None:
    layouts.voc2012(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2012"
    (home / "JPEGImages" / "2007_000042.jpg").unlink()
    (home / "SegmentationClass" / "2007_000033.png").unlink()
    (home / "Annotations" / "2007_000042.xml").unlink()
    found = said("voc2012", tmp_path)
    assert found == {
        "list": (False, "val: 2 images of the 1449 that were published"),
        "images": (False, f"1 of 2 files are there; missing is {home}/JPEGImages/2007_000042.jpg"),
        "masks": (False, f"1 of 2 files are there; missing is {home}/SegmentationClass/2007_000033.png"),
        "tags": (False, "1 of 2 images have known tags; not 2007_000042"),
        "source": (False, DATASETS["voc2012"].source),
    }


def test_damaged_files_show_when_they_are_read(tmp_path: Path) -> None:
    layouts.folder(tmp_path)
    image = tmp_path / "images" / "sub" / "b.jpg"
    image.write_bytes(image.read_bytes()[:200])
    layouts.mask(tmp_path / "masks" / "a.png", layouts.rows(0, 3))
    assert all(fine for fine, _ in said("folder", tmp_path).values())
    found = said("folder", tmp_path, read=True)
    fine, text = found["images, read"]
    assert not fine
    assert text.startswith("1 of 2 can be used; the first that cannot: ")
    assert "b.jpg" in text
    fine, text = found["masks, read"]
    assert not fine
    assert "a.png holds 3 in 24 pixels; its values are 0 to 2, 255" in text


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"miniature"}))
def test_an_empty_folder_has_no_layout_but_a_source(name: str, tmp_path: Path) -> None:
    found = said(name, tmp_path)
    assert list(found) == ["layout", "source"]
    assert str(tmp_path) in found["layout"][1]
    assert found["source"] == (False, DATASETS[name].source)


def test_instances_that_lack_images_of_a_list_are_counted(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    found = said("coco2017", tmp_path, "tagclip-val")
    assert found["masks"] == (False, "3 of 4952 images are annotated")
    assert found["images"][1].startswith("3 of 4952 files are there; missing is ")
