"""What PASCAL VOC's layout refuses and changes; the contract reads the rest back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.errors import InputError
from tagmask.exporters import EXPORTERS
from tagmask.runs.reader import Run
from tests.exporters.made_runs import write_photos, write_run
from tests.exporters.readers import READERS

BLOCKS = np.kron(np.array([[0, 1], [2, 1]], np.uint8), np.ones((4, 5), np.uint8))


def exported(
    tmp_path: Path,
    labels: dict[str, np.ndarray],
    words: tuple[str, ...] = ("background", "cat", "dog"),
    to: str = "voc",
    **options: object,
) -> Path:
    run = write_run(tmp_path / "run", write_photos(tmp_path / "photos", labels), labels, words)
    with Run(run) as opened:
        return opened.export(to, tmp_path / "out", **options)


def indices(path: Path) -> np.ndarray:
    with PILImage.open(path) as opened:
        return np.array(opened)


@pytest.mark.parametrize("to", ["voc", "cvat"])
@pytest.mark.parametrize("word", ["a: b", "#1", "ignored", "two\nlines"])
def test_words_that_a_label_map_cannot_hold_are_refused(tmp_path: Path, word: str, to: str) -> None:
    with pytest.raises(InputError, match=r"labelmap\.txt.*Export to coco, or run") as caught:
        exported(tmp_path, {"a.png": BLOCKS}, ("background", "cat", word), to)
    assert repr(word) in str(caught.value)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("name", ["#1.png", "two\nlines.png", " a.png"])
def test_names_that_a_list_cannot_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot stand in a list of names"):
        exported(tmp_path, {name: BLOCKS})
    assert not list((tmp_path / "out").glob("*"))


def test_splits_that_readers_skip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"skip the split 'my_train'"):
        exported(tmp_path, {"a.png": BLOCKS}, splits={"my_train": 1.0})


def test_values_of_classes_objects_and_ignored_pixels(tmp_path: Path) -> None:
    labels = BLOCKS.copy()
    labels[0, 0] = 255
    out = exported(tmp_path, {"a.png": labels}, regions="component")
    np.testing.assert_array_equal(indices(out / "SegmentationClass/a.png"), labels)
    np.testing.assert_array_equal(indices(out / "SegmentationObject/a.png"), labels)
    assert (out / "labelmap.txt").read_text().splitlines()[1:] == [
        "background:0,0,0::", "cat:128,0,0::", "dog:0,128,0::", "ignored:224,224,192::",
    ]  # fmt: skip


def test_without_ignored_pixels_there_is_no_class_for_them(tmp_path: Path) -> None:
    out = exported(tmp_path, {"a.png": BLOCKS})
    assert "ignored" not in (out / "labelmap.txt").read_text()


def test_the_background_has_value_0_even_if_the_run_has_none(tmp_path: Path) -> None:
    out = exported(tmp_path, {"a.png": BLOCKS}, ("sky", "cat", "dog"))
    np.testing.assert_array_equal(indices(out / "SegmentationClass/a.png"), BLOCKS + 1)
    assert set(READERS["voc"](out)["a.png"]) == {"sky", "cat", "dog"}


def test_a_class_named_background_after_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'background' is a class of this run"):
        exported(tmp_path, {"a.png": BLOCKS}, ("sky", "background", "dog"))


def test_small_regions_are_no_objects_but_stay_in_the_classes(tmp_path: Path) -> None:
    labels = BLOCKS.copy()
    labels[0, 0] = 2
    out = exported(tmp_path, {"a.png": labels}, regions="component", min_area=2)
    np.testing.assert_array_equal(indices(out / "SegmentationClass/a.png"), labels)
    np.testing.assert_array_equal(indices(out / "SegmentationObject/a.png"), BLOCKS)


def test_of_too_many_objects_the_smallest_share_a_value(tmp_path: Path) -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[::2, ::2] = 1  # 900 dots
    labels[::2, 30::2] = 2
    labels[:3, :3] = 1
    labels[10:13, 50:53] = 2
    out = exported(tmp_path, {"a.png": labels}, regions="component")
    objects = indices(out / "SegmentationObject/a.png")
    assert READERS["voc"](out)["a.png"].keys() == {"cat", "dog"}
    numbers, areas = np.unique(objects[objects > 0], return_counts=True)
    assert numbers.tolist() == list(range(1, 255))
    assert (objects[:3, :3] == objects[0, 0]).all()
    assert (objects == objects[0, 0]).sum() == 9  # the large ones have values of their own
    assert (objects == objects[10, 50]).sum() == 9
    assert np.sort(areas)[-2:].sum() > 600  # one for the dots of each class


def test_a_photo_of_another_format_gets_an_ending_that_is_read(tmp_path: Path) -> None:
    names = {"a.jfif": ".jpg", "b.gif": ".png", "c.JPG": ".JPG", "d.bmp": ".bmp"}
    photos = tmp_path / "photos"
    for name in names:
        write_photos(photos, {name: BLOCKS})
    run = write_run(tmp_path / "run", photos, dict.fromkeys(names, BLOCKS), ("background", "cat", "dog"))
    with Run(run) as opened:
        out = opened.export("voc", tmp_path / "out")
    for name, ending in names.items():
        copy = out / "JPEGImages" / f"{name[0]}{ending}"
        with PILImage.open(copy) as now, PILImage.open(photos / name) as before:
            assert copy.suffix.lower() in PILImage.registered_extensions()
            assert now.format == ("PNG" if ending == ".png" else before.format)
            np.testing.assert_array_equal(np.array(now.convert("RGB")), np.array(before.convert("RGB")))


def test_cvat_takes_photos_but_no_links(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold links"):
        exported(tmp_path, {"a.png": BLOCKS}, to="cvat", photos="link")
    with Run(tmp_path / "run") as opened:
        out = opened.export("cvat", tmp_path / "out", photos="copy")
    assert out.name == EXPORTERS["cvat"].file_name
    assert set(READERS["cvat"](out)) == {"a.png"}


def test_cvat_has_no_ignored_pixels(tmp_path: Path) -> None:
    labels = BLOCKS.copy()
    labels[6:, 6:] = 255
    read = READERS["cvat"](exported(tmp_path, {"a.png": labels}, to="cvat"))["a"]
    np.testing.assert_array_equal(read["cat"], labels == 1)
    assert set(read) == {"cat", "dog"}
