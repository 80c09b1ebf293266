"""`tagmask train projection`: writes a file that `sclip-learned` can use."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.cli.train_projection import sample_pairs
from tagmask.errors import InputError
from tagmask.masks import index_png
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
