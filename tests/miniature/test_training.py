"""Training with a few steps: the image bank, resuming, and the written weights."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.tokenizer import encode
from tagmask.errors import InputError
from tagmask.miniature.captions import known_words
from tagmask.miniature.scenes import BACKGROUND_NAMES
from tagmask.miniature.training import pretrain
from tagmask.miniature.training.bank import close_scene, open_bank, wide_scene
from tagmask.miniature.training.batches import close_batch, mixed_batch
from tagmask.miniature.training.towers import Towers

SETTINGS = pretrain.Settings(minutes=1.0, close_batch=6, batch=4, wide=6, close=10, text_steps=6)


@pytest.fixture(scope="module")
def bank_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    open_bank(folder, SETTINGS.wide, SETTINGS.close, workers=1)
    return folder


def test_bank_contains_the_scenes(bank_folder: Path) -> None:
    bank = open_bank(bank_folder, SETTINGS.wide, SETTINGS.close)
    for i in (0, 5):
        np.testing.assert_array_equal(bank.wide[i], wide_scene(i).image)
        assert bank.wide_contents[i] == wide_scene(i).content
        np.testing.assert_array_equal(bank.close[i], close_scene(i).image)
        assert bank.close_contents[i] == close_scene(i).content


def test_bank_is_drawn_once_and_completed_if_interrupted(bank_folder: Path, tmp_path: Path) -> None:
    before = (bank_folder / "wide-6.npy").stat().st_mtime_ns
    open_bank(bank_folder, SETTINGS.wide, SETTINGS.close)
    assert (bank_folder / "wide-6.npy").stat().st_mtime_ns == before
    np.save(
        tmp_path / "wide-2.npy", np.zeros((2, 224, 224, 3), np.uint8)
    )  # without a listing it is incomplete
    bank = open_bank(tmp_path, 2, 1, workers=1)
    np.testing.assert_array_equal(bank.wide[1], wide_scene(1).image)
    assert len(json.loads((tmp_path / "wide-2.json").read_bytes())) == 2


def test_mixed_batch_is_scenes_then_collages(bank_folder: Path) -> None:
    bank = open_bank(bank_folder, SETTINGS.wide, SETTINGS.close)
    batch, again, other = (mixed_batch(bank, 4, (0, step)) for step in (1, 1, 2))
    assert batch.pixels.shape == (4, 3, 224, 224)
    assert [len(cells) for cells in batch.contents] == [1, 1, 4, 4]
    assert batch.collages == 2
    torch.testing.assert_close(batch.pixels, again.pixels, rtol=0, atol=0)
    assert batch.captions == again.captions
    assert not torch.equal(batch.pixels, other.pixels)


def test_close_batch_has_single_images(bank_folder: Path) -> None:
    batch = close_batch(open_bank(bank_folder, SETTINGS.wide, SETTINGS.close), 5, (0, 1))
    assert batch.pixels.shape == (5, 3, 112, 112)
    assert [len(cells) for cells in batch.contents] == [1] * 5


def test_regions_are_the_cells_in_row_order() -> None:
    # Each patch holds its image, row and column, so that wrong regions are detected.
    positions = torch.stack(torch.meshgrid(*[torch.arange(n) for n in (3, 14, 14)], indexing="ij"), dim=-1)
    singles, cells = pretrain._regions(positions.flatten(1, 2).float(), collages=2)
    assert (singles[..., 0] == 0).all()
    for i, cell in enumerate(cells):
        y, x = divmod(i % 4, 2)
        assert (cell[:, 0] == 1 + i // 4).all()
        assert (cell[:, 1] // 7 == y).all()
        assert (cell[:, 2] // 7 == x).all()


def test_isolated_class_token_does_not_change_patches() -> None:
    torch.manual_seed(0)
    model = Towers().eval()
    model.start(torch.Generator().manual_seed(1))
    pixels = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        first, patches = model.encode_image(pixels)
        isolated, _ = model.encode_image(pixels, isolated_layers=11)
        # Isolated up to the last block, the class token does not depend on the image before it.
        other, _ = model.encode_image(torch.randn(2, 3, 224, 224), isolated_layers=12)
    assert patches.shape == (2, 196, 128)
    assert not torch.allclose(first, isolated, atol=1e-4)
    assert torch.allclose(first.norm(dim=-1), torch.ones(2))
    assert torch.isfinite(other).all()


def steps(run: pretrain.Progress, bank_folder: Path, count: int) -> list[dict[str, float]]:
    bank = open_bank(bank_folder, SETTINGS.wide, SETTINGS.close)
    return [pretrain.advance(run, bank, SETTINGS) for _ in range(count)]


def test_resumed_run_equals_an_uninterrupted_one(bank_folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    uninterrupted = pretrain.begin(SETTINGS)
    steps(uninterrupted, bank_folder, 2)
    uninterrupted.save(checkpoint, SETTINGS)
    expected = steps(uninterrupted, bank_folder, 2)
    resumed = pretrain.begin(SETTINGS)
    resumed.restore(checkpoint, SETTINGS)
    assert resumed.step == 2
    assert steps(resumed, bank_folder, 2) == expected
    for name, tensor in uninterrupted.averaged.items():
        torch.testing.assert_close(resumed.averaged[name], tensor, rtol=0, atol=0)
    with pytest.raises(InputError, match="belongs to a run with"):
        resumed.restore(checkpoint, dataclasses.replace(SETTINGS, seed=7))


def test_training_writes_weights_that_load(bank_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bank").symlink_to(bank_folder)
    run = pretrain.train(tmp_path, dataclasses.replace(SETTINGS, minutes=0.02))
    assert run.step >= 1
    out = tmp_path / "small.safetensors"
    pretrain.write_weights(run, out)
    assert out.stat().st_size < 12e6
    clip = tagmask.load(out)
    assert (clip.geometry.vision_layers, clip.geometry.patch, clip.geometry.grid) == (12, 16, 14)
    assert (clip.activation, clip.activation_known) == ("gelu", True)
    assert clip.background == BACKGROUND_NAMES
    assert clip.known_words == frozenset(known_words())
    table = clip.text.token_embedding.weight
    assert not table[list(encode("giraffe"))].any()
    assert table[list(encode("car"))].any()
