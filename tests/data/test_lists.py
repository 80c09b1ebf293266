"""Image lists: the devkits', the papers', and the shipped ones."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.data.coco_stuff import STUFF
from tagmask.data.lists import read_ids, read_tags, shipped_tags
from tagmask.errors import InputError

SPEC = Path(__file__).parents[3] / "shared" / "spec" / "imagesets"
OFFICIAL_TAGS = SPEC.with_name("official_tags")


def test_ids_are_first_fields_or_stems_of_paths(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("000012  1\n\n/JPEGImages/2007_000032.jpg /Aug/2007_000032.png\r\n000017 -1\n")
    assert read_ids(path) == ("000012", "2007_000032", "000017")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a\nb\na\n", "names 'a' twice"),
        (None, "cannot be read"),
        ("a\0b", "cannot be read"),
        ("a\n../../b\n", r"has '\.\./\.\./b', which is not the name of an image below its folder"),
        ("a/../b", "has .* which is not the name"),
        ("./b", "has .* which is not the name"),
        ("b/", "has .* which is not the name"),
        ("/..", "has .* which is not the name"),
    ],
)
def test_invalid_lists_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=rf"list\.txt {message}"):
        read_ids(path)


@pytest.mark.parametrize("read", [read_ids, lambda path: read_tags(path, 3)])
def test_lists_that_are_no_files_are_refused_at_once(tmp_path: Path, read: Callable) -> None:
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(InputError, match=r"list\.txt cannot be read: it is a pipe"):
        read(tmp_path / "list.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"zero\.txt cannot be read: it is a device"):
        read(tmp_path / "zero.txt")


@pytest.mark.parametrize(
    ("name", "classes", "images", "labels_per_image"),
    [
        ("voc2007_test", 20, 4952, 1.541),
        ("voc2012_val", 20, 1449, 1.482),
        ("coco2017_val", 80, 4952, 2.955),
        ("coco-stuff_curated", 182, 4172, 8.771),
    ],
)
def test_shipped_lists_have_the_published_counts(
    name: str, classes: int, images: int, labels_per_image: float
) -> None:
    tags = shipped_tags(name, classes)
    assert len(tags) == images
    assert sum(map(len, tags.values())) / images == pytest.approx(labels_per_image, abs=5e-4)
    assert all(of == tuple(sorted(of)) for of in tags.values())


def test_difficult_objects_are_in_the_shipped_list_of_2007() -> None:
    tags = shipped_tags("voc2007_test", 20)
    images = [sum(c in of for of in tags.values()) for c in (0, 8, 14, 17)]
    assert images == [205, 545, 2097, 355]  # aeroplane, chair, person, sofa


@pytest.mark.skipif(not SPEC.is_dir(), reason="needs the published lists")
@pytest.mark.parametrize(
    ("name", "file", "classes"),
    [
        ("voc2007_test", "voc2007_test", 20),
        ("voc2012_val", "voc2012_val", 20),
        ("coco2017_val", "coco2017_val", 80),
        ("coco-stuff_curated", "cocostuff_val", 182),
    ],
)
def test_shipped_lists_are_the_published_ones(name: str, file: str, classes: int) -> None:
    lines = [line.split() for line in (SPEC / f"{file}.txt").read_text().splitlines()]
    published = [(image, tuple(sorted(map(int, fields)))) for image, *fields in lines]
    assert list(shipped_tags(name, classes).items()) == published


@pytest.mark.skipif(not OFFICIAL_TAGS.is_dir(), reason="needs the authors' tags")
@pytest.mark.parametrize(
    ("name", "file", "classes", "counts"),
    [
        ("voc2012_val", "voc2012_val", 20, (1656, 134, 491)),
        ("coco2017_val", "coco2017_val", 80, (6035, 1646, 8596)),
        ("coco-stuff_curated", "cocostuff_val", 171, (18369, 23686, 18224)),
    ],
)
def test_official_tags_against_the_shipped_lists(
    name: str, file: str, classes: int, counts: tuple[int, int, int]
) -> None:
    tags = read_tags(OFFICIAL_TAGS / f"{file}.txt", classes)
    raw = shipped_tags(name, 182 if classes == 171 else classes)
    true = {image: {STUFF[c] if classes == 171 else c for c in of} for image, of in raw.items()}
    assert list(tags) == list(true)
    correct = sum(len(true[image].intersection(of)) for image, of in tags.items())
    predicted, positive = sum(map(len, tags.values())), sum(map(len, true.values()))
    assert (correct, predicted - correct, positive - correct) == counts
