"""The learned projection as a method: its formula, its file, what is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

import tagmask
from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip, load
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.rule import SecondPassContext, patch_cosines
from tagmask.errors import InputError
from tagmask.variants.learned import (
    LearnedSettings,
    Projection,
    check_projection,
    fingerprint,
    query_projection,
    read_projection,
    write_projection,
)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def written(path: Path, projection: Projection) -> LearnedSettings:
    write_projection(path, projection)
    return LearnedSettings(projection=str(path))


@pytest.fixture
def random_projection(variants_model: Clip) -> Projection:
    width = variants_model.geometry.vision_width
    matrix = torch.randn(width, width, generator=_seeded(1)) * width**-0.5
    bias = torch.randn(width, generator=_seeded(2)) / 10
    return Projection(matrix, bias, fingerprint(variants_model.vision), "by chance")


def look(method: str, clip: Clip, pixels: Tensor, settings: LearnedSettings) -> Tensor:
    rule = dense_rule(method, len(clip.vision.blocks), settings if method == "sclip-learned" else None)
    tower = extract_features(clip.vision, pixels, bicubic_nudged, capture=rule.capture)
    texts = F.normalize(torch.randn(5, clip.geometry.embed, generator=_seeded(1)), dim=-1)
    return patch_cosines(tower, rule, SecondPassContext(pixels, texts, 40.0))


@pytest.mark.parametrize("with_bias", [True, False])
def test_weights_equal_the_formula(
    with_bias: bool, variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    bias = random_projection.bias if with_bias else None
    given = Projection(random_projection.matrix, bias, random_projection.weights)
    settings = written(tmp_path / "p.safetensors", given)
    tower = extract_features(
        variants_model.vision, torch.randn(1, 3, 32, 48, generator=_seeded(3)), bicubic_nudged
    )
    found = dense_rule("sclip-learned", 12, settings).weights(tower)
    assert found is not None
    y = tower.z[0].double().numpy() @ given.matrix.double().numpy()
    if bias is not None:
        y = y + bias.double().numpy()
    for head in range(found.shape[1]):
        part = y[:, 64 * head : 64 * head + 64]
        for i in range(len(part)):
            row = np.array([np.exp(float(part[i] @ other) / 8) for other in part])
            np.testing.assert_allclose(found[0, head, i].numpy(), row / row.sum(), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_the_block_s_own_queries_are_sclip_q(variants_model: Clip, tmp_path: Path) -> None:
    pixels = torch.randn(2, 3, 64, 80, generator=_seeded(4))
    settings = written(tmp_path / "p.safetensors", query_projection(variants_model.vision))
    found = look("sclip-learned", variants_model, pixels, settings)
    torch.testing.assert_close(found, look("sclip-q", variants_model, pixels, settings), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_a_batch_equals_one_at_a_time(
    variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    settings = written(tmp_path / "p.safetensors", random_projection)
    pixels = torch.randn(3, 3, 64, 112, generator=_seeded(5))
    together = look("sclip-learned", variants_model, pixels, settings)
    for i in range(3):
        alone = look("sclip-learned", variants_model, pixels[i : i + 1], settings)
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (16, 80), (32, 32), (96, 32)])
def test_small_and_narrow_grids_have_numbers(
    size: tuple[int, int], variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    settings = written(tmp_path / "p.safetensors", random_projection)
    for pixels in (torch.randn(1, 3, *size, generator=_seeded(2)), torch.zeros(1, 3, *size)):
        cosines = look("sclip-learned", variants_model, pixels, settings)
        assert cosines.shape == (1, 5, size[0] * size[1] // 256)
        assert torch.isfinite(cosines).all()


# -- The file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_bias", [True, False])
def test_what_is_written_is_read(with_bias: bool, random_projection: Projection, tmp_path: Path) -> None:
    bias = random_projection.bias if with_bias else None
    given = Projection(random_projection.matrix, bias, random_projection.weights, "how")
    write_projection(tmp_path / "p.safetensors", given)
    found = read_projection(tmp_path / "p.safetensors")
    assert torch.equal(found.matrix, given.matrix)
    assert (found.bias is None) is (bias is None)
    assert bias is None or (found.bias is not None and torch.equal(found.bias, bias))
    assert (found.weights, found.trained, found.width) == (given.weights, "how", given.width)


def test_files_that_are_no_projection_are_refused(random_projection: Projection, tmp_path: Path) -> None:
    file = tmp_path / "p.safetensors"
    with pytest.raises(InputError, match=r"p.safetensors cannot be read: .*tagmask train projection"):
        read_projection(file)
    file.write_bytes(b"words, words, words")
    with pytest.raises(InputError, match="cannot be read"):
        read_projection(file)
    matrix, head = random_projection.matrix, {"format": "tagmask-projection"}
    for tensors, metadata, match in (
        ({"matrix": matrix}, None, "is no projection: it holds matrix"),
        ({"other": matrix}, head, "is no projection: it holds other"),
        ({"matrix": matrix[:, :64].contiguous()}, head, "is no projection"),
        ({"matrix": matrix, "bias": torch.zeros(3)}, head, r"bias of shape \(3,\)"),
        ({"matrix": matrix * torch.nan}, head, "not numbers"),
    ):
        file.write_bytes(safetensors.torch.save(tensors, metadata))
        with pytest.raises(InputError, match=match):
            read_projection(file)


def test_no_file_another_width_and_other_weights(
    variants_model: Clip,
    sclip_weights: Path,
    random_projection: Projection,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vision = variants_model.vision
    with pytest.raises(InputError, match=r"sclip-learned needs projection='FILE'.*tagmask train projection"):
        tagmask.Segmenter(variants_model, ["cat"], method="sclip-learned")
    narrow = Projection(torch.eye(64), None, random_projection.weights)
    with pytest.raises(InputError, match="for tokens of width 64, and those of these weights have"):
        check_projection(written(tmp_path / "narrow.safetensors", narrow), vision)
    with caplog.at_level(logging.WARNING, logger="tagmask"):
        check_projection(written(tmp_path / "p.safetensors", random_projection), vision)
        assert not caplog.records
        other = Projection(random_projection.matrix, None, "of others")
        check_projection(written(tmp_path / "other.safetensors", other), vision)
    assert "other.safetensors was trained on other weights" in caplog.text
    assert fingerprint(load(sclip_weights, device="cpu").vision) != fingerprint(vision)


def test_precision_does_not_change_the_fingerprint(sclip_weights: Path) -> None:
    found = {
        fingerprint(load(sclip_weights, device="cpu", precision=each).vision)
        for each in ("float32", "bfloat16")
    }
    assert len(found) == 1


def test_a_segmenter_uses_the_file(
    variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    write_projection(tmp_path / "own.safetensors", query_projection(variants_model.vision))
    write_projection(tmp_path / "chance.safetensors", random_projection)
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    usual = {"templates": ("a {}.",), "short_side": 64, "crop": None}

    def scores(**settings: object) -> np.ndarray:
        segmenter = tagmask.Segmenter(variants_model, ["cat", "boat"], background=[], **usual, **settings)
        found = segmenter(image, scores=True).scores
        assert found is not None
        return found

    own = scores(method="sclip-learned", projection=str(tmp_path / "own.safetensors"))
    chance = scores(method="sclip-learned", projection=str(tmp_path / "chance.safetensors"))
    np.testing.assert_allclose(own, scores(method="sclip-q"), rtol=0, atol=1e-5)
    assert np.abs(own - chance).max() > 1e-4
