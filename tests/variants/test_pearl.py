"""PEARL's attention against its formula in float64, one head at a time, and its settings."""

from collections.abc import Iterator
from copy import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.rule import patch_features
from tagmask.errors import InputError
from tagmask.variants.pearl import PearlSettings, aligned_attention, polar_factor


@pytest.fixture(scope="module")
def features(sclip_model: Clip) -> Iterator[TowerFeatures]:
    """Two images of 3 x 4 patches before the last block."""
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        yield extract_features(sclip_model.vision, pixels, bicubic_nudged)


def with_projections(features: TowerFeatures, q: Tensor, k: Tensor) -> TowerFeatures:
    """The features with other queries and keys."""
    changed = copy(features)
    changed.__dict__.update(q=q, k=k)  # both are cached properties
    return changed


def naive_attention(q: np.ndarray, k: np.ndarray, settings: PearlSettings) -> np.ndarray:
    """Of one head; rows are tokens, the class token first."""
    w = np.array([0.0, *(np.linalg.norm(row) for row in q[1:])])
    w = w / (w.sum() + 1e-6)
    q_c, k_c = q - w @ q, k - w @ k
    m = k_c.T @ q_c
    if settings.svd:
        u, _, vt = np.linalg.svd(m)
        r = u @ vt
    else:
        gram = m.T @ m
        gamma = max(np.linalg.norm(gram), 1e-6)
        y, z = gram / gamma + 1e-6 * np.eye(len(gram)), np.eye(len(gram))
        for _ in range(settings.polar_iters):
            x = (3 * np.eye(len(gram)) - z @ y) / 2
            y, z = y @ x, x @ z
        r = m @ z / np.sqrt(gamma)
    logits = (q @ (k @ r).T + settings.alpha * k_c @ k_c.T) / 8
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "settings", [PearlSettings(), PearlSettings(alpha=0.3), PearlSettings(alpha=0.0, polar_iters=2)], ids=str
)
@torch.inference_mode()
def test_attention_equals_the_formula(features: TowerFeatures, settings: PearlSettings) -> None:
    weights = aligned_attention(features, settings)
    for image in range(2):
        for head in range(weights.shape[1]):
            q, k = (part[image, head].double().numpy() for part in (features.q, features.k))
            np.testing.assert_allclose(
                weights[image, head], naive_attention(q, k, settings), rtol=0, atol=1e-5
            )


@torch.inference_mode()
def test_the_exact_rotation_equals_the_formula(features: TowerFeatures) -> None:
    # 12 patches leave most directions of a head undetermined, so there are more tokens than channels here.
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 1, 200, 64, generator=generator) for _ in range(2))
    settings = PearlSettings(svd=True)
    weights = aligned_attention(with_projections(features, q, k), settings)
    expected = naive_attention(q[0, 0].double().numpy(), k[0, 0].double().numpy(), settings)
    np.testing.assert_allclose(weights[0, 0], expected, rtol=0, atol=1e-5)


def test_many_steps_reach_the_rotation_and_five_do_not() -> None:
    u, _, vt = torch.linalg.svd(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    matrix = u * torch.logspace(0, -1.5, 16) @ vt
    errors = [(polar_factor(matrix, steps) - u @ vt).abs().max() for steps in (5, 12, 30)]
    assert errors[0] > 0.1
    assert errors[2] < 0.01
    assert errors[0] > errors[1] > errors[2]
    values = torch.linalg.svdvals(polar_factor(matrix, 5)[0, 0])
    assert values[0] == pytest.approx(1, abs=0.02)
    assert values[-1] < 0.5  # far from a rotation


@torch.inference_mode()
def test_computed_in_float32_from_bfloat16(features: TowerFeatures) -> None:
    rounded = features.q.bfloat16(), features.k.bfloat16()
    half, full = (
        aligned_attention(with_projections(features, *(part.to(dtype) for part in rounded)), PearlSettings())
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert half.dtype == torch.float32
    assert torch.equal(half, full)


@torch.inference_mode()
def test_full_form_keeps_the_residual_and_the_mlp(features: TowerFeatures) -> None:
    weights = aligned_attention(features, PearlSettings())
    bare, full = (
        patch_features(features, dense_rule("pearl", 4, PearlSettings(block_form=form)))
        for form in ("bare", "full")
    )
    torch.testing.assert_close(full, features.project_last_block(weights)[:, 1:])
    torch.testing.assert_close(bare, features.vision.project(features.attend(weights).float())[:, 1:])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"alpha": -0.1}, "alpha is -0.1. Give a number, 0 or more"),
        ({"polar_iters": -1}, "polar_iters is -1. Give a whole number, 0 or more"),
        ({"block_form": "half"}, "block_form"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PearlSettings(**wrong)
