"""What of Label Studio's tasks the contract does not cover: addresses, tags, scores, and words in XML."""

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tagmask.errors import InputError
from tagmask.exporters.image_names import FlatNames
from tagmask.masks import index_png
from tagmask.runs.reader import Run
from tests.exporters.made_runs import masks, write_photos, write_run


@pytest.fixture(scope="module")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return write_run(folder / "run", write_photos(folder / "photos", masks()), masks())


def tasks(run: Path, out: Path, **options: Any) -> dict[str, dict[str, Any]]:
    with Run(run) as opened:
        target = opened.export("label-studio", out, **options)
    listed = json.loads((target / "tasks.json").read_text(encoding="utf-8"))
    return {task["data"]["file_name"]: task for task in listed}


@pytest.mark.parametrize(
    ("prefix", "address"),
    [
        ("https://example.com/photos", "https://example.com/photos/%D0%BA%D0%BE%D1%82%20%C3%A9.jpg"),
        ("/data/local-files/?d=", "/data/local-files/?d=%D0%BA%D0%BE%D1%82%20%C3%A9.jpg"),
        ("/data/local-files/?d=photos", "/data/local-files/?d=photos/%D0%BA%D0%BE%D1%82%20%C3%A9.jpg"),
    ],
)
def test_a_prefix_takes_the_place_of_the_address(
    made_run: Path, tmp_path: Path, prefix: str, address: str
) -> None:
    assert tasks(made_run, tmp_path, image_prefix=prefix)["кот é.jpg"]["data"]["image"] == address


def test_copied_photos_are_served_from_the_export(made_run: Path, tmp_path: Path) -> None:
    found = tasks(made_run, tmp_path, photos="copy")["a/b/specks.png"]["data"]["image"]
    path = tmp_path / "label-studio" / "images" / "a" / "b" / "specks.png"
    assert found == f"/data/local-files/?d={str(path)[1:]}"
    assert path.is_file()


def test_scores_tags_and_corrected_masks(made_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(made_run, tmp_path / "run"))
    corrected = np.zeros((40, 60), np.uint8)
    corrected[1, 1] = 3
    (run / "corrected").mkdir()
    (run / "corrected" / "holes.png").write_bytes(index_png(corrected))
    found = tasks(run, tmp_path / "out")
    specks, holes = (found[name]["predictions"][0] for name in ("a/b/specks.png", "holes.png"))
    assert specks["score"] == 0.5
    assert {result["score"] for result in specks["result"] if result["type"] == "brushlabels"} == {0.5}
    assert specks["result"][-1]["value"] == {"choices": ["cat", "dog", 'odd: "word", кот']}
    assert "score" not in holes
    assert [result["type"] for result in holes["result"]] == ["brushlabels", "choices"]
    assert holes["result"][-1]["value"] == {"choices": ['odd: "word", кот']}
    assert found["empty.jpg"]["predictions"][0]["result"] == []


@pytest.mark.parametrize("word", ['<&">', "two\nlines\tand tabs", "'"])
def test_any_word_stands_in_the_setup(tmp_path: Path, word: str) -> None:
    labels = {"a.png": np.ones((2, 2), np.uint8)}
    run = write_run(tmp_path / "run", write_photos(tmp_path / "photos", labels), labels, ("background", word))
    tasks(run, tmp_path)
    setup = ElementTree.parse(tmp_path / "label-studio" / "labeling_config.xml").getroot()
    assert [label.attrib["value"] for label in setup.iter("Label")] == [word]


def test_characters_that_xml_has_not_are_refused(tmp_path: Path) -> None:
    labels = {"a.png": np.ones((2, 2), np.uint8)}
    photos = write_photos(tmp_path / "photos", labels)
    run = write_run(tmp_path / "run", photos, labels, ("background", "a\x01b"))
    with pytest.raises(InputError, match=r"The word 'a\\x01b' holds a character"):
        tasks(run, tmp_path)
    assert not (tmp_path / "label-studio").exists()


def test_flat_names_do_not_depend_on_what_is_exported(made_run: Path, tmp_path: Path) -> None:
    """Else the file of one image could come back as that of another."""
    run = Path(shutil.copytree(made_run, tmp_path / "run"))
    (run / "corrected" / "a_b").mkdir(parents=True)
    shutil.copyfile(run / "masks" / "a_b" / "specks.png", run / "corrected" / "a_b" / "specks.png")
    with Run(run) as opened:
        target = opened.export("yolo", tmp_path / "out", corrected_only=True)
        names = FlatNames(opened)
        assert sorted(names.of(row) for row in opened)[:2] == ["a_b_specks", "a_b_specks-2"]
    assert [file.name for file in target.glob("labels/*/*.txt")] == ["a_b_specks-2.txt"]
