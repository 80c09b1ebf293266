"""`tagmask train seeds` with CLIP-ES: its files of activation maps, confidence and prompt templates."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tagmask.masks import read_index_png
from tests.cli.running import train

WORDS = ("-w", "dog", "-w", "tree", "-w", "cat")
MINIATURE = ("--weights", "miniature", "--precision", "float32")


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    PILImage.fromarray(shapes[2][:96, :120]).save(folder / "a.png")
    PILImage.fromarray(shapes[1][:100, :90]).save(folder / "sub" / "b.png")
    (tmp_path / "tags.txt").write_text("a 2 0\nsub/b\n")
    return folder


@pytest.fixture
def seeds(photos: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command for seeds of given tags, without its output folder."""
    tags = ("--method", "clip-es", "--tags-file", tmp_path / "tags.txt")
    return ("seeds", photos, *WORDS, *MINIATURE, *tags)


def masks(out: Path) -> dict[str, np.ndarray]:
    return {file.stem: read_index_png(file) for file in sorted((out / "masks").rglob("*.png"))}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def done(*arguments: object, code: int = 0) -> str:
    result = train(*arguments)
    assert result.exit_code == code, result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize("refine", [[], ["--refine", "crf"], ["--refine", "crf", "--min-confidence", "0.9"]])
def test_saved_maps_give_the_same_seeds_again(
    photos: Path, tmp_path: Path, seeds: tuple[object, ...], refine: list[str]
) -> None:
    done(*seeds, "-o", tmp_path / "first", "--save-cams", *refine)
    cams = np.load(tmp_path / "first" / "cams" / "a.npy", allow_pickle=True).item()
    assert cams["keys"].tolist() == [2, 0]
    assert cams["attn_highres"].shape == (2, 96, 120)
    empty = np.load(tmp_path / "first" / "cams" / "sub" / "b.npy", allow_pickle=True).item()
    assert empty["attn_highres"].shape == (0, 100, 90)
    rule = refine or ["--threshold", "0.5"]
    done("seeds", photos, *WORDS, "--cams", tmp_path / "first" / "cams", "-o", tmp_path / "second", *rule)
    found = masks(tmp_path / "first")
    assert len(np.unique(found["a"])) > 1
    assert not found["b"].any()  # no tags: background
    assert same(found, masks(tmp_path / "second"))


def test_pixels_of_low_confidence_are_ignored(tmp_path: Path, seeds: tuple[object, ...]) -> None:
    done(*seeds, "-o", tmp_path / "all", "--refine", "crf")
    done(*seeds, "-o", tmp_path / "sure", "--refine", "crf", "--min-confidence", "0.95")
    every, sure = masks(tmp_path / "all")["a"], masks(tmp_path / "sure")["a"]
    assert 255 not in every
    assert 0 < np.mean(sure == 255) < 1
    kept = sure != 255
    np.testing.assert_array_equal(sure[kept], every[kept])
    fields = json.loads((tmp_path / "sure" / "run.json").read_text())["fields"]
    assert fields["settings"]["confidence"] == 0.95


def test_a_run_without_maps_is_not_resumed_with_them(tmp_path: Path, seeds: tuple[object, ...]) -> None:
    done(*seeds, "-o", tmp_path / "out")
    assert "cams was" in done(*seeds, "-o", tmp_path / "out", "--save-cams", code=2)


def test_templates_change_the_seeds_and_are_recorded(tmp_path: Path, seeds: tuple[object, ...]) -> None:
    (tmp_path / "t.txt").write_text("a bad photo of a {}.\n\n  the {}.  \nthe {}.\n")
    done(*seeds, "-o", tmp_path / "plain", "--save-cams")
    done(*seeds, "-o", tmp_path / "own", "--save-cams", "--templates", tmp_path / "t.txt")
    fields = json.loads((tmp_path / "own" / "run.json").read_text())["fields"]
    assert fields["settings"]["templates"] == ["a bad photo of a {}.", "the {}."]
    plain, own = (
        np.load(tmp_path / name / "cams" / "a.npy", allow_pickle=True).item() for name in ("plain", "own")
    )
    assert not np.array_equal(plain["attn_highres"], own["attn_highres"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-confidence", "0.9"], "Give --refine crf too"),
        (["--method", "sclip", "--refine", "crf", "--min-confidence", "0.9"], "for methods that mask tags"),
        (["--method", "sclip", "--save-cams"], "--save-cams is for methods that mask tags"),
        (["--cams", "x", "--save-cams"], "--save-cams writes CLIP-ES's activation maps"),
        (["--cams", "x", "--min-confidence", "0.9", "--threshold", "0.5"], "Give --refine crf too"),
        (["--cams", "x", "--refine", "pamr"], "refined by a CRF only"),
        (["--cams", "x", "--refine", "crf", "--threshold", "0.5"], "Leave out --threshold and --truth"),
        (["--cams", "x", "--templates", "TEMPLATES"], "Leave it out"),
        (["--masks", "x", "--refine", "crf"], "Existing masks are copied as they are"),
        (["--masks", "x", "--min-confidence", "0.9"], "Give it with CLIP or --cams only"),
        (["--method", "mctformer", "--model", "x", "--templates", "TEMPLATES"], "no --templates"),
        (["--templates", "none.txt"], "The templates file none.txt cannot be read"),
        (["--templates", "EMPTY"], "is empty. Give one template per line"),
        (["--templates", "PLAIN"], "has no {}"),
        (["--templates", "LONG"], "is too long"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    photos: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    texts = {"TEMPLATES": "the {}.", "EMPTY": "\n", "PLAIN": "the {}\nthe dog", "LONG": "{} " + "x" * 2000}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    options = [str(tmp_path / option) if option in texts else option for option in options]
    result = train("seeds", photos, "-o", tmp_path / "out", *WORDS, *MINIATURE, *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
