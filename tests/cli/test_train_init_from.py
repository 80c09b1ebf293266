"""`tagmask train weakclip --init-from`: training starts from a checkpoint in the authors' layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.clip.load import Clip
from tagmask.masks import index_png
from tagmask.weak.model import WeakClip
from tagmask.weak.model_file import load_published, published_tensors
from tagmask.weak.steps import trained_weakclip
from tests.weak.models import WORDS


@pytest.fixture
def published(sclip_model: Clip, tmp_path: Path) -> Path:
    """A file in the authors' layout, with weights and a CLIP of its own."""
    model = WeakClip.of(sclip_model, WORDS, seed=7)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor += 0.01 * torch.rand(tensor.shape, generator=generator)
    path = tmp_path / "released.pth"
    torch.save({"meta": {"iter": 8000}, "state_dict": published_tensors(model)}, path)
    return path


@pytest.fixture
def folders(tmp_path: Path, shapes: list[np.ndarray]) -> tuple[Path, Path]:
    images, seeds = tmp_path / "images", tmp_path / "seeds"
    for folder in (images, seeds):
        folder.mkdir()
    for i, shape in enumerate(shapes[:2]):
        PILImage.fromarray(shape[:96, :120]).save(images / f"{i}.png")
        labels = np.zeros((96, 120), np.uint8)
        labels[20:60, 30:80] = i + 1
        (seeds / f"{i}.png").write_bytes(index_png(labels))
    return images, seeds


def train(out: Path, folders: tuple[Path, Path], weights: Path, *options: object) -> Result:
    quick = ["steps=1", "batch=2", "crop=64", "base_short=64", "loss.size=16", "workers=0", "device=cpu"]
    # A learning rate of 0: what comes out is what it started from.
    quick += ["optimiser.lr=0", "floor=0", "picture_every=0", f"words={list(WORDS)}".replace("'", '"')]
    command = ["train", "weakclip", "-o", out, "--images", folders[0], "--seeds", folders[1]]
    command += ["--weights", weights, *(part for change in quick for part in ("--set", change)), *options]
    return CliRunner().invoke(app, [str(part) for part in command])


def trained(model: WeakClip) -> dict[str, torch.Tensor]:
    """All weights that a learning rate of 0 keeps."""
    kept = {
        name: x for name, x in model.state_dict().items() if "running_" not in name and "num_" not in name
    }
    rows = model.ids.shape[1] + model.settings.contexts
    kept["text.positional_embedding"] = kept["text.positional_embedding"][:rows]
    return kept


def test_training_starts_from_the_file_with_its_clip(
    published: Path, folders: tuple[Path, Path], sclip_weights: Path, sclip_model: Clip, tmp_path: Path
) -> None:
    result = train(tmp_path / "run", folders, sclip_weights, "--init-from", published)
    assert result.exit_code == 0, result.output
    expected = trained(load_published(published, WORDS))
    model = trained_weakclip(tmp_path / "run")
    found = trained(model)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, msg=name)
    # The rows of the text tower that the file lacks are those of the CLIP.
    assert torch.equal(model.text.positional_embedding[13:], sclip_model.text.positional_embedding[13:])
    without = train(tmp_path / "other", folders, sclip_weights)
    assert without.exit_code == 0, without.output
    start = trained(trained_weakclip(tmp_path / "other"))
    assert not torch.equal(start["vision.proj"], expected["vision.proj"])
    assert not torch.equal(start["contexts"], expected["contexts"])


def test_a_run_goes_on_only_from_the_same_file(
    published: Path, folders: tuple[Path, Path], sclip_weights: Path, tmp_path: Path
) -> None:
    assert train(tmp_path / "run", folders, sclip_weights, "--init-from", published).exit_code == 0
    moved = published.rename(tmp_path / "moved.pth")
    again = train(tmp_path / "run", folders, sclip_weights, "--init-from", moved)
    assert again.exit_code == 0, again.output
    other = train(tmp_path / "run", folders, sclip_weights)
    assert other.exit_code == 2
    assert "other settings" in other.stderr


def test_files_that_do_not_fit_are_refused(
    published: Path, folders: tuple[Path, Path], sclip_weights: Path, tmp_path: Path
) -> None:
    def message(file: Path, *options: str) -> str:
        result = train(tmp_path / "run", folders, sclip_weights, "--init-from", file, *options)
        assert result.exit_code == 2
        return result.stderr

    assert "There is no file" in message(tmp_path / "none.pth")
    assert "is not in the authors' layout" in message(sclip_weights)
    fewer = message(published, "--set", 'words=["background", "cat", "potted plant", "dog"]')
    assert "has 3 classes, but 4 words are given" in fewer
    assert "unexpected: " in message(published, "--set", 'decoder="none"')
    assert not (tmp_path / "run").exists()
