"""`tagmask bench run` and `table` with networks that `tagmask train` made: scores, figures, submissions."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.masks import index_png
from tagmask.weak.config_files import load_config
from tests.data import layouts

VOC = json.dumps(list(load_config("weakclip/voc").model.words))
TINY = ("steps=1", "batch=2", "crop=64", "workers=0", "picture_every=0", "device=cpu", f"words={VOC}")
IDS = ("2007_000033", "2007_000042", "2008_000006")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def settings(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC's layout with three images, and a WeakCLIP and a student trained on them for one step."""
    root = tmp_path_factory.mktemp("world")
    home = root / "VOCdevkit" / "VOC2012"
    rng = np.random.default_rng(0)
    for split, ids in (("train", IDS[:2]), ("val", IDS[:2]), ("test", IDS[2:])):
        layouts.text(home / "ImageSets" / "Segmentation" / f"{split}.txt", *ids)
    (home / "JPEGImages").mkdir()
    for id_ in IDS:
        blocks = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(12, 0).repeat(12, 1)
        PILImage.fromarray(blocks).save(home / "JPEGImages" / f"{id_}.jpg")
        labels = rng.integers(0, 21, (6, 8)).astype(np.uint8).repeat(12, 0).repeat(12, 1)
        if id_ not in IDS[2:]:
            layouts.mask(home / "SegmentationClass" / f"{id_}.png", labels)
        (root / "seeds").mkdir(exist_ok=True)
        (root / "seeds" / f"{id_}.png").write_bytes(index_png(labels))
    images = ("--images", home / "JPEGImages")
    weakclip = run(
        *("train", "weakclip", "-o", root / "weakclip", *images, "--seeds", root / "seeds"),
        *("--config", "weakclip/miniature", "--weights", "miniature"),
        *settings(*TINY, "base_short=64", "loss.size=16"),
    )
    assert weakclip.exit_code == 0, weakclip.output
    student = run(
        *("train", "student", "-o", root / "student", *images, "--masks", root / "seeds"), *settings(*TINY)
    )
    assert student.exit_code == 0, student.output
    return root


def bench(world: Path, out: Path, *arguments: object) -> Result:
    return run("bench", *arguments, "--data", world / "VOCdevkit", "-o", out)


def test_pseudo_masks_are_scored_as_if_they_were_written_first(world: Path, tmp_path: Path) -> None:
    protocol = settings("scales=[0.5, 1.0]")
    result = bench(
        world, tmp_path / "out", "run", "weakclip/voc2012", "--model", world / "weakclip", *protocol
    )
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "out").iterdir()
    assert ",train,model-" in folder.name
    ours = json.loads((folder / "result.json").read_text())
    assert ours["images"]["scored"] == 2
    pseudo = run(
        *("train", "pseudo", world / "VOCdevkit" / "VOC2012" / "JPEGImages", "-o", tmp_path / "pseudo"),
        *("--model", world / "weakclip", "--scales", "0.5,1", "--precision", "float32", "--device", "cpu"),
    )
    assert pseudo.exit_code == 0, pseudo.output
    written = bench(
        world, tmp_path / "scored", "masks", tmp_path / "pseudo", "--dataset", "voc2012", "--split", "train"
    )
    assert "1 masks are of no image of voc2012 train: 2008_000006" in written.stderr
    theirs = json.loads((tmp_path / "scored" / "result.json").read_text())
    assert ours["value"] == theirs["value"]
    assert ours["classes"] == theirs["classes"]
    assert 0 < ours["value"] < 100


def test_figures_of_equal_training_are_compared(world: Path, tmp_path: Path) -> None:
    one = settings("scales=[1.0]", "flip=false", "crf=none")
    command = ("run", "weakclip/voc2012", "--model", world / "weakclip" / "model.safetensors", *one)
    result = bench(world, tmp_path, *command)
    assert result.exit_code == 0, result.output
    assert "paper 72.6  ours " in result.stdout
    assert "paper 67.4" not in result.stdout
    again = bench(world, tmp_path, *command)
    assert "already has results of this run. Give --resume" in again.stderr


def test_table_takes_the_network_that_was_trained_for_each_row(world: Path, tmp_path: Path) -> None:
    result = bench(world, tmp_path, "table", "weakclip-parts", "--model", world / "weakclip")
    assert result.exit_code == 1
    rows = {line.split("|")[1].strip(): line for line in result.stdout.splitlines() if line.startswith("| ")}
    assert rows["+ text-guided decoder"].startswith("| + text-guided decoder | 72.6 / ")
    assert "*" in rows["+ text-guided decoder"]
    assert rows["+ pyramid adapter"] == "| + pyramid adapter | 70.3 (unverified) / not run |"
    assert "No weakclip trained with model.freeze=paper" in result.stderr
    assert rows["MCTformer's maps"] == "| MCTformer's maps | 60 (unverified) |"


def test_submission_of_a_student(world: Path, tmp_path: Path) -> None:
    command = ("run", "student/voc2012", "--model", world / "student", *settings("scales=[1.0]", "crf=none"))
    refused = bench(world, tmp_path / "out", *command, "--split", "test")
    assert refused.exit_code == 2
    assert "not published. Give --submission FILE.tar" in refused.stderr
    archive = tmp_path / "student.tar"
    result = bench(world, tmp_path / "out", *command, "--split", "test", "--submission", archive)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{archive}\n"
    with tarfile.open(archive) as opened:
        assert opened.getnames() == ["results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"]
    scored = bench(world, tmp_path / "out", *command)
    assert scored.exit_code == 0, scored.output
    both = bench(world, tmp_path / "out", *command, "--submission", tmp_path / "val.tar.gz")
    assert both.exit_code == 0, both.output
    assert both.stdout.splitlines()[0] == scored.stdout.splitlines()[0]
    with tarfile.open(tmp_path / "val.tar.gz") as opened:
        assert len(opened.getnames()) == 2
    part = bench(world, tmp_path / "out", *command, "--limit", 1, "--submission", archive)
    assert "Leave out --limit" in part.stderr


def test_networks_and_recipes_that_do_not_fit_are_refused(world: Path, tmp_path: Path) -> None:
    def message(*arguments: object) -> str:
        result = bench(world, tmp_path, "run", *arguments)
        assert result.exit_code == 2
        return result.stderr

    assert "is a student, but weakclip/voc2012" in message("weakclip/voc2012", "--model", world / "student")
    assert "scores a CLIP, not a trained network" in message(
        "cls-seg/voc2012", "--model", world / "student", "--weights", "miniature"
    )
    twice = ("--model", world / "student", "--model", world / "weakclip")
    assert "Give --model once" in message("student/voc2012", *twice)
    assert not list(tmp_path.iterdir())
