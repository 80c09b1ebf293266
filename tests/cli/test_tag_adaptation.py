"""`tagmask tag` with --adapt and --calibrate, and the files they write."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.resolve import recipe

WORDS = ("-w", "cat", "-w", "dog", "-w", "boat")


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate([*shapes, *(255 - shape for shape in shapes)]):
        PILImage.fromarray(image[::2, ::2]).save(folder / f"{i}.png")
    return folder


def tag(weights: Path, *arguments: object) -> Result:
    options = ("--weights", weights, "--precision", "float32")
    return CliRunner().invoke(app, ["tag", *(str(argument) for argument in (*arguments, *options))])


def scores(result: Result) -> list[list[float]]:
    assert result.exit_code == 0, result.output
    return [list(json.loads(line)["scores"].values()) for line in result.stdout.splitlines()]


def test_adaptation_can_be_saved_and_loaded(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "learned.safetensors"
    first = tag(sclip_weights, photos, *WORDS, "--adapt", "--adapter", file, "--json")
    assert "adapted to 6 images" in first.stderr
    again = tag(sclip_weights, photos, *WORDS, "--method", "piaa", "--adapter", file, "--json")
    assert "adapting to all images" not in again.stderr
    assert scores(again) == scores(first)
    np.testing.assert_allclose(np.sum(scores(first), axis=1), 1, atol=1e-5)
    other = tag(sclip_weights, photos, *WORDS, "--method", "sparc", "--adapt", "--json")
    np.testing.assert_allclose(np.mean(scores(other)), 0, atol=0.2)


def test_unreadable_image_is_skipped_in_adaptation_and_tagging(photos: Path, sclip_weights: Path) -> None:
    (photos / "bad.png").write_text("no image")
    result = tag(sclip_weights, photos, *WORDS, "--adapt")
    assert result.exit_code == 1
    assert "adapted to 6 images" in result.stderr
    assert "6 of 7 images done, 1 failed" in result.stderr


def test_thresholds_are_learned_saved_and_used(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    (photos / "tags.txt").write_text("0 0\n1 0 1\n2\n3 1\n4\nelsewhere 1\n")
    file = tmp_path / "mine.toml"
    result = tag(sclip_weights, *WORDS, "--method", "dpt", "--calibrate", photos, "--save-recipe", file)
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "thresholds from 5 labelled images" in result.stderr
    assert "no threshold for boat" in result.stderr
    assert "such as elsewhere" in result.stderr
    learned = recipe(file)
    assert [threshold is None for threshold in learned.thresholds] == [False, False, True]
    used = tag(sclip_weights, photos, "--recipe", file, "--json")
    for line in used.stdout.splitlines():
        record = json.loads(line)
        assert record["thresholds"]["boat"] == pytest.approx(record["threshold"], abs=1e-5)
        # Six digits are printed, and a threshold may lie just below the lowest score.
        over = {word for word, score in record["scores"].items() if score > record["thresholds"][word] - 2e-6}
        assert set(record["tags"]) == over
    table = tag(sclip_weights, photos / "0.png", "--recipe", file).stdout
    assert table.count("(over ") == 3
    assert "---- threshold" not in table
    direct = tag(sclip_weights, photos, *WORDS, "--method", "dpt", "--calibrate", photos, "--json")
    assert direct.stdout == used.stdout


def test_labels_option(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.txt").write_text("0 0\n1 1\n")
    options = (*WORDS, "--method", "dpt", "--calibrate", photos, "--labels", tmp_path / "truth.txt")
    result = tag(sclip_weights, photos / "0.png", *options)
    assert result.exit_code == 0, result.output
    assert "thresholds from 2 labelled images" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "piaa"), "Give --adapt to adapt to these images, or --adapter FILE"),
        (("--method", "dpt", "--adapt"), "dpt does not adapt to a set of images"),
        (("--method", "nothing"), "Unknown method 'nothing'"),
        (("--labels", "x.txt"), "--labels needs --calibrate"),
        (("--adapt", "--recipe", "no.toml"), "cannot be read"),
        (("--min-score", "2"), "min_score is 2.0. Give a number, from 0 to 1"),
    ],
)
def test_incompatible_options_are_reported_before_weights_are_loaded(
    photos: Path, options: tuple[str, ...], message: str
) -> None:
    result = tag(Path("there-are-no-weights.pt"), photos, *WORDS, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "weights" not in result.stderr.replace(message, "")


def test_missing_images_are_reported(photos: Path) -> None:
    for options in ((), ("--calibrate", photos), ("--adapt",)):
        result = tag(Path("there-are-no-weights.pt"), *WORDS, *options)
        assert result.exit_code == 2
        assert "no images" in result.stderr.lower()


def test_labels_without_images_are_reported(photos: Path, sclip_weights: Path) -> None:
    (photos / "tags.txt").write_text("elsewhere 0\n")
    result = tag(sclip_weights, photos, *WORDS, "--calibrate", photos)
    assert result.exit_code == 2
    assert "names no image in" in result.stderr
