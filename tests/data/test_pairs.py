"""A user's own folder."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.errors import ImageError, InputError
from tests.data import layouts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    layouts.folder(tmp_path)
    return tmp_path


def test_images_masks_and_tags_are_matched_by_name(root: Path) -> None:
    dataset = open_dataset("folder", root)
    assert dataset.classes == ("background", "cat", "dog")
    assert dataset.tag_classes == ("cat", "dog")
    assert [(sample.id, sample.tags) for sample in dataset.samples] == [("a", (1,)), ("sub/b", (0, 1))]
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), layouts.rows(0, 2, 255))


def test_list_selects_images(root: Path) -> None:
    assert [sample.id for sample in open_dataset("folder", root, "val").samples] == ["sub/b"]
    layouts.text(root / "test.txt", "a", "c")
    with pytest.raises(InputError, match=r"1 of 2 ids of .*test\.txt have no image in .*such as 'c'"):
        open_dataset("folder", root, "test")


def test_masks_or_tags_may_be_missing_but_not_both(root: Path) -> None:
    (root / "tags.txt").rename(root / "tags.old")
    dataset = open_dataset("folder", root)
    assert dataset.tag_classes == ()
    assert dataset.samples[0].tags is None
    (root / "masks").rename(root / "absent")
    with pytest.raises(InputError, match=r"No .*masks and no .*tags\.txt"):
        open_dataset("folder", root)
    (root / "tags.old").rename(root / "tags.txt")
    dataset = open_dataset("folder", root)
    assert dataset.classes == ()
    assert dataset.samples[0].read_mask is None
    assert dataset.samples[0].tags == (1,)


def test_without_background_all_classes_are_tags(root: Path) -> None:
    layouts.text(root / "classes.txt", "sky", "cat", "dog")
    assert open_dataset("folder", root).tag_classes == ("sky", "cat", "dog")


def test_classes_may_come_from_a_run_folder(root: Path) -> None:
    (root / "classes.txt").unlink()
    classes = [{"index": 1, "name": "cat"}, {"index": 0, "name": "background"}, {"index": 2, "name": "dog"}]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    assert open_dataset("folder", root).classes == ("background", "cat", "dog")
    (root / "classes.json").write_text("{}")
    with pytest.raises(InputError, match=r"classes\.json is unreadable"):
        open_dataset("folder", root)
    layouts.text(root / "classes.txt", "cat", "", "cat")
    with pytest.raises(InputError, match=r"Name each class once"):
        open_dataset("folder", root)


@pytest.mark.parametrize(("field", "ignore"), [("ignore_index", 255), ("nothing", 200), ("none", 255)])
def test_the_value_of_no_class_may_be_stated(root: Path, field: str, ignore: int) -> None:
    (root / "classes.txt").unlink()
    classes = [
        {"index": i, "name": name, "colour": [0, 0, i]} for i, name in enumerate(("sky", "cat", "dog"))
    ]
    (root / "classes.json").write_text(json.dumps({field: ignore, "classes": classes}))
    layouts.mask(root / "masks" / "a.png", layouts.rows(0, 2, ignore))
    dataset = open_dataset("folder", root)
    assert dataset.ignore == ignore
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), layouts.rows(0, 2, ignore))


@pytest.mark.parametrize(
    ("ignore", "indices", "said"),
    [
        (2, (0, 1, 2), "2 cannot be the value of pixels without a class"),
        (65536, (0, 1, 2), "65536 cannot be"),
        ("no", (0, 1, 2), "invalid literal"),
        (255, (0, 1, 3), "does not name each index from 0 once"),
        (255, (0, 1, 1), "does not name each index from 0 once"),
    ],
)
def test_a_wrong_classes_file_is_refused(root: Path, ignore: object, indices: tuple, said: str) -> None:
    (root / "classes.txt").unlink()
    classes = [{"index": index, "name": f"word {n}"} for n, index in enumerate(indices)]
    (root / "classes.json").write_text(json.dumps({"ignore_index": ignore, "classes": classes}))
    with pytest.raises(InputError, match=said):
        open_dataset("folder", root)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"classes": [{"index": 1e999, "name": "a"}]}', "no finite number"),
        ('{"classes": [{"index": NaN, "name": "a"}]}', "no finite number"),
        ('{"classes": 3}', "is unreadable"),
        ('{"classes": [3]}', "is unreadable"),
        ('{"classes": []}', "is empty"),
        ("[]", "is unreadable"),
        ('{"classes": [{"index": ' + "9" * 5000 + ', "name": "a"}]}', "is unreadable"),
    ],
)
def test_a_hostile_classes_file_is_one_error(root: Path, content: str, said: str) -> None:
    (root / "classes.txt").unlink()
    (root / "classes.json").write_text(content)
    with pytest.raises(InputError, match=rf"classes\.(json|txt).*{said}"):
        open_dataset("folder", root)


def test_more_classes_than_masks_have_values_are_refused(root: Path) -> None:
    layouts.text(root / "classes.txt", *(f"class {i}" for i in range(65536)))
    with pytest.raises(InputError, match=r"names 65536 classes\. Masks have values for 65535"):
        open_dataset("folder", root)


def test_pipes_in_place_of_lists_are_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "own.txt")
    with pytest.raises(InputError, match=r"own\.txt cannot be read: it is a pipe"):
        open_dataset("folder", root, "own")
    (root / "classes.txt").unlink()
    os.mkfifo(root / "classes.json")
    with pytest.raises(InputError, match=r"classes\.json cannot be read: it is a pipe"):
        open_dataset("folder", root)


def test_a_list_cannot_name_images_outside_of_its_folder(root: Path) -> None:
    layouts.photo(root / "outside.png")
    layouts.text(root / "own.txt", "../outside")
    with pytest.raises(InputError, match=r"own\.txt has '\.\./outside'"):
        open_dataset("folder", root, "own")


def test_images_of_one_name_in_two_folders_need_whole_names(root: Path) -> None:
    layouts.photo(root / "images" / "a" / "b.jpg")
    layouts.text(root / "tags.txt", "a 1", "b 0 1")
    with pytest.raises(InputError, match=r"has a line for 'b', which may mean .*a/b\.jpg or .*sub/b\.jpg"):
        open_dataset("folder", root)
    layouts.text(root / "tags.txt", "a 1", "sub/b 0 1")
    tags = {sample.id: sample.tags for sample in open_dataset("folder", root).samples}
    assert tags == {"a": (1,), "a/b": None, "sub/b": (0, 1)}
    layouts.text(root / "tags.txt", "a 1", "b 0 1")
    (root / "images" / "a" / "b.jpg").unlink()
    assert {s.id: s.tags for s in open_dataset("folder", root).samples} == {"a": (1,), "sub/b": (0, 1)}


def test_more_than_256_classes(root: Path) -> None:
    from tagmask.files import write_bytes
    from tagmask.masks import index_png

    layouts.text(root / "classes.txt", *(f"class {i}" for i in range(300)))
    labels = np.resize(np.array([299, 255, 65535], np.uint16), layouts.SIZE)
    write_bytes(root / "masks" / "a.png", index_png(labels))
    dataset = open_dataset("folder", root)
    assert dataset.ignore == 65535
    read = dataset.samples[0].read_mask()
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, labels)
    write_bytes(root / "masks" / "a.png", index_png(labels + np.uint16(1)))
    with pytest.raises(ImageError, match=r"invalid values 300 in 16 pixels\. Valid are 0 to 299, 65535"):
        dataset.samples[0].read_mask()


def test_images_with_the_same_name_are_refused(root: Path) -> None:
    layouts.photo(root / "images" / "a.jpg")
    with pytest.raises(InputError, match=r"a\.png and .*a\.jpg have the same name"):
        open_dataset("folder", root)
