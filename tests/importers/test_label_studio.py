"""Label Studio's exports: tasks as its server writes them, its COCO and PNG as its converter does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.runs.reader import Run
from tests.importers.brush import encoded, encoded_values
from tests.importers.conftest import Imported
from tests.importers.made import packed, png

SIZE = (6, 5)


def brush(label: str, mask: np.ndarray, **more: Any) -> dict[str, Any]:
    value = {"format": "rle", "rle": encoded(mask), "brushlabels": [label]}
    height, width = mask.shape
    return {"type": "brushlabels", "value": value, "original_width": width, "original_height": height} | more


def task(
    *results: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-b.jpg", **more: Any
) -> dict[str, Any]:
    annotation = {"id": 1, "result": list(results), "was_cancelled": False}
    return {"id": 12, "data": {"image": image}, "annotations": [annotation], "predictions": []} | more


def area(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[rows, columns] = True
    return mask


def test_several_results_of_a_class_and_an_erased_region(imported: Imported) -> None:
    with_hole = area(slice(0, 4), slice(0, 4)) & ~area(slice(1, 3), slice(1, 3))
    more, erased = area(slice(5, 6), slice(0, 5)), np.zeros(SIZE, bool)
    choices = {"type": "choices", "value": {"choices": ["cat"]}, "from_name": "tags"}
    found = imported(
        "label-studio", [task(brush("cat", with_hole), choices, brush("cat", more), brush("dog", erased))]
    )
    np.testing.assert_array_equal(found["sub/b.jpg"], (with_hole | more).astype(np.uint8))


def test_strokes_of_the_browser(imported: Imported) -> None:
    """Values of each channel one by one; only the opacity counts."""
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[1:3, 2:5] = (255, 77, 0, 255)
    rgba[4, 0] = (255, 77, 0, 0)
    result = brush("hot dog", np.zeros(SIZE, bool))
    result["value"]["rle"] = encoded_values(rgba)
    found = imported("label-studio", [task(result)])["sub/b.jpg"]
    np.testing.assert_array_equal(found, 3 * area(slice(1, 3), slice(2, 5)))


def test_polygons_and_rectangles(imported: Imported) -> None:
    size = {"original_width": 5, "original_height": 6}
    polygon = {"points": [[0, 0], [40, 0], [40, 50], [0, 50]], "closed": True, "polygonlabels": ["cat"]}
    rectangle = {"x": 60, "y": 50, "width": 40, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]}
    found = imported(
        "label-studio",
        [
            task(
                {"type": "polygonlabels", "value": polygon, **size},
                {"type": "rectanglelabels", "value": rectangle, **size},
            )
        ],
    )["sub/b.jpg"]
    expected = area(slice(0, 3), slice(0, 2)) + 2 * area(slice(3, 6), slice(3, 5))
    np.testing.assert_array_equal(found, expected)


def test_the_newest_annotation_counts_and_cancelled_ones_do_not(run: Run, imported: Imported) -> None:
    whole = [brush(word, np.ones(SIZE, bool)) for word in ("cat", "dog", "hot dog")]
    first = {"id": 1, "result": whole[:1], "updated_at": "2026-11-02T00:00:00Z", "was_cancelled": False}
    second = {"id": 2, "result": whole[1:2], "updated_at": "2026-11-03T00:00:00Z", "was_cancelled": False}
    third = {"id": 3, "result": whole[2:], "updated_at": "2026-11-04T00:00:00Z", "was_cancelled": True}
    found = imported("label-studio", [task(annotations=[second, third, first])])
    assert (found["sub/b.jpg"] == 2).all()
    assert imported("label-studio", [task(annotations=[second, third])], replace=True)
    with pytest.raises(InputError, match="holds no image that a person annotated"):
        imported("label-studio", [task(annotations=[]), task(annotations=[third])])


@pytest.mark.parametrize(
    "image",
    [
        "/data/upload/7/0a1b2c3d-b.jpg",
        "/data/local-files/?d=datasets/sub/b.jpg",
        "https://example.com/photos/sub/b.jpg?key=1",
        "s3://bucket/b.jpg",
    ],
)
def test_addresses_of_an_image(imported: Imported, image: str) -> None:
    assert list(imported("label-studio", [task(brush("cat", np.ones(SIZE, bool)), image=image)])) == [
        "sub/b.jpg"
    ]


def test_an_address_below_no_known_folder_may_mean_several(run: Run, imported: Imported) -> None:
    result = brush("cat", np.ones((3, 4), bool))
    with pytest.raises(InputError, match=r"may be any of a\.png, sub/a\.png"):
        imported("label-studio", [task(result, image="/data/upload/1/0a1b2c3d-a.png")])
    source = next(row.source for row in run if row.key.endswith("photos/a.png"))
    found = imported("label-studio", [task(result, image=f"/data/local-files/?d={str(source)[1:]}")])
    assert list(found) == ["a.png"]
    named = task(result)
    named["data"] = {"image": "https://example.com/a.png", "file_name": "sub/a.png"}
    assert list(imported("label-studio", [named], replace=True)) == ["a.png", "sub/a.png"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (["x"], "entry 1 of .* is 'x', not an object"),
        ([{"id": 1}], "the data of entry 1 of .* is None, not an object"),
        ([{"id": 1, "data": {"image": "b.jpg"}}], "has no annotations. Export the project"),
        ([{"data": {"a": "1", "b": "2"}, "annotations": [{"result": []}]}], "does not say which image it is"),
        ([task({"type": "brushlabels", "value": {"rle": [], "brushlabels": []}})], "a region has the labels"),
        ([task(brush("cow", np.ones(SIZE, bool)))], "the class 'cow' is no word of the run"),
        (
            [task(brush("cat", np.ones((5, 6), bool)))],
            r"its image is \(5, 6\) \(h, w\), expected is \(6, 5\)",
        ),
        ([task(brush("cat", np.ones(SIZE, bool), image_rotation=90))], "was turned in Label Studio"),
        ([task({"type": "ellipselabels", "value": {}})], "ellipselabels cannot be imported"),
        ([task(5)], "result 1 of task 12 of .*: it is 5, not an object"),  # type: ignore[arg-type]
        ("[[", "is not valid JSON"),
        ("[" * 200_000, "nested too deeply"),
        ("[1e999]", "is not valid JSON|1e999"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_said(run: Run, imported: Imported, content: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        imported("label-studio", content)
    assert not (run.path / "corrected").exists()


@pytest.mark.parametrize(
    "rle", [[1, 2], [256] * 30, [-1] * 30, ["1"] * 30, [1.0] * 30, encoded(np.ones((9, 9)) > 0)]
)
def test_brush_masks_that_do_not_add_up(imported: Imported, rle: list[object]) -> None:
    result = brush("cat", np.ones(SIZE, bool))
    result["value"]["rle"] = rle
    with pytest.raises(InputError, match=r"cannot be decoded|not a list of bytes"):
        imported("label-studio", [task(result)])


def test_its_coco_export_of_brush_masks(imported: Imported) -> None:
    """The converter writes outer outlines from pixel to pixel, as OpenCV finds them."""
    outline = [1, 1, 1, 4, 3, 4, 3, 1]  # of rows 1 to 4, columns 1 to 3
    content = {
        "images": [
            {
                "id": 0,
                "file_name": "0a1b2c3d-b.jpg",
                "path": "/data/upload/1/0a1b2c3d-b.jpg",
                "width": 5,
                "height": 6,
            }
        ],
        "annotations": [
            {"id": 0, "image_id": 0, "category_id": 1, "segmentation": [outline], "area": 6, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "dog", "supercategory": "", "color": "#123456", "metadata": {}}],
        "info": {"contributor": "Label Studio Converter"},
    }
    found = imported("label-studio", content)["sub/b.jpg"]
    np.testing.assert_array_equal(found, 2 * area(slice(1, 5), slice(1, 4)))


def test_its_coco_export_without_brush_masks_is_refused(run: Run, imported: Imported) -> None:
    images = [{"id": 0, "file_name": "images/0a1b2c3d-b.jpg", "width": 5, "height": 6}]
    content = {"images": images, "annotations": [], "categories": [], "info": {"contributor": "Label Studio"}}
    with pytest.raises(InputError, match="without brush masks"):
        imported("label-studio", content)
    assert {row.review for row in run} == {"unseen"}


def test_its_png_export_needs_the_names_of_the_tasks(imported: Imported, tmp_path: Path) -> None:
    part = {row: np.zeros(SIZE, np.uint8) for row in "abc"}
    part["a"][:2] = 255
    part["b"][2:4] = 128
    part["c"][:] = 255
    files = {
        "task-12-annotation-5-by-1-mask-cat-0.png": png(part["a"]),
        "task-12-annotation-5-by-1-mask-hot dog-0.png": png(part["b"]),
        "task-12-annotation-4-by-1-mask-dog-0.png": png(part["c"]),  # an older annotation
    }
    archive = packed(tmp_path / "brush.zip", dict(files))
    with pytest.raises(InputError, match=r"names tasks, not images.*--tasks"):
        imported("label-studio", archive)
    tasks = tmp_path / "tasks.json"
    tasks.write_text('[{"id": 12, "data": {"image": "/data/upload/1/0a1b2c3d-b.jpg"}}]')
    found = imported("label-studio", archive, tasks=tasks)["sub/b.jpg"]
    assert found[:, 0].tolist() == [1, 1, 3, 3, 0, 0]
    tasks.write_text('[{"id": 13, "data": {"image": "/data/upload/1/0a1b2c3d-b.jpg"}}]')
    with pytest.raises(InputError, match="does not list task 12"):
        imported("label-studio", archive, tasks=tasks)
