"""`tagmask mask --compare`: a picture per image, no run, and nothing overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask.cli.mask_compare import Comparer
from tagmask.clip.load import Clip
from tagmask.clip.model import Block
from tagmask.images import read_image
from tests.cli.running import run

OPTIONS = ["-w", "cat", "-w", "dog, puppy", "-b", "wall", "-b", "grass", "--precision", "float32"]


@pytest.fixture
def photos(tmp_path: Path, shapes: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name, image in zip(("a", "sub/b"), shapes, strict=False):
        PILImage.fromarray(image[40:100, 30:110]).save(folder / f"{name}.png")
    return folder


@pytest.fixture(autouse=True)
def _weights(sclip_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(sclip_weights))


def compared(*arguments: object, code: int = 0) -> str:
    result = run("mask", *arguments, *OPTIONS)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.stdout if code == 0 else result.stderr


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_picture_per_photo_and_no_run(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lines = compared(photos, "-o", out, "--compare", "clip,maskclip,sclip").splitlines()
    assert files(out) == {"compare/a.jpg", "compare/sub/b.jpg", "compare/compare.json"}
    with PILImage.open(out / "compare" / "a.jpg") as picture:
        assert picture.width > 4 * 440
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["clip", "maskclip", "sclip"] * 2
    record = json.loads((out / "compare" / "compare.json").read_text())
    assert record["methods"] == ["clip", "maskclip", "sclip"]
    assert record["words"] == ["cat", "dog, puppy"]


def test_each_method_gives_what_it_gives_alone_on_one_forward_pass(
    photos: Path, sclip_model: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, image = ["cat", "dog, puppy"], read_image(photos / "a.png")
    settings = {"prob_thd": 0.2}
    comparer = Comparer(sclip_model, ("sclip", "clip", "cls-seg"), words, None, ["wall"], None, {})
    for name, found in comparer(image, None).items():
        alone = tagmask.Segmenter(sclip_model, words, background=["wall"], method=name)(image)
        np.testing.assert_array_equal(found.labels, alone.labels)
    dense = Comparer(sclip_model, ("sclip", "clip", "naclip"), words, None, ["wall"], None, settings)
    runs: list[int] = []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *args, **kw: (runs.append(1), forward(*args, **kw))[1])
    found = dense(image, None)
    assert len(runs) == len(sclip_model.vision.blocks) - 1  # not three times
    assert list(found) == ["sclip", "clip", "naclip"]


def test_a_run_in_the_folder_is_not_touched_and_resumes(photos: Path, tmp_path: Path) -> None:
    out = photos / "out"  # below the photos: no picture may be taken for a photo
    compared(photos, "-o", out)
    before = {name: (out / name).read_bytes() for name in files(out)}
    for _ in range(2):  # drawn anew, with other methods
        compared(photos, "-o", out, "--compare", "clip,sclip")
    assert {name: (out / name).read_bytes() for name in before} == before
    assert files(out) - set(before) == {"compare/a.jpg", "compare/sub/b.jpg", "compare/compare.json"}
    resumed = run("mask", photos, "-o", out, *OPTIONS)
    assert "2 images are done" in resumed.stderr or "2 were done before" in resumed.stderr
    elsewhere = run("mask", photos, "-o", tmp_path / "other", "--compare", "clip,sclip", *OPTIONS)
    assert "2 of 2 images drawn" in elsewhere.stderr


def test_foreign_files_are_never_overwritten(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "compare"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"mine")
    error = compared(photos, "-o", tmp_path / "out", "--compare", "clip,sclip", code=2)
    assert "it was not written by --compare, and is never overwritten" in " ".join(error.split())
    assert (folder / "a.jpg").read_bytes() == b"mine"


def test_an_unreadable_photo_fails_and_the_others_are_drawn(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    error = compared(photos, "-o", tmp_path / "out", "--compare", "clip,sclip", code=1)
    assert "failed: " in error
    assert "2 of 3 images drawn" in error
    assert (tmp_path / "out" / "compare" / "a.jpg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compare", "clip,scilp"), "Unknown method 'scilp'. Did you mean sclip?"),
        (("--compare", "clip"), "fewer than two methods"),
        (("--compare", "clip,tagclip"), "Method 'tagclip' gives tags, not masks"),
        (("--compare", "clip,sclip", "--method", "sclip"), "--compare and --method exclude each other"),
        (("--compare", "clip,sclip", "--report"), "--compare and --report exclude each other"),
        (("--compare", "clip,sclip", "--format", "png,coco"), "--compare and --format exclude"),
        (("--compare", "clip,clip-es"), "Method clip-es needs the tags of each image. Give --tags-file"),
        (("--compare", "sclip,cls-seg", "--threshold", "0.3"), "Unknown setting prob_thd of cls-seg"),
        (("--compare", "clip,sclip-learned"), "Method sclip-learned needs projection='FILE'"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    error = compared(photos, "-o", tmp_path / "out", *arguments, code=2)
    assert message in " ".join(error.split())
    assert not (tmp_path / "out").exists()
