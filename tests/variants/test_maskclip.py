"""MaskCLIP's two refinements against naive versions: one patch and one text at a time, in float64."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.variants.maskclip import MASKCLIP_DENOISED, MASKCLIP_SMOOTHED, denoised, smoothed

GRID = (3, 4)
TEXTS = 5


@pytest.fixture(scope="module")
def features(sclip_model: Clip) -> Iterator[TowerFeatures]:
    """Two images of 3 x 4 patches before the last block."""
    pixels = torch.randn(2, 3, GRID[0] * 16, GRID[1] * 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        yield extract_features(sclip_model.vision, pixels, bicubic_nudged)


def uncertain_cosines(seed: int) -> Tensor:
    """Cosines so similar that no text is certain anywhere."""
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + 0.04 * torch.rand(2, TEXTS, GRID[0] * GRID[1], generator=generator)


def softmax_over_texts(cosines: np.ndarray) -> np.ndarray:
    """Probabilities (texts, patches): in each patch, the softmax of 100 times the cosines."""
    out = np.zeros_like(cosines)
    for patch in range(cosines.shape[1]):
        powers = [math.exp(100 * (c - cosines[:, patch].max())) for c in cosines[:, patch]]
        for text, power in enumerate(powers):
            out[text, patch] = power / sum(powers)
    return out


def naive_keys(features: TowerFeatures, image: int) -> list[np.ndarray]:
    """Each patch's key, heads concatenated, through the output projection, normalised."""
    attention = features.block.attn
    width = features.tokens.shape[-1]
    weight, bias = (
        attention.in_proj_weight.double().numpy(),
        attention.in_proj_bias.double().numpy(),
    )
    out_weight, out_bias = (
        attention.out_proj.weight.double().numpy(),
        attention.out_proj.bias.double().numpy(),
    )
    keys = []
    for token in features.block.ln_1(features.tokens)[image].double().numpy()[1:]:
        key = weight[width : 2 * width] @ token + bias[width : 2 * width]
        key = out_weight @ key + out_bias
        keys.append(key / math.sqrt(sum(value * value for value in key)))
    return keys


def naive_smoothed(features: TowerFeatures, cosines: Tensor) -> np.ndarray:
    out = np.zeros(cosines.shape)
    for image in range(len(cosines)):
        probabilities = softmax_over_texts(cosines[image].double().numpy())
        keys = naive_keys(features, image)
        for i in range(len(keys)):
            if max(probabilities[:, i]) < 1:
                for j in range(len(keys)):
                    out[image, :, i] += float(keys[i] @ keys[j]) * probabilities[:, j]
            else:
                out[image, :, i] = probabilities[:, i]
    return out


def naive_denoised(cosines: Tensor) -> np.ndarray:
    out = cosines.numpy().copy()
    for image in range(len(cosines)):
        probabilities = softmax_over_texts(cosines[image].double().numpy())
        for text in range(cosines.shape[1]):
            if max(probabilities[text]) < 0.5:
                out[image, text] = -1
    return out


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(3))
def test_key_smoothing_equals_the_formula(features: TowerFeatures, seed: int) -> None:
    cosines = uncertain_cosines(seed)
    result = smoothed(features, cosines).numpy()
    np.testing.assert_allclose(result, naive_smoothed(features, cosines), rtol=0, atol=2e-5)


@torch.inference_mode()
def test_key_smoothing_does_not_change_certain_patches(features: TowerFeatures) -> None:
    # A lead of 0.5 is exp(50) to 1, a probability of exactly 1: only these patches keep their prediction.
    cosines = uncertain_cosines(0)
    certain = [(0, 2, 5), (0, 0, 7), (1, 4, 0)]
    for image, text, patch in certain:
        cosines[image, text, patch] = 0.75
    result = smoothed(features, cosines).numpy()
    np.testing.assert_allclose(result, naive_smoothed(features, cosines), rtol=0, atol=2e-5)
    for image, text, patch in certain:
        np.testing.assert_allclose(result[image, :, patch], np.eye(TEXTS)[text], rtol=0, atol=1e-12)
    sums = result.sum(axis=1)
    assert (np.abs(sums - 1) > 0.1).sum() == sums.size - len(certain)  # the others are sums over patches


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(3))
def test_denoising_equals_the_formula(features: TowerFeatures, seed: int) -> None:
    cosines = uncertain_cosines(seed)
    # In each image one text leads in one patch; a softmax over patches would choose another text.
    cosines[0, 1, 4] = cosines[0, :, 4].max() + 0.02
    cosines[1, 3, 9] = cosines[1, :, 9].max() + 0.02
    expected = naive_denoised(cosines)
    removed = (expected == -1).all(axis=2)
    assert not removed[0, 1]
    assert not removed[1, 3]
    assert removed.any(axis=1).all(), "each image must lose a text, or the test is void"
    np.testing.assert_array_equal(denoised(features, cosines).numpy(), expected)


@torch.inference_mode()
def test_denoising_keeps_a_text_confident_in_one_patch_of_one_image(features: TowerFeatures) -> None:
    # Two texts share every patch, each just under 0.5; a third leads in one patch of one image.
    cosines = torch.full((2, 3, 12), 0.25)
    cosines[:, :2] = 0.3
    cosines[1, 2, 11] = 0.31
    result = denoised(features, cosines)
    assert (result[0] == -1).all()
    assert (result[1, :2] == -1).all()
    assert torch.equal(result[1, 2], cosines[1, 2])


def test_methods_use_the_refinements() -> None:
    assert MASKCLIP_SMOOTHED.scores is smoothed
    assert MASKCLIP_DENOISED.scores is denoised
