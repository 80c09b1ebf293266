"""MaskCLIP's two refinements, written naively: one patch and one text at a time, in float64."""

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


def unsure_cosines(seed: int) -> Tensor:
    """Cosines so near each other that no text is certain anywhere."""
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + 0.04 * torch.rand(2, TEXTS, GRID[0] * GRID[1], generator=generator)


def softmax_over_texts(cosines: np.ndarray) -> np.ndarray:
    """(texts, patches): in each patch, 100 times the cosines to probabilities."""
    out = np.zeros_like(cosines)
    for patch in range(cosines.shape[1]):
        powers = [math.exp(100 * (c - cosines[:, patch].max())) for c in cosines[:, patch]]
        for text, power in enumerate(powers):
            out[text, patch] = power / sum(powers)
    return out


def naive_keys(features: TowerFeatures, image: int) -> list[np.ndarray]:
    """Each patch's key, all heads together, through the output projection, at length 1."""
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
        guesses = softmax_over_texts(cosines[image].double().numpy())
        keys = naive_keys(features, image)
        for i in range(len(keys)):
            if max(guesses[:, i]) < 1:
                for j in range(len(keys)):
                    out[image, :, i] += float(keys[i] @ keys[j]) * guesses[:, j]
            else:
                out[image, :, i] = guesses[:, i]
    return out


def naive_denoised(cosines: Tensor) -> np.ndarray:
    out = cosines.numpy().copy()
    for image in range(len(cosines)):
        guesses = softmax_over_texts(cosines[image].double().numpy())
        for text in range(cosines.shape[1]):
            if max(guesses[text]) < 0.5:
                out[image, text] = -1
    return out


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(3))
def test_key_smoothing_is_the_formula(features: TowerFeatures, seed: int) -> None:
    cosines = unsure_cosines(seed)
    found = smoothed(features, cosines).numpy()
    np.testing.assert_allclose(found, naive_smoothed(features, cosines), rtol=0, atol=2e-5)


@torch.inference_mode()
def test_key_smoothing_leaves_patches_that_are_certain(features: TowerFeatures) -> None:
    # A lead of 0.5 is exp(50) to 1: a probability of exactly 1, and the only patches that keep their guess.
    cosines = unsure_cosines(0)
    certain = [(0, 2, 5), (0, 0, 7), (1, 4, 0)]
    for image, text, patch in certain:
        cosines[image, text, patch] = 0.75
    found = smoothed(features, cosines).numpy()
    np.testing.assert_allclose(found, naive_smoothed(features, cosines), rtol=0, atol=2e-5)
    for image, text, patch in certain:
        np.testing.assert_allclose(found[image, :, patch], np.eye(TEXTS)[text], rtol=0, atol=1e-12)
    sums = found.sum(axis=1)
    assert (np.abs(sums - 1) > 0.1).sum() == sums.size - len(certain)  # the others are sums over patches


@torch.inference_mode()
@pytest.mark.parametrize("seed", range(3))
def test_denoising_is_the_formula(features: TowerFeatures, seed: int) -> None:
    cosines = unsure_cosines(seed)
    # In each image one text leads in one patch; over patches, another text would.
    cosines[0, 1, 4] = cosines[0, :, 4].max() + 0.02
    cosines[1, 3, 9] = cosines[1, :, 9].max() + 0.02
    wanted = naive_denoised(cosines)
    removed = (wanted == -1).all(axis=2)
    assert not removed[0, 1]
    assert not removed[1, 3]
    assert removed.any(axis=1).all(), "each image must lose a text, or nothing is tested"
    np.testing.assert_array_equal(denoised(features, cosines).numpy(), wanted)


@torch.inference_mode()
def test_denoising_keeps_a_text_for_its_best_patch_and_its_own_image(features: TowerFeatures) -> None:
    # Two texts that share every patch have just under a half each; a third leads in one patch of one image.
    cosines = torch.full((2, 3, 12), 0.25)
    cosines[:, :2] = 0.3
    cosines[1, 2, 11] = 0.31
    found = denoised(features, cosines)
    assert (found[0] == -1).all()
    assert (found[1, :2] == -1).all()
    assert torch.equal(found[1, 2], cosines[1, 2])


def test_the_methods_use_them() -> None:
    assert MASKCLIP_SMOOTHED.scores is smoothed
    assert MASKCLIP_DENOISED.scores is denoised
