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
from tagmask.miniature.draw import Part
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES
from tagmask.miniature.training import first_stage, pretrain, progress, second_stage
from tagmask.miniature.training.bank import close_scene, open_bank, wide_scene
from tagmask.miniature.training.batches import close_batch, greyed, mixed_batch
from tagmask.miniature.training.towers import Towers
from tagmask.miniature.training.variation import varied

SETTINGS = pretrain.Settings(
    wide=6,
    close=10,
    first=first_stage.FirstStage(minutes=1.0, close_batch=6, batch=4, text_steps=6),
    second=second_stage.SecondStage(minutes=1.0, close_batch=6, batch=4, picks=2),
)


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
    singles, cells = first_stage.regions(positions.flatten(1, 2).float(), collages=2)
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
        first, _, patches = model.encode_image(pixels)
        isolated = model.encode_image(pixels, isolated_layers=11).whole
        # Isolated up to the last block, the class token does not depend on the image before it.
        other = model.encode_image(torch.randn(2, 3, 224, 224), isolated_layers=12).whole
    assert patches.shape == (2, 196, 128)
    assert not torch.allclose(first, isolated, atol=1e-4)
    assert torch.allclose(first.norm(dim=-1), torch.ones(2))
    assert torch.isfinite(other).all()


def test_paths_of_the_last_block_are_those_of_the_methods() -> None:
    """The trained paths are what MaskCLIP, SCLIP and ClearCLIP compute with the written weights."""
    torch.manual_seed(0)
    model = Towers().eval()
    model.start(torch.Generator().manual_seed(1))
    pixels = torch.randn(1, 3, 224, 224)
    picks = torch.tensor([3, 50])
    vision = model.visual
    with torch.no_grad():
        x = vision.embed(pixels, vision.positional_embedding)
        for block in vision.blocks[:-1]:
            x = block(x)
        last = vision.blocks[-1]
        q, k, v = last.attn.qkv(last.ln_1(x))
        ordinary = vision.project(last(x))

        def encoded(weights: torch.Tensor, *, bare: bool) -> torch.Tensor:
            merged = last.attn.merge(weights @ v)
            return vision.project(merged if bare else last.feed_forward(x + merged))[:, 1:]

        itself = torch.eye(197).expand(1, 2, -1, -1)
        similar = torch.softmax(q @ q.mT / 8, dim=-1) + torch.softmax(k @ k.mT / 8, dim=-1)
        for path, weights in (("value", itself), ("correlative", similar)):
            for bare in (False, True):
                tokens = model.encode_image(pixels, path=path, bare=bare, picks=picks)
                expected = torch.nn.functional.normalize(encoded(weights, bare=bare), dim=-1)
                torch.testing.assert_close(tokens.patches, expected, rtol=1e-4, atol=1e-5)
                for mine, theirs in (
                    (tokens.whole, ordinary[:, 0]),
                    (tokens.picked, ordinary[:, 1 + picks]),
                ):
                    theirs = torch.nn.functional.normalize(theirs, dim=-1)
                    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_grey_images_have_equal_channels_and_the_others_stay() -> None:
    pixels = torch.rand(40, 3, 8, 8)
    grey, is_grey = greyed(pixels, 0.5, np.random.default_rng(0))
    assert 8 < int(is_grey.sum()) < 32
    torch.testing.assert_close(grey[~is_grey], pixels[~is_grey], rtol=0, atol=0)
    assert (grey[is_grey] == grey[is_grey][:, :1]).all()


