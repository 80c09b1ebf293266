"""`tagmask attention`: attention maps of points, drawn in one picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.cli.running import run

MINIATURE = ("--weights", "miniature", "--precision", "float32")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "300")
    pixels = np.full((48, 64, 3), (90, 160, 80), np.uint8)
    pixels[12:36, 8:32] = (220, 40, 40)
    PILImage.fromarray(pixels).save("photo.png")
    return tmp_path / "photo.png"


def test_default_is_the_centre_under_the_default_methods(photo: Path) -> None:
    result = run("attention", photo, *MINIATURE)
    assert result.exit_code == 0, result.output
    assert result.stdout == "attention.png\n"
    with PILImage.open("attention.png") as sheet:
        assert sheet.width > 6 * 300
        assert 225 < sheet.height < 2 * 225
        by_default = np.asarray(sheet.convert("RGB")).astype(int)
    centre = run("attention", photo, "--at", "32,24", "-o", "b.png", *MINIATURE)
    assert centre.exit_code == 0, centre.output
    with PILImage.open("b.png") as sheet:
        np.testing.assert_array_equal(by_default, np.asarray(sheet.convert("RGB")))


def test_points_are_rows_and_methods_columns(photo: Path) -> None:
    arguments = ("--at", "5,5", "--at", "20, 24", "--method", "naclip", "--method", "gem", "-o", "out/a.jpg")
    result = run("attention", photo, *arguments, *MINIATURE)
    assert result.exit_code == 0, result.output
    with PILImage.open(photo.parent / "out" / "a.jpg") as sheet:
        assert (sheet.format, sheet.width) == ("JPEG", 2 * 20 + 3 * 300 + 2 * 10)
        assert sheet.height > 2 * 225


def test_resclip_without_words_draws_its_first_pass_with_a_note(photo: Path) -> None:
    methods = ("--method", "resclip", "--method", "resclip-rcs", "--at", "20,24", *MINIATURE)
    first = run("attention", photo, *methods, "-o", "first.png")
    assert "note: resclip has a second pass" in first.stderr
    second = run("attention", photo, *methods, "-w", "apple", "-w", "grass", "-o", "second.png")
    assert second.exit_code == 0, second.output
    assert "second pass" not in second.stderr
    sheets = [np.asarray(PILImage.open(name)) for name in ("first.png", "second.png")]
    changed = (sheets[0] != sheets[1]).any(axis=(0, 2))
    left = 20 + 310
    assert changed[left : left + 300].any()
    assert not changed[left + 310 :].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--at", "12"), "Invalid point --at '12'. Give X,Y in whole pixels"),
        (("--at", "1;2"), "Invalid point --at '1;2'"),
        (("--at", "1.5,2"), "Invalid point --at '1.5,2'"),
        (("--at", "1,2,3"), "Invalid point --at '1,2,3'"),
        (
            ("--at", "3,3", "--at", "64,3"),
            "64,3 is outside the image of 64 x 48 pixels (w x h). Give 0..63,0..47",
        ),
        (("--at", "-1,3"), "-1,3 is outside the image"),
        (("--method", "clop"), "Unknown method 'clop'. Did you mean clip"),
        (("--method", "cls-seg"), "'cls-seg' masks tags"),
        (("-o", "attention.gif"), "Give a file name that ends in .png or .jpg"),
        (("-o", "photo.png"), "is the input image. Give another file"),
    ],
)
def test_invalid_arguments_are_reported_before_weights_are_loaded(
    photo: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = photo.read_bytes()
    result = run("attention", photo, *arguments, "--weights", "nowhere.pt")
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in photo.parent.iterdir()] == ["photo.png"]
    assert photo.read_bytes() == before


def test_missing_image_is_an_error(photo: Path) -> None:
    result = run("attention", "gone.png", *MINIATURE)
    assert result.exit_code == 2
    assert "gone.png" in result.stderr
