"""`tagmask train projection`: writes a file that `sclip-learned` can use."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner, Result

from tagmask import resolve
from tagmask.cli.main import app
from tagmask.cli.train_projection import sample_pairs
from tagmask.errors import InputError
from tagmask.masks import index_png
from tagmask.resolve import recipe
from tagmask.variants.learned import read_projection


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for seed, name in enumerate(("a.jpg", "deep/b.png", "c.jpg")):
        image, mask = images / name, (masks / name).with_suffix(".png")
        image.parent.mkdir(parents=True, exist_ok=True)
        mask.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        PIL.Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(image)
        labels = np.full((40, 50), 255, np.uint8)
        labels[:, :30], labels[:, 40:] = 0, 1
        mask.write_bytes(index_png(labels))
    return images, masks


def test_projection_file_is_written(folders: tuple[Path, Path], tmp_path: Path, sclip_weights: Path) -> None:
    out = tmp_path / "projection.safetensors"
    done = run(
        *("train", "projection", *folders, "-w", "cat", "-w", "dog, puppy", "-o", out),
        *("--weights", sclip_weights, "--activation", "quickgelu", "--device", "cpu"),
        *("--steps", 1, "--batch", 1, "--limit", 2),
    )
    assert done.exit_code == 0, done.output
    assert "training on 2 images" in done.stderr
    assert "step 1 of 1: loss" in done.stderr
    projection = read_projection(out)
    assert projection.width == 128
    assert '"words": ["cat", "dog"]' in projection.trained


def test_images_are_sampled_by_seed_and_missing_masks_reported(folders: tuple[Path, Path]) -> None:
    def sample(seed: int) -> tuple[str, ...]:
        return tuple(image.path.name for image, _ in sample_pairs(*folders, 2, seed))

    assert {sample(seed) for seed in range(20)} == {
        ("a.jpg", "b.png"),
        ("a.jpg", "c.jpg"),
        ("c.jpg", "b.png"),
    }
    assert sample(3) == sample(3)
    (folders[1] / "deep/b.png").unlink()
    with pytest.raises(InputError, match=r"b\.png has no mask .*deep/b\.png\. Give each image"):
        sample_pairs(*folders, 3, 0)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOC's layout, with labels of its 21 classes."""
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    for seed, name in enumerate(("2007_000001", "2007_000002", "2007_000003")):
        rng = np.random.default_rng(seed)
        PIL.Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
            voc / "JPEGImages" / f"{name}.jpg"
        )
        labels = np.full((40, 50), 255, np.uint8)
        labels[:, :30], labels[:, 40:] = 0, 20
        (voc / "SegmentationClass" / f"{name}.png").write_bytes(index_png(labels))
    (voc / "ImageSets" / "Segmentation" / "train.txt").write_text("2007_000001\n2007_000003\n")
    return tmp_path / "VOCdevkit"


def test_benchmark_gives_words_and_its_training_images(
    devkit: Path, tmp_path: Path, sclip_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(recipe("sclip/voc21"), templates=("a {}.",))  # one sentence per word
    monkeypatch.setattr(resolve, "all_presets", lambda: {"sclip/voc21": quick})
    out = tmp_path / "projection.safetensors"
    done = run(
        *("train", "projection", "--recipe", "sclip/voc21", "--data", devkit, "-o", out),
        *("--weights", sclip_weights, "--activation", "quickgelu", "--device", "cpu"),
        *("--steps", 1, "--batch", 1),
    )
    assert done.exit_code == 0, done.output
    assert "training on 2 images" in done.stderr
    trained = json.loads(read_projection(out).trained)
    assert trained["words"][0] == "sky"  # the background, by the first of its texts
    assert len(trained["words"]) == 21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give IMAGES_DIR, MASKS_DIR and -w WORD, or --recipe METHOD/DATASET and --data ROOT"),
        (("images", "masks", "-w", "cat", "--data", "d"), "Give IMAGES_DIR, MASKS_DIR and -w WORD, or"),
        (("--recipe", "sclip/voc21"), "--recipe sclip/voc21 needs --data ROOT, the folder of voc21"),
        (("--recipe", "sclip/voc21", "-w", "cat"), "--recipe has its own words and images"),
        (("--recipe", "cls-seg/voc2012", "--data", "d"), "cls-seg/voc2012 masks tags and has no projection"),
    ],
)
def test_sources_that_do_not_fit_are_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    refused = run("train", "projection", *arguments, "-o", tmp_path / "p.safetensors")
    assert refused.exit_code == 2
    assert message in refused.stderr
