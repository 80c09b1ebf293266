"""The contract of every format that goes both ways: what a person changed in exported files is in the run.

The files are changed without the code that reads and writes them.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from pycocotools import mask as coco_mask

from tagmask.errors import InputError
from tagmask.exporters import EXPORTERS
from tagmask.importers import IMPORTERS, ImportReport
from tagmask.runs.database import RunDatabase
from tagmask.runs.reader import Run
from tests.exporters.made_runs import masks, write_photos, write_run
from tests.importers.brush import encoded

WORDS = ("background", "cat", "dog", 'the "odd" кот')
BOTH = [name for name in IMPORTERS if name in EXPORTERS]
ROWS, COLUMNS = slice(37, 40), slice(1, 7)
"""What is changed: a rectangle of dog in holes.png."""


def change_coco(target: Path) -> Path:
    content = json.loads(target.read_text(encoding="utf-8"))
    image = next(entry for entry in content["images"] if entry["file_name"] == "holes.png")
    drawn = np.zeros((image["height"], image["width"]), np.uint8, order="F")
    drawn[ROWS, COLUMNS] = 1
    runs = coco_mask.encode(drawn)
    region = {"size": runs["size"], "counts": runs["counts"].decode()}
    category = next(entry["id"] for entry in content["categories"] if entry["name"] == "dog")
    added = {"id": 9999, "image_id": image["id"], "category_id": category, "segmentation": region}
    content["annotations"].append({**added, "iscrowd": 0, "bbox": [1, 37, 6, 3], "area": 18})
    target.write_text(json.dumps(content))
    return target


def change_yolo(target: Path) -> Path:
    (file,) = target.glob("labels/*/holes.txt")
    corners = [(1.5, 37.5), (6.5, 37.5), (6.5, 39.5), (1.5, 39.5)]
    numbers = " ".join(f"{x / 60:.6f} {y / 40:.6f}" for x, y in corners)
    file.write_text(f"{file.read_text()}1 {numbers}\n")
    return target


def annotated(tasks: list[dict]) -> list[dict]:
    """Tasks as Label Studio exports them once a person has submitted the predictions."""
    stamp = "2026-11-20T10:00:00.000000Z"
    return [
        {
            "id": 40 + number,
            "annotations": [
                {
                    "id": 70 + number,
                    "completed_by": 1,
                    "result": task["predictions"][0]["result"],
                    "was_cancelled": False,
                    "ground_truth": False,
                    "created_at": stamp,
                    "updated_at": stamp,
                }
            ],
            "data": task["data"],
            "meta": {},
        }
        for number, task in enumerate(tasks)
    ]


def change_label_studio(target: Path) -> Path:
    tasks = annotated(json.loads((target / "tasks.json").read_text(encoding="utf-8")))
    task = next(task for task in tasks if task["data"]["file_name"] == "holes.png")
    drawn = np.zeros((40, 60), bool)
    drawn[ROWS, COLUMNS] = True
    task["annotations"][0]["result"].append(
        {
            "id": "new",
            "type": "brushlabels",
            "from_name": "mask",
            "to_name": "image",
            "value": {"format": "rle", "rle": encoded(drawn), "brushlabels": ["dog"]},
            "original_width": 60,
            "original_height": 40,
            "image_rotation": 0,
        }
    )
    export = target.parent / "project-1.json"
    export.write_text(json.dumps(tasks))
    return export


def change_labelme(target: Path) -> Path:
    file = target / "holes.json"
    content = json.loads(file.read_text())
    corners = [[1.3, 37.2], [6.9, 39.1]]
    content["shapes"].append({"label": "dog", "points": corners, "shape_type": "rectangle", "flags": {}})
    file.write_text(json.dumps(content))
    return target


def change_png(file: Path) -> None:
    with PILImage.open(file) as opened:
        palette, values = opened.getpalette(), np.array(opened)
    values[ROWS, COLUMNS] = 2
    changed = PILImage.fromarray(values)
    if palette:
        changed.putpalette(palette)
    changed.save(file)


def change_voc(target: Path) -> Path:
    change_png(target / "SegmentationClass" / "holes.png")
    return target


def change_folder(target: Path) -> Path:
    change_png(target / "masks" / "holes.png")
    return target


def change_cvat(target: Path) -> Path:
    unpacked = target.parent / "unpacked"
    with zipfile.ZipFile(target) as archive:
        archive.extractall(unpacked)
    change_voc(unpacked)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(unpacked.rglob("*")):
            archive.write(file, file.relative_to(unpacked).as_posix())
    return target


CHANGES: Mapping[str, Callable[[Path], Path]] = {
    "coco": change_coco,
    "yolo": change_yolo,
    "voc": change_voc,
    "cvat": change_cvat,
    "label-studio": change_label_studio,
    "labelme": change_labelme,
    "folder": change_folder,
}
"""Changes exported files; returns what to import."""


def changed_masks() -> dict[str, np.ndarray]:
    after = masks()
    after["holes.png"][ROWS, COLUMNS] = 2
    return after


def assert_masks(run: Run, expected: Mapping[str, np.ndarray]) -> None:
    """Equal, but for pixels without a class, which most tools have not."""
    for row in run:
        want = expected[row.key.partition("/")[2]]
        found = run.mask(row)
        lost = (want == 255) & (found == 0)
        np.testing.assert_array_equal(np.where(lost, 255, found), want, err_msg=row.key)


def reviews(run: Run) -> dict[str, str]:
    return {row.key.partition("/")[2]: row.review for row in run}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), masks())


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    return write_run(tmp_path_factory.mktemp("made") / "run", photos, masks(), WORDS)


@pytest.fixture
def run_folder(tmp_path: Path, made_run: Path) -> Path:
    return Path(shutil.copytree(made_run, tmp_path / "run"))


def test_every_format_is_changed_here() -> None:
    assert list(CHANGES) == list(IMPORTERS)


@pytest.mark.parametrize("name", BOTH)
class TestRoundTrip:
    def test_a_changed_region_comes_back(self, run_folder: Path, tmp_path: Path, name: str) -> None:
        with Run(run_folder) as run:
            changed = CHANGES[name](run.export(name, tmp_path / "out"))
            report = run.import_corrections(name, changed)
            assert report == ImportReport(imported=1, unchanged=5)
            assert_masks(run, changed_masks())
            states = dict.fromkeys(masks(), "accepted") | {"holes.png": "corrected"}
            assert reviews(run) == states
            assert [path.name for path in (run_folder / "corrected").iterdir()] == ["holes.png"]
            # Again: what was imported is unchanged, and stays a correction.
            assert run.import_corrections(name, changed) == ImportReport(unchanged=6)
            assert reviews(run) == states

    def test_unknown_words_are_refused_before_anything_is_written(
        self, run_folder: Path, tmp_path: Path, photos: Path, name: str
    ) -> None:
        words = ("background", "cat", "mouse", *WORDS[3:])
        other = write_run(tmp_path / "other", photos, masks(), words)
        with Run(run_folder) as exported:
            changed = CHANGES[name](exported.export(name, tmp_path / "out"))
        with Run(other) as run:
            with pytest.raises(InputError, match=r"'dog' is no word of the run\. Its words are .*mouse"):
                run.import_corrections(name, changed)
            assert set(reviews(run).values()) == {"unseen"}
            assert not (other / "corrected").exists()
            report = run.import_corrections(name, changed, names={"dog": "mouse"})
            assert report == ImportReport(imported=1, unchanged=5)

    def test_images_of_other_sizes_are_refused(self, run_folder: Path, tmp_path: Path, name: str) -> None:
        resized = masks() | {"holes.png": np.zeros((20, 30), np.uint8)}
        other = write_run(tmp_path / "other", write_photos(tmp_path / "resized", resized), resized, WORDS)
        with Run(run_folder) as exported:
            changed = CHANGES[name](exported.export(name, tmp_path / "out"))
        with Run(other) as run:
            if name == "yolo":  # whose numbers are shares of the sides, so that any size fits
                assert run.import_corrections(name, changed).imported == 1
                return
            with pytest.raises(InputError, match=r"1 image is refused, so nothing was imported.*holes"):
                run.import_corrections(name, changed)
            assert set(reviews(run).values()) == {"unseen"}
            report = run.import_corrections(name, changed, skip_refused=True)
            assert (report.imported, report.unchanged, len(report.refused)) == (0, 5, 1)
            assert reviews(run)["holes.png"] == "unseen"

    def test_300_classes_and_pixels_without_a_class(self, tmp_path: Path, name: str) -> None:
        words = ("background", *(f"word {number}" for number in range(1, 300)))
        labels = {"many.png": np.arange(300, dtype=np.uint16).repeat(4).reshape(30, 40)}
        labels["many.png"][0, :4] = 65535
        photos = write_photos(tmp_path / "photos", labels)
        with Run(write_run(tmp_path / "run", photos, labels, words)) as run:
            target = run.export(name, tmp_path / "out")
            if name == "label-studio":
                tasks = annotated(json.loads((target / "tasks.json").read_text()))
                target = tmp_path / "export.json"
                target.write_text(json.dumps(tasks))
            assert run.import_corrections(name, target) == ImportReport(unchanged=1)


def test_a_correction_that_is_there_is_replaced_on_request_alone(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        changed = CHANGES["coco"](run.export("coco", tmp_path / "out"))
        (run_folder / "corrected").mkdir()
        own = run_folder / "corrected" / "holes.png"
        own.write_bytes((run_folder / "masks" / "holes.png").read_bytes())
        before = own.read_bytes()
        with pytest.raises(InputError, match=r"another correction already.*--replace"):
            run.import_corrections("coco", changed)
        assert own.read_bytes() == before
        assert set(reviews(run).values()) == {"unseen"}
        report = run.import_corrections("coco", changed, replace=True)
        assert (report.imported, report.unchanged) == (1, 5)
        assert_masks(run, changed_masks())


def test_images_of_another_run_are_named(run_folder: Path, tmp_path: Path) -> None:
    few = {"holes.png": masks()["holes.png"], "other.png": np.zeros((5, 5), np.uint8)}
    own = write_run(tmp_path / "few", write_photos(tmp_path / "few photos", few), few, WORDS)
    with Run(run_folder) as exported:
        changed = CHANGES["coco"](exported.export("coco", tmp_path / "out"))
    with Run(own) as run:
        report = run.import_corrections("coco", changed)
        assert (report.imported, report.unchanged, len(report.absent)) == (1, 0, 5)
        assert any("empty" in name for name in report.absent)
        assert_masks(run, changed_masks() | few | {"holes.png": changed_masks()["holes.png"]})


def test_a_producer_may_be_at_work(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        changed = CHANGES["coco"](run.export("coco", tmp_path / "out"))
    producer = RunDatabase.create(run_folder / "run.db", network=False)
    try:
        with Run(run_folder) as run:
            assert run.import_corrections("coco", changed).imported == 1
        producer.set_review(1, "rejected")
    finally:
        producer.close()


def test_runs_without_background_leave_uncovered_pixels_without_a_class(tmp_path: Path) -> None:
    labels = {"a.png": np.array([[0, 0, 1], [1, 1, 1]], np.uint8)}
    photos = write_photos(tmp_path / "photos", labels)
    with Run(write_run(tmp_path / "run", photos, labels, ("cat", "dog"))) as run:
        target = run.export("coco", tmp_path / "out")
        content = json.loads(target.read_text())
        content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] == 2]
        target.write_text(json.dumps(content))
        assert run.import_corrections("coco", target).imported == 1
        np.testing.assert_array_equal(run.mask(next(iter(run))), [[255, 255, 1], [1, 1, 1]])
