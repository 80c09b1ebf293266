"""Masks of three small images by the command line, and what a run holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask.clip.load import Clip
from tests.cli.running import run

WORDS = ["cat", "dog, puppy", "cow"]

BACKGROUND = ["wall", "grass"]

OPTIONS = ["-w", "cat", "-w", "dog, puppy", "-w", "cow", "-b", "wall", "-b", "grass"]


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, image in zip(("a", "b", "sub/c"), shapes, strict=True):
        PILImage.fromarray(image[40:100, 30:110]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(autouse=True)
def _weights(sclip_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(sclip_weights))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def done(*arguments: object, code: int = 0) -> str:
    """Run a command in float32 and return its stderr."""
    result = run(*arguments, "--precision", "float32")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def masked(*arguments: object, code: int = 0) -> str:
    return done("mask", *arguments, "--no-overlay", code=code)


def labels_in(out: Path) -> dict[str, np.ndarray]:
    files = sorted((out / "masks").rglob("*.png"))
    return {file.stem: np.array(PILImage.open(file)) for file in files}


def fields_in(out: Path) -> dict[str, Any]:
    """What decides the results of a run."""
    fields: dict[str, Any] = json.loads((out / "run.json").read_text())["fields"]
    return fields


def settings_in(out: Path) -> dict[str, object]:
    settings: dict[str, object] = fields_in(out)["settings"]
    return settings


def images_in(photos: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(photos.rglob("*.png"))}


def segmenter(clip: Clip, **settings: object) -> tagmask.Segmenter:
    return tagmask.Segmenter(clip, WORDS, background=BACKGROUND, **settings)


def tags_of(clip: Clip, photos: Path) -> dict[str, tuple[int, ...]]:
    tagger = tagmask.Tagger(clip, WORDS, background=BACKGROUND)
    return {name: tagger(path).chosen for name, path in images_in(photos).items()}
