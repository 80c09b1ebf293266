"""Segments of COCO panoptic: kinds, ids, scores and splits; the contract reads the masks back."""

import json
from pathlib import Path
from typing import Any

import pytest

from tagmask.runs.reader import Run
from tests.exporters.made_runs import masks, write_photos, write_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("panoptic")
    return write_run(folder / "run", write_photos(folder / "photos", masks()), masks())


def contents(run_folder: Path, out: Path, **options: object) -> dict[str, dict[str, Any]]:
    with Run(run_folder) as run:
        target = run.export("coco-panoptic", out, **options)
    return {path.stem: json.loads(path.read_text()) for path in (target / "annotations").glob("*.json")}


def of_image(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    (segments,) = [a["segments_info"] for a in content["annotations"] if a["file_name"] == name]
    return segments


@pytest.mark.parametrize(("regions", "thing", "count"), [("class", 0, 2), ("component", 1, 3)])
def test_components_are_things_and_classes_are_stuff(
    run_folder: Path, tmp_path: Path, regions: str, thing: int, count: int
) -> None:
    content = contents(run_folder, tmp_path, regions=regions)["panoptic_train"]
    segments = of_image(content, "holes.png")
    assert [segment["isthing"] for segment in segments] == [thing] * count
    assert {category["isthing"] for category in content["categories"]} == {thing}
    assert {segment["score"] for segment in segments} == {0.5}
    assert [segment["id"] for segment in segments] == [128, 128 * 256, 128 * 257][:count]


def test_a_file_for_each_split_with_all_images_once(run_folder: Path, tmp_path: Path) -> None:
    found = contents(run_folder, tmp_path, splits={"train": 0.5, "val": 0.5})
    assert set(found) == {"panoptic_train", "panoptic_val"}
    names = [image["file_name"] for content in found.values() for image in content["images"]]
    assert sorted(names) == sorted(masks())
    assert all(content["images"] for content in found.values())
    for split, content in found.items():
        folder = tmp_path / "coco-panoptic/images" / split.removeprefix("panoptic_")
        assert all((folder / image["file_name"]).is_file() for image in content["images"])
