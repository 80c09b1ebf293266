"""CSV files of runs, read back cell by cell."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tagmask.exporters.export import Export
from tagmask.exporters.options import ExportOptions
from tagmask.exporters.table import write_csv
from tagmask.masks import index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import find_images

WORDS = ("background", "cat", "dog")


def read(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a, b.png", 'c"d.png', "sub/é.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"photo")
    return tmp_path / "photos"


def export(out: Path, photos: list[Path], result: ImageResult) -> dict[str, dict[str, str]]:
    identity = RunIdentity("mask", {"words": ["cat", "dog"]})
    with RunFolder.open(out, identity, Classes(WORDS, 255), network=False) as run:
        for task in run.plan(find_images(photos)):
            if "é" in task.key:
                run.fail(task, OSError("no; disk\nleft"))
                continue
            run.write_mask(task.name, index_png(np.zeros((4, 5), np.uint8)))
            run.done(task, result)
    with Run(out) as written:
        write_csv(Export(written, ExportOptions()), out / "images.csv")
    return read(out / "images.csv")


def test_every_cell(photos: Path, tmp_path: Path) -> None:
    result = ImageResult(
        width=5,
        height=4,
        tags=["cat", "dog"],
        absent=["cow"],
        shares={"background": 5, "cat": 15},
        scores={"cat": 0.25, "dog": -1.5},
        confidence=0.123456,
    )
    rows = export(tmp_path / "run", [photos], result)
    assert set(rows) == {"a, b.png", 'c"d.png', "sub/é.png"}
    assert rows["a, b.png"] == {
        "image": "a, b.png",
        "output": "a, b",
        "status": "done",
        "error": "",
        "tags": "cat; dog",
        "absent": "cow",
        "confidence": "0.1235",
        "shares": "background=0.2500; cat=0.7500",
        "scores": "cat=0.2500; dog=-1.5000",
        "review": "unseen",
        "stale": "",
    }
    failed = rows["sub/é.png"]
    assert failed["status"] == "failed"
    assert "no; disk left" in failed["error"]
    assert (failed["tags"], failed["shares"], failed["confidence"]) == ("", "", "")


def test_what_a_run_does_not_have_is_empty(photos: Path, tmp_path: Path) -> None:
    row = export(tmp_path / "run", [photos], ImageResult())["a, b.png"]
    assert all(row[name] == "" for name in ("tags", "absent", "confidence", "shares", "scores"))


def test_images_of_two_folders_are_told_apart(photos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a, b.png").write_bytes(b"photo")
    rows = export(tmp_path / "run", [photos, other], ImageResult())
    assert {"photos/a, b.png", "other/a, b.png"} < set(rows)
