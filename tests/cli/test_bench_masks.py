"""`tagmask bench masks` on VOC's layout: scores, names of what is missing, submissions."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.masks import index_png
from tests.data import layouts


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "masks", *(str(argument) for argument in arguments)])


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    layouts.voc2012(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2012"
    layouts.text(home / "ImageSets" / "Segmentation" / "test.txt", "2008_000006")
    layouts.photo(home / "JPEGImages" / "2008_000006.jpg")
    return tmp_path / "VOCdevkit"


def masks(folder: Path, **labels: np.ndarray) -> Path:
    folder.mkdir()
    for name, values in labels.items():
        (folder / f"{name.removeprefix('i')}.png").write_bytes(index_png(values))
    return folder


def test_folder_is_scored(voc: Path, tmp_path: Path) -> None:
    folder = masks(
        tmp_path / "masks", i2007_000033=layouts.rows(0, 1, 5), i2007_000042=layouts.rows(0, 19, 20, 3)
    )
    result = bench(folder, "--dataset", "voc2012", "--data", voc, "-o", tmp_path / "out")
    assert result.exit_code == 1  # the papers' list has 1449 images
    first, *others = result.stdout.splitlines()
    assert first == (
        f"{folder} on voc2012 val, 2 images: mIoU 100.00 "
        "(partial: the data set has 2 images, the papers' list 1449)"
    )
    assert others == ["  pixel accuracy 100.00", "  mean accuracy 100.00"]
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (written["value"], written["average"]) == (100.0, "union")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "classes.svg", "result.json", "result.md"
    }  # fmt: skip


def test_missing_and_surplus_masks_are_named(voc: Path, tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", i2007_000042=layouts.rows(0, 19), cat=layouts.rows(0))
    result = bench(folder, "--dataset", "voc2012", "--data", voc)
    assert result.exit_code == 1
    assert "1 of 2 images have no mask: 2007_000033" in result.stderr
    assert "1 masks are of no image of voc2012 val: cat" in result.stderr
    assert "(partial: 1 of 2 images failed: 1 no mask to score" in result.stdout


def test_masks_of_the_wrong_size_are_refused(voc: Path, tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", i2007_000033=np.zeros((6, 9), np.uint8))
    result = bench(folder, "--dataset", "voc2012", "--data", voc)
    assert result.exit_code == 2
    assert "2007_000033.png is 6 x 9 pixels, its image 6 x 8" in result.stderr
    assert not result.stdout


def test_submission_of_the_test_split(voc: Path, tmp_path: Path) -> None:
    folder = masks(tmp_path / "masks", i2008_000006=layouts.rows(0, 7))
    command = (folder, "--dataset", "voc2012", "--split", "test", "--data", voc)
    refused = bench(*command)
    assert refused.exit_code == 2
    assert "not published. Give --submission FILE.tar" in refused.stderr
    result = bench(*command, "--submission", tmp_path / "to send.tar")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'to send.tar'}\n"
    with tarfile.open(tmp_path / "to send.tar") as archive:
        assert archive.getnames() == ["results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"]
    (folder / "2008_000006.png").unlink()
    missing = bench(*command, "--submission", tmp_path / "other.tar")
    assert missing.exit_code == 2
    assert "1 of 1 images have no mask, such as 2008_000006" in missing.stderr
    assert not (tmp_path / "other.tar").exists()


def test_a_wrong_submission_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    result = bench(tmp_path, "--dataset", "coco2014", "--split", "val", "--submission", "a.tar")
    assert result.exit_code == 2
    assert "scores PASCAL VOC 2012, not coco2014" in result.stderr
