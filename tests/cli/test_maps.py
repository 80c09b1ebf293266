"""`tagmask maps` and `tagmask attention --layers`: pictures of the steps behind tags and masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.miniature.evaluation_scenes import unseen_scene
from tests.cli.running import run

MINIATURE = ("--weights", "miniature", "--precision", "float32")
WORDS = ("-w", "lamp", "-w", "airplane", "-w", "cat")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "300")
    PILImage.fromarray(unseen_scene(7).image).save("photo.png")
    return tmp_path / "photo.png"


def size_of(name: str) -> tuple[int, int]:
    with PILImage.open(name) as sheet:
        return sheet.size


def test_steps_of_tags_have_a_row_per_word(photo: Path) -> None:
    result = run("maps", photo, *WORDS, *MINIATURE)
    assert result.exit_code == 0, result.output
    assert result.stdout == "maps.png\n"
    width, height = size_of("maps.png")
    assert width == 2 * 20 + 7 * 220 + 6 * 10
    one = run("maps", photo, *WORDS, "--only", "cat", "-o", "one.jpg", *MINIATURE)
    assert one.exit_code == 0, one.output
    assert height - size_of("one.jpg")[1] == 2 * (147 + 31)


def test_of_many_words_the_tags_are_drawn(photo: Path) -> None:
    many = [
        option for word in ("lamp", "cat", "car", "boat", "hat", "star", "key") for option in ("-w", word)
    ]
    result = run("maps", photo, *many, *MINIATURE)
    assert result.exit_code == 0, result.output
    assert "tags of 7 words; --only WORD draws others" in result.stderr


def test_steps_of_masks(photo: Path) -> None:
    result = run("maps", photo, *WORDS, "--of", "masks", "--only", "airplane", *MINIATURE)
    assert result.exit_code == 0, result.output
    assert size_of("maps.png")[0] == 2 * 20 + 5 * 220 + 4 * 10


def test_printed_differs_from_published(photo: Path) -> None:
    for as_ in ("published", "printed"):
        result = run("maps", photo, *WORDS, "--as", as_, "-o", f"{as_}.png", *MINIATURE)
        assert result.exit_code == 0, result.output
    sheets = [np.asarray(PILImage.open(f"{as_}.png")) for as_ in ("published", "printed")]
    assert (sheets[0] != sheets[1]).any()


def test_layers_are_drawn_for_each_point(photo: Path) -> None:
    points = ("--at", "80,100", "--at", "200,60")
    result = run("attention", photo, "--layers", *points, *MINIATURE)
    assert result.exit_code == 0, result.output
    assert result.stdout == "attention.png\n"
    width, height = size_of("attention.png")
    assert width == 2 * 20 + 6 * 220 + 5 * 10
    assert height > 3 * 2 * 147


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maps", "photo.png"), "No words are given"),
        (("maps", "photo.png", *WORDS, "-o", "maps.gif"), "Give a file name that ends in .png or .jpg"),
        (("maps", "photo.png", *WORDS, "-o", "photo.png"), "is the input image. Give another file"),
        (
            ("maps", "photo.png", *WORDS, "--only", "dog"),
            "--only 'dog' is not among the words. They are lamp,",
        ),
        (("maps", "photo.png", "--of", "masks", "--recipe", "sclip/voc21"), "Give a recipe such as cls-seg"),
        (("maps", "photo.png", "--of", "masks", "--recipe", "clip-es/voc2012"), "Give them: --only WORD"),
        (("maps", "photo.png", "--recipe", "sclip/voc21"), "does not give tags"),
        (("attention", "photo.png", "--layers", "--method", "clip"), "Leave out --method and -w"),
        (("attention", "photo.png", "--layers", "--at", "9999,3"), "9999,3 is outside the image"),
    ],
)
def test_invalid_arguments_are_reported_before_weights_are_loaded(
    photo: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run(*arguments, "--weights", "nowhere.pt")
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]
