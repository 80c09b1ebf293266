"""COCO's instances: ids with gaps, polygons, run lengths in column order, overlaps."""

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.regions import Annotation, draw_classes, run_lengths
from tagmask.data.sample import Sample
from tagmask.errors import ImageError, InputError, TagmaskError
from tests.data import layouts

SIZE = layouts.SIZE


def drawn(*annotations: tuple[int, float, object], size: tuple[int, int] = SIZE) -> np.ndarray:
    return draw_classes("a.jpg", size, [Annotation(*annotation) for annotation in annotations])


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
        (
            '{"images": [], "annotations": [{}], "categories": []}',
            "is not a COCO instances file: image_id of annotation 1 of the list is absent",
        ),
        ('{"images": [], "annotations": [ ], "categories": []}', "has 0 categories, COCO has 80"),
    ],
)
def test_invalid_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    layouts.coco(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(InputError, match=rf"instances_val2017\.json {message}"):
        open_dataset("coco2017", tmp_path)


# -- Annotations from anywhere -------------------------------------------------------------------------------


def opened(
    tmp_path: Path, change: Callable[[dict], object], text: Callable[[str], str] = str
) -> Sequence[Sample]:
    """The samples of a changed instances file."""
    layouts.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    whole = json.loads(path.read_text())
    for number, annotation in enumerate(whole["annotations"], start=501):
        annotation["id"] = number
    change(whole)
    path.write_text(text(json.dumps(whole)))
    return open_dataset("coco2017", tmp_path).samples


def set_in(part: str, **fields: object) -> Callable[[dict], None]:
    return lambda whole: whole[part][1].update(fields)


def without(part: str, field: str) -> Callable[[dict], object]:
    return lambda whole: whole[part][1].pop(field)


LOOP = [0, 0, 8, 0, 8, 3]
POLYGONS: dict[str, tuple[object, str]] = {
    "far away": ([[0, 0, 5e8, 0, 5e8, 5]], "lies far outside"),
    "negative": ([[-9e9, 0, 8, 0, 8, 3]], "lies far outside"),
    "an integer of 400 digits": ([[10**400, 0, 8, 0, 8, 3]], "lies far outside"),
    "infinite": ([[float("inf"), 0, 8, 0, 8, 3]], "lies far outside"),
    "odd": ([[*LOOP, 3]], "has 7 coordinates"),
    "text": ([[*LOOP, "3", "4"]], "not a list of numbers"),
    "true": ([[*LOOP, True, False]], "not a list of numbers"),
    "nested": ([[LOOP, LOOP]], "not a list of numbers"),
    "objects": ([{"x": 1}], "not a list of numbers"),
    "flat": (LOOP, "not a list of numbers"),
    "null": (None, "neither polygons nor run lengths"),
    "a number": (7, "neither polygons nor run lengths"),
    "too long": ([[0, 0, 16, 0] * 80_000], "outline is too long"),
}
RUNS: dict[str, tuple[object, str]] = {
    "no counts": ({"size": [6, 8]}, "neither text nor whole numbers"),
    "no size": ({"counts": [48]}, "for size None"),
    "a size as text": ({"size": "68", "counts": [48]}, "for size 68"),
    "negative": ({"size": [6, 8], "counts": [-2, 50]}, "neither text nor whole numbers"),
    "floats": ({"size": [6, 8], "counts": [24.0, 24.0]}, "neither text nor whole numbers"),
    "huge": ({"size": [6, 8], "counts": [2**70, 48]}, "neither text nor whole numbers"),
    "too many": ({"size": [6, 8], "counts": [48, 48]}, "cover 96 of 48"),
    "nested": ({"size": [6, 8], "counts": [[48]]}, "neither text nor whole numbers"),
    "text of other characters": ({"size": [6, 8], "counts": "\u00e9"}, "are damaged"),
    "text without end": ({"size": [6, 8], "counts": "o" * 100}, "are damaged"),
    "text that is cut off": ({"size": [6, 8], "counts": "`1o"}, "are cut off"),
    "text of negative counts": ({"size": [6, 8], "counts": "O"}, "is negative"),
    "long text": ({"size": [6, 8], "counts": "0" * 1_000_000}, "more run lengths than pixels"),
}


@pytest.mark.parametrize(("region", "message"), [*POLYGONS.values(), *RUNS.values()], ids=[*POLYGONS, *RUNS])
def test_regions_are_checked_before_pycocotools_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: object, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)  # whoever asks for it fails otherwise
    infinite = isinstance(region, list) and region == POLYGONS["infinite"][0]
    samples = opened(
        tmp_path,
        set_in("annotations", segmentation="1e999" if infinite else region, area=1, image_id=285),
        lambda text: text.replace('"1e999"', "[[1e999, 0, 8, 0, 8, 3]]"),
    )
    with pytest.raises(
        ImageError, match=rf"instances_val2017\.json.*annotation 502\) is invalid: .*{message}"
    ):
        samples[1].read_mask()


def test_coordinates_a_little_outside_are_drawn() -> None:
    np.testing.assert_array_equal(drawn((0, 1, [[-4, -2, 12, -2, 12, 9, -4, 9]])), np.ones(SIZE))


