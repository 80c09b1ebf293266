"""`tagmask import` from the command line."""

import json
from pathlib import Path

import pytest

from tagmask.runs.reader import Run
from tests.cli.conftest import Command
from tests.importers.made import MASKS, coco, make_run

WHOLE = {"segmentation": {"size": [6, 5], "counts": [0, 30]}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def test_the_report(run: Path, tmp_path: Path, command: Command) -> None:
    command("export", run, "--to", "coco", "-o", tmp_path)
    content = json.loads((tmp_path / "annotations.json").read_text())
    image = next(image for image in content["images"] if image["file_name"] == "sub/b.jpg")
    for annotation in content["annotations"]:
        if annotation["image_id"] == image["id"]:
            annotation["category_id"] = 1
    content["images"].append({"id": 99, "file_name": "new.jpg", "height": 1, "width": 1})
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    result = command("import", run, "--from", "coco", tmp_path / "annotations.json")
    assert result.stdout == "1 corrected, 2 unchanged (accepted), 1 not in the run.\n"
    assert result.stderr == "Not in the run: new.jpg\n"
    with Run(run) as opened:
        assert [row.review for row in opened] == ["accepted", "accepted", "corrected"]
        assert len(opened) == len(MASKS)


def test_names_of_classes(run: Path, tmp_path: Path, command: Command) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps(coco(WHOLE, categories=[{"id": 3, "name": "kitty"}])))
    refused = command("import", run, file, "--from", "coco", code=2)
    assert "the class 'kitty' is no word of the run. Its words are background, cat, dog" in refused.stderr
    assert not (run / "corrected").exists()
    refused = command("import", run, file, "--from", "coco", "--map", "kitty=cow", code=2)
    assert "Give NAME=WORD with a word of the run" in refused.stderr
    result = command("import", run, file, "--from", "coco", "--map", "kitty=cat")
    assert result.stdout == "1 corrected.\n"


def test_refused_images_are_named_and_left_out_on_request(
    run: Path, tmp_path: Path, command: Command
) -> None:
    content = coco(WHOLE)
    content["images"].append({"id": 2, "file_name": "a.png", "height": 9, "width": 9})
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    assert "so nothing was imported. a.png: " in command("import", run, file, "--from", "coco", code=2).stderr
    result = command("import", run, file, "--from", "coco", "--skip-refused", code=1)
    assert result.stdout == "1 corrected, 1 refused.\n"
    assert result.stderr.startswith("refused: a.png: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "cocoa", "x"), "Unknown format 'cocoa'. Did you mean coco? Give one of coco, yolo"),
        (("--from", "coco", "absent"), "There is no file or folder absent"),
        (("x",), "Missing option"),
    ],
)
def test_wrong_arguments(run: Path, command: Command, arguments: tuple[str, ...], said: str) -> None:
    assert said in command("import", run, *arguments, code=2).stderr


def test_a_run_of_tags_has_nothing_to_correct(run: Path, tmp_path: Path, command: Command) -> None:
    (run / "classes.json").unlink()
    file = tmp_path / "a.json"
    file.write_text(json.dumps(coco(WHOLE)))
    assert "classes.json cannot be read" in command("import", run, file, "--from", "coco", code=2).stderr
