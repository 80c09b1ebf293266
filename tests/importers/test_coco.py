"""COCO annotations of other tools."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tagmask.errors import InputError
from tagmask.runs.reader import Run
from tests.importers.conftest import Imported
from tests.importers.made import coco, packed

POLYGONS = [[0.4, 0.2, 4.1, 0.7, 2.3, 4.9], [3, 4, 5, 4, 5, 6, 3, 6]]


def drawn(polygons: list[list[float]], size: tuple[int, int] = (6, 5)) -> np.ndarray:
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))).astype(bool)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_polygons_are_drawn_as_pycocotools_draws_them(imported: Imported) -> None:
    found = imported("coco", coco({"segmentation": POLYGONS}))["sub/b.jpg"]
    np.testing.assert_array_equal(found, drawn(POLYGONS).astype(np.uint8))


def test_run_lengths_of_both_kinds(imported: Imported) -> None:
    plain = {"size": [6, 5], "counts": [1, 2, 27]}
    packed_runs = coco_mask.frPyObjects({"size": [6, 5], "counts": [6, 3, 21]}, 6, 5)["counts"].decode()
    regions = ({"segmentation": plain}, {"segmentation": {"size": [6, 5], "counts": packed_runs}})
    found = imported("coco", coco(regions[0], regions[1] | {"category_id": 4}))["sub/b.jpg"]
    expected = np.zeros((6, 5), np.uint8)
    expected[1:3, 0] = 1
    expected[:3, 1] = 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_overlapping_regions_the_smaller_lies_on_top(imported: Imported, order: tuple[int, ...]) -> None:
    """Whatever areas the file claims."""
    regions = (
        {"segmentation": {"size": [6, 5], "counts": [0, 30]}, "area": 1},
        {"segmentation": {"size": [6, 5], "counts": [8, 4, 18]}, "category_id": 4, "area": 10**6},
    )
    found = imported("coco", coco(*(regions[number] for number in order)))["sub/b.jpg"]
    assert (found == 2).sum() == 4
    assert (found == 1).sum() == 26


def test_cvat_s_archive(imported: Imported, tmp_path: Path) -> None:
    content = coco({"segmentation": {"size": [6, 5], "counts": [0, 30]}, "iscrowd": 1}, info={"year": ""})
    path = packed(tmp_path / "coco.zip", {"annotations/instances_default.json": content, "notes.json": []})
    assert (imported("cvat", path)["sub/b.jpg"] == 1).all()
    with pytest.raises(InputError, match=r"another correction already"):
        imported("coco", packed(tmp_path / "2.zip", {"annotations/instances_default.json": coco()}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "is not valid JSON"),
        ("{", "is not valid JSON"),
        ('{"images": NaN}', "is not valid JSON"),
        ("[" * 200_000, "is not valid JSON|nested too deeply"),
        ('{"images": ' + "[" * 200_000, "nested too deeply"),
        ("{}", "not a file of COCO annotations: images of it is None, not a list"),
        (coco(image={"id": "1"}), "id of an image is '1', not a whole number"),
        (coco(image={"file_name": 7}), "file_name of image 1 is 7, not a text"),
        (coco({"image_id": 2}), "an annotation is of the image 2, which it does not list"),
        (coco(categories=[{"id": 3}]), "name of a category is None"),
        (coco(image={"height": 7}), r"gives its size as \(7, 5\) \(h, w\), but it is \(6, 5\)"),
        (coco({"category_id": 99}), "annotation 0: its category 99 is not in the file"),
        (coco({"segmentation": []}), "it has no segmentation; a box alone"),
        (coco({"segmentation": [[1, 2, 3]]}), "a polygon has 3 coordinates"),
        (coco({"segmentation": [[1, 2, 3, 1e300, 3, 3]]}), "lies far outside"),
        (coco({"segmentation": [[1, 2, "x", 2, 3, 3]]}), "is not a list of numbers"),
        (coco({"segmentation": {"size": [6, 5], "counts": [1, 2, 3]}}), "cover 6 of 30 pixels"),
        (coco({"segmentation": {"size": [5, 6], "counts": [30]}}), r"are for size \[5, 6\]"),
        (coco({"segmentation": {"size": [6, 5], "counts": [-1, 31]}}), "neither text nor whole numbers"),
        (coco({"segmentation": {"size": [6, 5], "counts": "~~"}}), "run lengths are damaged"),
        (coco({"segmentation": [[0, 0, 5, 0, 5, 5] * 200_000]}), "its outline is too long"),
        (coco(categories=[{"id": 3, "name": "cow"}]), None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_said_and_nothing_written(
    run: Run, imported: Imported, content: object, said: str | None
) -> None:
    if said is None:  # a class that no region has
        assert (imported("coco", content)["sub/b.jpg"] == 0).all()
        return
    with pytest.raises(InputError, match=said):
        imported("coco", content)
    assert not (run.path / "corrected").exists()
    assert {row.review for row in run} == {"unseen"}


def test_nan_in_a_polygon(run: Run, imported: Imported) -> None:
    text = '{"images": [{"id": 1, "file_name": "sub/b.jpg"}], "categories": [{"id": 3, "name": "cat"}], '
    with pytest.raises(InputError, match="it has NaN for a number"):
        imported("coco", text + '"annotations": [{"image_id": 1, "segmentation": [[NaN, 1, 2, 3, 4, 5]]}]}')
    entry = '{"image_id": 1, "category_id": 3, "segmentation": [[1e999, 1, 2, 3, 4, 5]]}'
    with pytest.raises(InputError, match="1e999 is no finite number"):
        imported("coco", f'{text}"annotations": [{entry}]}}')
    assert not (run.path / "corrected").exists()