@pytest.mark.parametrize("area", ["4", None, True, -1, [], 10**400])
def test_an_area_is_a_number(tmp_path: Path, area: object) -> None:
    (_, sample, _) = opened(tmp_path, set_in("annotations", area=area, image_id=285))
    if area == 10**400:
        assert sample.read_mask().any()
        return
    with pytest.raises(ImageError, match=r"annotation 502\) is invalid: its area is not a number"):
        sample.read_mask()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("images", id="285"), "id of image 2 of the list is '285', not a whole number"),
        (set_in("images", id=285.0), "id of image 2 of the list is 285.0"),
        (set_in("images", id=True), "id of image 2 of the list is True"),
        (set_in("images", id=2**63), "id of image 2 of the list is 9223372036854775808"),
        (set_in("images", id=139), "2 entries have the image id 139"),
        (without("images", "id"), "id of image 2 of the list is absent"),
        (
            set_in("images", file_name="../a.jpg"),
            r"file_name of image 285 is '\.\./a\.jpg', not a path below",
        ),
        (set_in("images", file_name="/etc/a.jpg"), "file_name of image 285"),
        (set_in("images", file_name="a/../../a.jpg"), "file_name of image 285"),
        (set_in("images", file_name=""), "file_name of image 285"),
        (set_in("images", file_name="a\0.jpg"), "file_name of image 285"),
        (set_in("images", file_name="\ud800.jpg"), "file_name of image 285"),
        (set_in("images", file_name=["a.jpg"]), "file_name of image 285 is a list"),
        (set_in("images", file_name="000000000139.png"), "the images 139 and 285 have the same name"),
        (without("images", "file_name"), "file_name of image 285 is absent"),
        (
            set_in("images", height=0),
            r"the size of image 285 is 0 x 8 \(height x width\), which no image has",
        ),
        (set_in("images", width=-8), "size of image 285"),
        (set_in("images", height=6.0), "size of image 285"),
        (set_in("images", height=10**9, width=10**9), "size of image 285"),
        (without("images", "width"), "size of image 285 is 6 x absent"),
        (set_in("annotations", image_id="139"), "image_id of annotation 502 is '139', not a whole number"),
        (set_in("annotations", category_id=12), "annotation 502 has the unknown category_id 12"),
        (set_in("annotations", category_id=1.0), "category_id of annotation 502 is 1.0"),
        (set_in("annotations", id="502"), "id of annotation 2 of the list is '502'"),
        (set_in("annotations", id=501), "2 entries have the annotation id 501"),
        (without("annotations", "category_id"), "category_id of annotation 502 is absent"),
        (set_in("categories", id="2"), "id of category 2 of the list is '2'"),
        (set_in("categories", id=1), "2 entries have the category id 1"),
        (lambda whole: whole.update(images={}), "it has no list images"),
        (lambda whole: whole.update(images=[[]]), "image 1 of the list is not an object"),
        (lambda whole: whole.update(annotations=[[]]), "annotation 1 of the list is not an object"),
        (lambda whole: whole.update(annotations=None), "annotation 1 of the list is not an object"),
        (lambda whole: whole.pop("categories"), "it has no list categories"),
    ],
)
def test_each_damaged_entry_is_one_error_that_names_it(
    tmp_path: Path, change: Callable[[dict], object], message: str
) -> None:
    with pytest.raises(
        InputError, match=rf"instances_val2017\.json is not a COCO instances file: .*{message}"
    ):
        opened(tmp_path, change)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"images": [', '"images": [NaN, '),
        ('"images": [', '"images": [Infinity, '),
        ('"images": [', '"images": ' + "[" * 100_000),
        ('"images": [', '"info": ' + "9" * 5_000 + ', "images": ['),
    ],
)
def test_what_is_no_json_is_one_error(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(InputError, match=r"instances_val2017\.json is not valid JSON"):
        opened(tmp_path, lambda whole: None, lambda text: text.replace(old, new))


def test_a_pipe_in_place_of_the_file_is_refused_at_once(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"is unreadable .*pipe"):
        open_dataset("coco2017", tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_any_damage_is_one_error_or_masks(tmp_path: Path, seed: int) -> None:
    layouts.coco(tmp_path)
    path = tmp_path / "annotations" / "instances_val2017.json"
    good = path.read_bytes()
    good = good[: good.index(b'"categories"') - 2] + b"}"  # they are most of the file
    categories = path.read_bytes()[len(good) - 1 :]
    rng = np.random.default_rng(seed)
    signs = list(b'0159-.eE[]{},:" abN\\/')
    for _ in range(100):
        data = bytearray(good[:-1])
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
            data[at] = rng.choice(signs)
        path.write_bytes(bytes(data) + categories)
        said = ""
        try:
            for sample in open_dataset("coco2017", tmp_path).samples:
                assert sample.read_mask().dtype == np.uint8
        except TagmaskError as error:
            said = str(error)
        assert not said or "instances_val2017.json" in said


def test_images_in_folders_keep_their_folders_as_names(tmp_path: Path) -> None:
    samples = opened(tmp_path, set_in("images", file_name="b/000000000139.jpg"))
    assert [sample.id for sample in samples] == ["000000000139", "b/000000000139", "000000000632"]


def test_many_regions_cost_no_more_than_their_pixels() -> None:
    size = (2000, 2000)
    thin = [[0, 0, 2000, 0, 2000, 1]]
    with pytest.raises(ImageError, match="outline is too long"):
        drawn(*[(0, 1, thin)] * 3000, size=size)
    runs = {"size": list(size), "counts": [0, size[0] * size[1]]}
    with pytest.raises(ImageError, match="cover the image more than 100 times"):
        drawn(*[(0, 1, runs)] * 3000, size=size)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools's own
@pytest.mark.parametrize("seed", range(40))
def test_regions_are_painted_as_pycocotools_paints_them(seed: int) -> None:
    from pycocotools import mask as library

    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 70)), int(rng.integers(1, 90)))
    polygons = [
        (rng.normal(0.5, 0.4, int(rng.integers(3, 9)) * 2) * max(size))
        .clip(-max(size), 2 * max(size))
        .tolist()
        for _ in range(int(rng.integers(1, 4)))
    ]
    expected = library.decode(library.merge(library.frPyObjects(polygons, *size)))
    np.testing.assert_array_equal(drawn((0, 1, polygons), size=size), expected)
