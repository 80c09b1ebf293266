"""`tagmask train mctformer`, and seeds from it: from tags alone to a student."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.masks import read_index_png
from tagmask.weak.mask_folder import words_of
from tagmask.weak.training_folder import read_metadata

TRAINING = [
    "steps=2", "batch=2", "crop=32", "mctformer.width=16", "mctformer.depth=2", "mctformer.heads=2",
    "workers=0", "log_every=1", "device=cpu",
]  # fmt: skip
SMALL = ["steps=2", "batch=2", "crop=64", "base_short=64", "loss.size=16"]


def changes(option: str, settings: list[str]) -> list[str]:
    return [argument for setting in settings for argument in (option, setting)]


WORDS = ("-w", "dog, puppy", "-w", "tree")


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    PILImage.fromarray(shapes[2][:96, :120]).save(folder / "a.png")
    PILImage.fromarray(shapes[1][:100, :90]).save(folder / "sub" / "b.png")
    (tmp_path / "tags.txt").write_text("a 0 1\nsub/b 1\n")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *(str(argument) for argument in arguments)])


def test_from_tags_to_seeds(photos: Path, tmp_path: Path) -> None:
    model, tags = tmp_path / "mct", ("--tags-file", tmp_path / "tags.txt")
    result = run("mctformer", "--images", photos, *tags, *WORDS, "-o", model, *changes("--set", TRAINING))
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{model / 'model.safetensors'}\n"
    assert "MCTformer: step 2 of 2, " in result.stderr
    assert read_metadata(model, "mctformer")["words"] == ["dog", "tree"]

    seeds = ("seeds", photos, "-o", tmp_path / "seeds", "--method", "mctformer", *tags, "--device", "cpu")
    result = run(*seeds, "--model", model, "--threshold", "0.3")
    assert result.exit_code == 0, result.output
    assert words_of(tmp_path / "seeds") == ("background", "dog", "tree")
    mask = read_index_png(tmp_path / "seeds" / "masks" / "sub" / "b.png")
    assert set(np.unique(mask)) == {0, 2}
    assert (tmp_path / "seeds" / "maps" / "sub" / "b.npz").exists()
    again = run(*seeds, "--model", model, "--threshold", "0.3")
    assert "2 of 2 were done." in again.stderr
    other = run(*seeds, "--model", model, "--threshold", "0.5")
    assert other.exit_code == 2
    assert "threshold was 0.3, is 0.5" in other.stderr

    affinity, tiny = (
        tmp_path / "aff",
        ["affinity_base=1", "crop=96", "batch=2", "workers=0", "steps=1", "device=cpu"],
    )
    command = ["affinity", "--images", photos, "--maps", tmp_path / "seeds" / "maps", *WORDS, "-o", affinity]
    result = run(*command, *changes("--set", tiny))
    assert result.exit_code == 0, result.output
    assert "starts from random weights" in result.stderr
    walked = tmp_path / "walked"
    result = run("seeds", photos, "-o", walked, "--method", "mctformer", *tags, "--device", "cpu",
                 "--model", model, "--affinity", affinity)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert set(np.unique(read_index_png(walked / "masks" / "sub" / "b.png"))) <= {0, 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "mctformer"], "--method mctformer and --model DIR belong together"),
        (["--model", "x", "-w", "dog"], "--method mctformer and --model DIR belong together"),
        (["--method", "mctformer", "--model", "x"], "Give them: --tags-file FILE"),
        (["--method", "mctformer", "--model", "x", "--refine", "crf"], "have no --refine"),
        (["--method", "mctformer", "--model", "x", "--tags-file", "t", "--cams", "y"], "need no --cams"),
        (["--method", "mctformer", "--model", "x", "--tags-file", "t"], "x contains no run"),
        (["--affinity", "x", "-w", "dog"], "--affinity refines the maps of an MCTformer"),
        (["--method", "mctformer", "--model", "x", "--tags-file", "t", "--affinity", "a", "--truth", "m"],
         "Leave out --truth"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(photos: Path, options: list[str], message: str) -> None:
    result = run("seeds", photos, "-o", photos.parent / "seeds", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_all_steps_from_tags_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = (
        "all", photos, *WORDS, "--weights", "miniature", "-o", out, "--device", "cpu",
        "--seeds", "mctformer", "--tags-file", tmp_path / "tags.txt", "--mctformer", "mctformer/v2",
        *changes("--set-mctformer", TRAINING), *changes("--set", SMALL),
        *changes("--set-student", ["steps=2", "batch=2", "crop=64"]),
        "--scales", "0.5", "--no-flip", "--crf", "none",
    )  # fmt: skip
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert "1 of 7: MCTformer" in result.stderr
    assert "7 of 7: report" in result.stderr
    assert words_of(out / "pseudo") == ("background", "dog", "tree")
    page = (out / "report.html").read_text()
    assert "MCTformer: loss" in page
    times = {file: file.stat().st_mtime_ns for file in [*out.rglob("*.safetensors"), *out.rglob("*.npz")]}
    assert {out / "mctformer" / "model.safetensors", out / "seeds" / "maps" / "a.npz"} <= times.keys()
    assert run(*command).exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in times} == times


def test_unfit_tags_are_refused_before_the_first_step(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("all", photos, *WORDS, "--weights", "miniature", "-o", out, "--seeds", "mctformer")
    result = run(*command)
    assert result.exit_code == 2
    assert "Give them: --tags-file FILE" in result.stderr
    (tmp_path / "tags.txt").write_text("a 2\n")
    result = run(*command, "--tags-file", tmp_path / "tags.txt")
    assert "Give class indices from 0 to 1" in result.stderr
    result = run(*command, "--tags-file", tmp_path / "tags.txt", "--set-mctformer", "stps=1")
    assert "Did you mean steps?" in result.stderr
    assert not out.exists()
