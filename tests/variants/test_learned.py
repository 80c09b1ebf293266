"""The learned projection as a method: formula, file format, refused inputs."""

import logging
import shutil
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
from tagmask.runs.describe import segmenter_identity
from tagmask.runs.identity import RunIdentity
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


def write(path: Path, projection: Projection) -> LearnedSettings:
    write_projection(path, projection)
    return LearnedSettings(projection=str(path))


@pytest.fixture
def random_projection(variants_model: Clip) -> Projection:
    width = variants_model.geometry.vision_width
    matrix = torch.randn(width, width, generator=_seeded(1)) * width**-0.5
    bias = torch.randn(width, generator=_seeded(2)) / 10
    return Projection(matrix, bias, fingerprint(variants_model.vision), "random")


def cosines_of(method: str, clip: Clip, pixels: Tensor, settings: LearnedSettings) -> Tensor:
    rule = dense_rule(method, len(clip.vision.blocks), settings if method == "sclip-learned" else None)
    tower = extract_features(clip.vision, pixels, bicubic_nudged, capture=rule.capture)
    texts = F.normalize(torch.randn(5, clip.geometry.embed, generator=_seeded(1)), dim=-1)
    return patch_cosines(tower, rule, SecondPassContext(pixels, texts, 40.0))


@pytest.mark.parametrize("with_bias", [True, False])
def test_weights_equal_the_formula(
    with_bias: bool, variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    bias = random_projection.bias if with_bias else None
    projection = Projection(random_projection.matrix, bias, random_projection.weights)
    settings = write(tmp_path / "p.safetensors", projection)
    tower = extract_features(
        variants_model.vision, torch.randn(1, 3, 32, 48, generator=_seeded(3)), bicubic_nudged
    )
    result = dense_rule("sclip-learned", 12, settings).weights(tower)
    assert result is not None
    y = tower.z[0].double().numpy() @ projection.matrix.double().numpy()
    if bias is not None:
        y = y + bias.double().numpy()
    for head in range(result.shape[1]):
        part = y[:, 64 * head : 64 * head + 64]
        for i in range(len(part)):
            row = np.array([np.exp(float(part[i] @ other) / 8) for other in part])
            np.testing.assert_allclose(result[0, head, i].numpy(), row / row.sum(), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_query_projection_equals_sclip_q(variants_model: Clip, tmp_path: Path) -> None:
    pixels = torch.randn(2, 3, 64, 80, generator=_seeded(4))
    settings = write(tmp_path / "p.safetensors", query_projection(variants_model.vision))
    result = cosines_of("sclip-learned", variants_model, pixels, settings)
    torch.testing.assert_close(
        result, cosines_of("sclip-q", variants_model, pixels, settings), rtol=0, atol=1e-6
    )


@torch.inference_mode()
def test_batch_equals_single_images(
    variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    settings = write(tmp_path / "p.safetensors", random_projection)
    pixels = torch.randn(3, 3, 64, 112, generator=_seeded(5))
    together = cosines_of("sclip-learned", variants_model, pixels, settings)
    for i in range(3):
        single = cosines_of("sclip-learned", variants_model, pixels[i : i + 1], settings)
        torch.testing.assert_close(single[0], together[i], rtol=0, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (16, 80), (32, 32), (96, 32)])
def test_small_and_narrow_grids_are_finite(
    size: tuple[int, int], variants_model: Clip, random_projection: Projection, tmp_path: Path
) -> None:
    settings = write(tmp_path / "p.safetensors", random_projection)
    for pixels in (torch.randn(1, 3, *size, generator=_seeded(2)), torch.zeros(1, 3, *size)):
        cosines = cosines_of("sclip-learned", variants_model, pixels, settings)
        assert cosines.shape == (1, 5, size[0] * size[1] // 256)
        assert torch.isfinite(cosines).all()


# -- The file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_bias", [True, False])
def test_written_file_is_read_back(with_bias: bool, random_projection: Projection, tmp_path: Path) -> None:
    bias = random_projection.bias if with_bias else None
    projection = Projection(random_projection.matrix, bias, random_projection.weights, "how")
    write_projection(tmp_path / "p.safetensors", projection)
    result = read_projection(tmp_path / "p.safetensors")
    assert torch.equal(result.matrix, projection.matrix)
    assert (result.bias is None) is (bias is None)
    assert bias is None or (result.bias is not None and torch.equal(result.bias, bias))
    assert (result.weights, result.trained, result.width) == (projection.weights, "how", projection.width)


def test_invalid_files_are_refused(random_projection: Projection, tmp_path: Path) -> None:
    file = tmp_path / "p.safetensors"
    with pytest.raises(InputError, match=r"p.safetensors cannot be read: .*tagmask train projection"):
        read_projection(file)
    file.write_bytes(b"words, words, words")
    with pytest.raises(InputError, match="cannot be read"):
        read_projection(file)
    matrix, head = random_projection.matrix, {"format": "tagmask-projection"}
    for tensors, metadata, match in (
        ({"matrix": matrix}, None, "is not a projection: it holds matrix"),
        ({"other": matrix}, head, "is not a projection: it holds other"),
        ({"matrix": matrix[:, :64].contiguous()}, head, "is not a projection"),
        ({"matrix": matrix, "bias": torch.zeros(3)}, head, r"bias of shape \(3,\)"),
        ({"matrix": matrix * torch.nan}, head, "NaN or infinite"),
    ):
        file.write_bytes(safetensors.torch.save(tensors, metadata))
        with pytest.raises(InputError, match=match):
            read_projection(file)


def test_missing_file_and_other_weights_are_reported(
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
    with pytest.raises(InputError, match="for tokens of width 64, but these weights have width"):
        check_projection(write(tmp_path / "narrow.safetensors", narrow), vision)
    with caplog.at_level(logging.WARNING, logger="tagmask"):
        check_projection(write(tmp_path / "p.safetensors", random_projection), vision)
        assert not caplog.records
        other = Projection(random_projection.matrix, None, "other weights")
        check_projection(write(tmp_path / "other.safetensors", other), vision)
    assert "other.safetensors was trained on other weights" in caplog.text
    assert fingerprint(load(sclip_weights, device="cpu").vision) != fingerprint(vision)


def test_fingerprint_does_not_depend_on_precision(sclip_weights: Path) -> None:
    result = {
        fingerprint(load(sclip_weights, device="cpu", precision=each).vision)
        for each in ("float32", "bfloat16")
    }
    assert len(result) == 1


def test_segmenter_uses_the_file(variants_model: Clip, random_projection: Projection, tmp_path: Path) -> None:
    write_projection(tmp_path / "queries.safetensors", query_projection(variants_model.vision))
    write_projection(tmp_path / "random.safetensors", random_projection)
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    common = {"templates": ("a {}.",), "short_side": 64, "crop": None}

    def scores(**settings: object) -> np.ndarray:
        segmenter = tagmask.Segmenter(variants_model, ["cat", "boat"], background=[], **common, **settings)
        result = segmenter(image, scores=True).scores
        assert result is not None
        return result

    queries = scores(method="sclip-learned", projection=str(tmp_path / "queries.safetensors"))
    random = scores(method="sclip-learned", projection=str(tmp_path / "random.safetensors"))
    np.testing.assert_allclose(queries, scores(method="sclip-q"), rtol=0, atol=1e-5)
    assert np.abs(queries - random).max() > 1e-4


def test_the_content_of_the_file_decides_a_run_not_its_path(sclip_model: Clip, tmp_path: Path) -> None:
    projection = query_projection(sclip_model.vision)
    other = Projection(2 * projection.matrix, projection.bias, projection.weights)

    def identity(file: str) -> RunIdentity:
        settings = {"method": "sclip-learned", "projection": str(tmp_path / file)}
        return segmenter_identity(tagmask.Segmenter(sclip_model, ["cat"], **settings))

    write_projection(tmp_path / "a", projection)
    write_projection(tmp_path / "other", other)
    shutil.copy(tmp_path / "a", tmp_path / "same")
    assert identity("a").fields == identity("same").fields
    assert identity("a").fields != identity("other").fields
