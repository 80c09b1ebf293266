"""`tagmask merge` and `tagmask export` on runs of `mask` and `tag`."""

import csv
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from tests.cli.conftest import Command

WORDS = ("-w", "cat", "-w", "dog", "-b", "wall")


@pytest.fixture
def run(few_photos: Path, tmp_path: Path, command: Command) -> Path:
    command("mask", few_photos, *WORDS, "-o", tmp_path / "run", "--no-overlay")
    return tmp_path / "run"


def test_export_writes_into_the_run_and_again(run: Path, command: Command) -> None:
    for _ in range(2):
        result = command("export", run, "--to", "coco,csv")
        assert result.stdout.splitlines() == [str(run / "annotations.json"), str(run / "images.csv")]
    with (run / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == ["a.png", "b.png", "sub/a.png"]
    assert {row["status"] for row in rows} == {"done"}
    assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
    coco = COCO(str(run / "annotations.json"))
    assert len(coco.getImgIds()) == 3


def test_export_to_another_folder_never_replaces_a_file(run: Path, tmp_path: Path, command: Command) -> None:
    other = tmp_path / "other"
    command("export", run, "--to", "csv", "-o", other)
    before = (other / "images.csv").read_bytes()
    refused = command("export", run, "--to", "csv", "-o", other, code=2)
    assert "is in the way" in refused.stderr
    assert (other / "images.csv").read_bytes() == before


@pytest.mark.parametrize(("to", "name"), [("csv", "images.csv"), ("coco", "annotations.json")])
def test_export_refuses_a_foreign_file_in_the_run(to: str, name: str, run: Path, command: Command) -> None:
    (run / name).write_text("mine")
    refused = command("export", run, "--to", to, code=2)
    assert "is never overwritten" in refused.stderr
    assert (run / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "yollo"), "yolo"),
        ((), "give --to FORMATS"),
        (("out.onnx",), "give --to FORMATS"),
        (("--to", "coco", "--copy-images"), "has no place for photos"),
        (("--to", "yolo", "--polygons"), "--polygons is an option of coco"),
        (("--to", "yolo", "--copy-images", "--no-images"), "one of --copy-images, --link-images"),
        (("--to", "yolo", "--split", "train=0.5"), "add up to 0.5"),
    ],
)
def test_export_says_what_to_give(arguments: tuple[str, ...], said: str, run: Path, command: Command) -> None:
    assert said in command("export", run, *arguments, code=2).stderr


def test_a_folder_that_is_no_run(few_photos: Path, tmp_path: Path, command: Command) -> None:
    assert "is not a run" in command("export", few_photos, "--to", "csv", code=2).stderr
    assert "is not a run" in command("merge", few_photos, "-o", tmp_path / "all", code=2).stderr
    assert not (tmp_path / "all").exists()


def test_tags_have_a_table_and_no_masks(few_photos: Path, tmp_path: Path, command: Command) -> None:
    command("tag", few_photos, *WORDS, "-o", tmp_path / "tags")
    command("export", tmp_path / "tags", "--to", "csv")
    assert "cat=" in (tmp_path / "tags" / "images.csv").read_text()
    refused = command("export", tmp_path / "tags", "--to", "coco", code=2)
    assert refused.stdout == ""
    assert not (tmp_path / "tags" / "annotations.json").exists()


def test_merging_runs_of_other_words_is_refused(
    run: Path, few_photos: Path, tmp_path: Path, command: Command
) -> None:
    command("mask", few_photos, "-w", "cow", "-b", "wall", "-o", tmp_path / "cows", "--no-overlay")
    refused = command("merge", run, tmp_path / "cows", "-o", tmp_path / "all", code=2)
    assert "cow" in refused.stderr
    assert not (tmp_path / "all").exists()


def test_repeated_images_are_merged_once(run: Path, tmp_path: Path, command: Command) -> None:
    merged = command("merge", run, run, "-o", tmp_path / "all")
    assert "3 images from 2 runs, 3 of them in several runs." in merged.stderr
    assert merged.stdout.strip() == str(tmp_path / "all")
