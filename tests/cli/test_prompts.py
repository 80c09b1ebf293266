"""`tagmask prompts select`: its table, its file, which other commands take, and its errors."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tests.cli.running import run

WORDS = ("-w", "cat", "-w", "dog, puppy", "-w", "cow", "-b", "wall", "-b", "grass")
TEMPLATES = (
    "a photo of a {}.",
    "the {}.",
    "a clean origami {}.",
    "a photo of a very, " + "very " * 20 + "{}.",
)


@pytest.fixture(autouse=True)
def _weights(tagclip_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(tagclip_weights))
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip("abc", shapes, strict=True):
        PILImage.fromarray(image[40:100, 30:110]).save(folder / f"{name}.png")
    (tmp_path / "tags.txt").write_text("a 0 2\nb 1\nc 2 1 0\n")
    (tmp_path / "candidates.txt").write_text("\n".join(TEMPLATES))
    return folder


@pytest.fixture
def select(photos: Path, tmp_path: Path) -> tuple[object, ...]:
    """A command with given tags and few candidates."""
    given = ("--tags-file", tmp_path / "tags.txt", "--templates", tmp_path / "candidates.txt")
    return ("prompts", "select", "--images", photos, *WORDS, *given, "--precision", "float32")


def test_the_table_is_sorted_and_fits(select: tuple[object, ...]) -> None:
    result = run(*select)
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["rank", "sharpness", "template"]
    assert [int(row.split()[0]) for row in rows] == [1, 2, 3, 4]
    values = [float(row.split()[1]) for row in rows]
    assert values == sorted(values)
    assert len(set(values)) > 1
    assert all(len(row) <= 80 for row in (head, *rows))
    assert sum(row.endswith("…") for row in rows) == 1
    assert "2 of 3 images have two or more tags" in result.stderr
    assert len(run(*select, "--top", "2").stdout.splitlines()) == 3


def test_json_has_the_whole_templates_and_the_sum_over_images(
    select: tuple[object, ...], photos: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in run(*select, "--json").stdout.splitlines()]
    assert {line["template"] for line in lines} == set(TEMPLATES)
    assert [line["rank"] for line in lines] == [1, 2, 3, 4]
    assert {line["images"] for line in lines} == {2}
    (photos / "b.png").unlink()
    (photos / "c.png").unlink()
    alone = {
        line["template"]: line["sharpness"]
        for line in map(json.loads, run(*select, "--json").stdout.splitlines())
    }
    PILImage.open(photos / "a.png").save(photos / "a2.png")
    (tmp_path / "tags.txt").write_text("a 0 2\na2 0 2\n")
    for line in map(json.loads, run(*select, "--json").stdout.splitlines()):
        assert line["sharpness"] == pytest.approx(2 * alone[line["template"]], rel=1e-9)


def test_the_file_has_the_best_and_other_commands_take_it(
    select: tuple[object, ...], photos: Path, tmp_path: Path
) -> None:
    best = tmp_path / "new" / "best.txt"
    lines = [
        json.loads(line)["template"] for line in run(*select, "--json", "--output", best).stdout.splitlines()
    ]
    assert best.read_text() == f"{lines[0]}\n"
    result = run(*select, "-o", best, "--keep", "2")
    assert best.read_text() == f"{lines[0]}\n{lines[1]}\n"
    assert f"written to {best}" in result.stderr
    for name, command in {
        "mask": ("mask", photos, "--no-overlay", "--method", "cls-seg"),
        "dense": ("mask", photos, "--no-overlay"),
        "tag": ("tag", photos),
        "seeds": ("train", "seeds", photos),
    }.items():
        out = tmp_path / name
        result = run(*command, *WORDS, "--templates", best, "--out", out, "--precision", "float32")
        assert result.exit_code == 0, result.output
        settings = json.loads((out / "run.json").read_text())["fields"]["settings"]
        assert settings["templates"] == lines[:2]


def test_tags_are_found_where_none_are_given(photos: Path, tmp_path: Path) -> None:
    command = ("prompts", "select", "--images", photos, *WORDS, "--templates", tmp_path / "candidates.txt")
    result = run(*command, "--precision", "float32")
    assert result.exit_code == 0, result.output
    tagger = tagmask.Tagger(
        tagmask.load(os.environ["TAGMASK_WEIGHTS"]),
        ["cat", "dog, puppy", "cow"],
        background=["wall", "grass"],
    )
    lines = [" ".join([name, *map(str, tagger(photos / f"{name}.png").chosen)]) for name in "abc"]
    (tmp_path / "tags.txt").write_text("\n".join(lines))
    given = run(*command, "--precision", "float32", "--tags-file", tmp_path / "tags.txt")
    assert given.stdout == result.stdout


def test_a_recipe_gives_words(photos: Path, tmp_path: Path) -> None:
    command = ("prompts", "select", "--images", photos, "--templates", tmp_path / "candidates.txt")
    given = ("--tags-file", tmp_path / "tags.txt", "--precision", "float32")
    result = run(*command, *given, "--recipe", "clip-es/voc2012")
    assert result.exit_code == 0, result.output
    without = run(*command, "--recipe", "clip-es/voc2012")
    assert without.exit_code == 2
    assert "needs the tags of each image" in without.stderr


def test_bad_images_are_skipped_and_reported(select: tuple[object, ...], photos: Path) -> None:
    good = run(*select).stdout
    (photos / "d.jpg").write_text("no image")
    (photos / "e.png").write_bytes((photos / "a.png").read_bytes()[:100])
    (photos / "f.png").write_bytes(b"")
    result = run(*select)
    assert result.exit_code == 1, result.output
    assert result.stdout == good
    assert all(
        f"{name} " in result.stderr or f"{name}:" in result.stderr for name in ("d.jpg", "e.png", "f.png")
    )
    assert "2 of 6 images have two or more tags, 3 failed" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "sclip/voc21"], "does not mask tags"),
        (["--recipe", "cls-seg/vo"], "Unknown recipe"),
        (["--templates", "none.txt"], "templates file none.txt cannot be read"),
        (["--tags-file", "none.txt"], "Tag file none.txt cannot be read"),
        (["--images", "none"], "There is no file or folder none"),
        (["--output", "FILE/best.txt"], "cannot be written"),
        (["--tags-file", "SINGLE"], "No image of 3 has two tags"),
    ],
)
def test_what_does_not_fit_is_refused(photos: Path, tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "FILE").write_text("")
    (tmp_path / "SINGLE").write_text("a 0\nb 1\nc 2\n")
    (tmp_path / "short.txt").write_text("the {}.")
    options = [str(tmp_path / each) if each.startswith(("FILE", "SINGLE")) else each for each in options]
    images = () if "--images" in options else ("--images", photos)
    words = () if "--recipe" in options else WORDS
    defaults = () if "--templates" in options else ("--templates", tmp_path / "short.txt")
    result = run("prompts", "select", *images, *words, *defaults, *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.split())