def test_colours_of_grey_images_are_not_learned(bank_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all images grey, no coloured phrase may count, whatever its text feature is."""
    bank = open_bank(bank_folder, SETTINGS.wide, SETTINGS.close)
    settings = dataclasses.replace(SETTINGS.second, grey_share=1.0, bare_share=0.0)
    batch = mixed_batch(bank, 4, (0, 1))
    torch.manual_seed(0)
    model = Towers()
    model.start(torch.Generator().manual_seed(1))
    masks = []
    monkeypatch.setattr(
        second_stage, "phrase_loss", lambda cosines, _, *two: masks.append(two) or cosines.sum() * 0
    )
    monkeypatch.setattr(second_stage, "caption_loss", lambda images, *_: images.sum() * 0 + len(images))
    terms = second_stage.losses(model, batch, settings, (0, 0, 0), "value")
    assert terms["whole"] == 0  # no caption is contrasted
    for is_entailed, ruled_out in masks:
        assert is_entailed[:, : len(CLASS_NAMES)].any()
        assert not is_entailed[:, len(first_stage.PHRASES) :].any()
        assert not ruled_out[:, len(first_stage.PHRASES) :].any()


def test_variations_keep_the_frame_and_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    square = np.array([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)])
    drawing = [
        Part(square, (200, 30, 30)),
        Part(square * 0.5, None),
        Part(square * 0.3, (20, 20, 200)),
        Part(square * 0.2, (240, 240, 240)),
    ]
    changed = set()
    for seed in range(60):
        out = varied(drawing, (200, 30, 30), np.random.default_rng(seed))
        assert any(part.colour is None for part in out)
        assert max(float(np.abs(part.outline).max()) for part in out) < 1.0
        changed |= {
            "fewer" * (len(out) < len(drawing)),
            "bent" * (not np.allclose(out[0].outline, square)),
            "same" * all(a is b for a, b in zip(out, drawing, strict=False)),
            "silhouette" * (len({part.colour for part in out} - {None}) == 1),
        }
    assert changed >= {"fewer", "bent", "same", "silhouette"}


def steps(run: progress.Progress, bank_folder: Path, count: int) -> list[progress.Terms]:
    bank = open_bank(bank_folder, SETTINGS.wide, SETTINGS.close)
    gradients = second_stage.gradients(run.model, bank, SETTINGS.second)
    return [progress.advance(run, SETTINGS.second, gradients) for _ in range(count)]


def begin() -> progress.Progress:
    model = Towers()
    model.start(torch.Generator().manual_seed(0))
    return progress.begin(model, SETTINGS.second)


def test_resumed_run_equals_an_uninterrupted_one(bank_folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    uninterrupted = begin()
    steps(uninterrupted, bank_folder, 2)
    uninterrupted.save(checkpoint, SETTINGS.second)
    expected = steps(uninterrupted, bank_folder, 2)
    resumed = begin()
    resumed.restore(checkpoint, SETTINGS.second)
    assert resumed.step == 2
    assert steps(resumed, bank_folder, 2) == expected
    for name, tensor in uninterrupted.averaged.items():
        torch.testing.assert_close(resumed.averaged[name], tensor, rtol=0, atol=0)
    with pytest.raises(InputError, match="belongs to a run with"):
        resumed.restore(checkpoint, dataclasses.replace(SETTINGS.second, seed=7))


def test_training_writes_weights_that_load(bank_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bank").symlink_to(bank_folder)
    short = dataclasses.replace(
        SETTINGS,
        first=dataclasses.replace(SETTINGS.first, minutes=0.02),
        second=dataclasses.replace(SETTINGS.second, minutes=0.02),
    )
    weights = pretrain.train(tmp_path, short)
    first, second = (
        torch.load(tmp_path / f"{stage}.pt", weights_only=False) for stage in ("first", "second")
    )
    assert min(first["step"], second["step"]) >= 1
    name = "visual.transformer.resblocks.11.mlp.c_fc.weight"
    stages = torch.stack([first["averaged"][name], second["averaged"][name]])
    assert not torch.equal(*stages)
    torch.testing.assert_close(weights[name], stages.mean(dim=0))
    out = tmp_path / "small.safetensors"
    pretrain.write_weights(weights, out)
    assert out.stat().st_size < 12e6
    clip = tagmask.load(out)
    assert (clip.geometry.vision_layers, clip.geometry.patch, clip.geometry.grid) == (12, 16, 14)
    assert (clip.activation, clip.activation_known) == ("gelu", True)
    assert clip.background == BACKGROUND_NAMES
    assert clip.known_words == frozenset(known_words())
    table = clip.text.token_embedding.weight
    assert not table[list(encode("giraffe"))].any()
    assert table[list(encode("car"))].any()
    (tmp_path / "second.pt").unlink()
    again = pretrain.train(tmp_path, short, start=out)
    torch.testing.assert_close(again["text.ln_final.weight"], weights["text.ln_final.weight"].half().float())
