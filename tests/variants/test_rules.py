"""Dense methods against naive formulas, on narrow grids and in towers of other depths.

What every method guarantees for batches, sizes and words is in `tests/contracts/test_dense.py`.
"""

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tagmask.catalogue import dense_rule, method_names
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec, TowerFeatures, extract_features
from tagmask.dense.positions import POSITIONS, bicubic_nudged
from tagmask.dense.rule import Layers, SecondPassContext, VariantSettings, patch_cosines, patch_features
from tagmask.errors import InputError
from tagmask.variants.clip import EarlySettings, LocalSettings, SharpSettings
from tagmask.variants.resclip import ResclipSettings
from tagmask.variants.sclip import RandomSettings

METHODS = sorted(set(method_names("masks")) - {"sclip-learned", "cls-seg", "clip-es"})
"""Dense methods that need no file; the others have their own tests."""
ROW_SUMS = {
    "clip": 1.0,
    "sclip": 2.0,
    "sclip-q": 1.0,
    "sclip-k": 1.0,
    "sclip-q2": 2.0,
    "sclip-k2": 2.0,
    "sclip-identity": 1.0,
    "clip-sharp": 1.0,
    "clearclip": 1.0,
    "clip-surgery": 1.0,
}


def naive(method: str, z: np.ndarray, weight: np.ndarray, bias: np.ndarray, head: int) -> np.ndarray:
    """Attention weights of one head, entry by entry, in float64."""
    width = z.shape[1]
    rows = slice(64 * head, 64 * head + 64)
    q, k, v = (
        (z @ weight[i * width : (i + 1) * width].T + bias[i * width : (i + 1) * width])[:, rows]
        for i in range(3)
    )
    pairs = {
        "clip": [(q, k)],
        "clip-sharp": [(4 * q, k)],
        "sclip": [(q, q), (k, k)],
        "sclip-q": [(q, q)],
        "sclip-k": [(k, k)],
        "sclip-q2": [(q, q), (q, q)],
        "sclip-k2": [(k, k), (k, k)],
        "sclip-identity": [(z[:, rows], z[:, rows])],
        "clearclip": [(q, q)],
        "clip-surgery": [(v, v)],
    }[method]
    total = np.zeros((len(z), len(z)))
    for x, y in pairs:
        for i in range(len(z)):
            row = [math.exp(float(x[i] @ y[j]) / 8) for j in range(len(z))]
            total[i] += np.array(row) / sum(row)
    return total


def rule_of(method: str, clip: Clip, settings: VariantSettings | None = None):
    return dense_rule(method, len(clip.vision.blocks), settings)


def cosines_of(method: str, clip: Clip, pixels: Tensor, settings: VariantSettings | None = None) -> Tensor:
    rule = rule_of(method, clip, settings)
    tower = extract_features(clip.vision, pixels, POSITIONS[rule.positions], capture=rule.capture)
    texts = F.normalize(torch.randn(5, tower.vision.proj.shape[1], generator=_seeded(1)), dim=-1)
    return patch_cosines(tower, rule, SecondPassContext(pixels, texts, 40.0))


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tower(sclip_model: Clip) -> TowerFeatures:
    return extract_features(
        sclip_model.vision, torch.randn(2, 3, 48, 64, generator=_seeded(3)), bicubic_nudged
    )


@pytest.mark.parametrize("method", ROW_SUMS)
def test_weights_equal_the_formula(method: str, tower: TowerFeatures, sclip_model: Clip) -> None:
    weights = rule_of(method, sclip_model).weights(tower)
    assert weights is not None
    attention = tower.block.attn
    weight, bias = attention.in_proj_weight.numpy(), attention.in_proj_bias.numpy()
    for image in range(2):
        for head in range(2):
            expected = naive(
                method, tower.z[image].double().numpy(), weight.astype(float), bias.astype(float), head
            )
            np.testing.assert_allclose(weights[image, head].numpy(), expected, rtol=0, atol=1e-5)
            np.testing.assert_allclose(expected.sum(axis=1), ROW_SUMS[method], rtol=1e-9)


def test_value_only_equals_identity_attention(tower: TowerFeatures, sclip_model: Clip) -> None:
    n = tower.tokens.shape[1]
    identity = torch.eye(n).expand(2, 2, n, n)
    assert rule_of("maskclip", sclip_model).weights(tower) is None
    torch.testing.assert_close(
        tower.project_last_block(None), tower.project_last_block(identity), rtol=0, atol=1e-6
    )


def test_value_only_never_computes_queries_and_keys(sclip_model: Clip) -> None:
    fresh = extract_features(sclip_model.vision, torch.zeros(1, 3, 32, 32), bicubic_nudged)
    fresh.project_last_block(rule_of("maskclip", sclip_model).weights(fresh))
    assert "v" in vars(fresh)
    assert not {"q", "k"} & vars(fresh).keys()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (16, 80), (32, 32), (96, 32)])
@pytest.mark.parametrize("method", METHODS)
def test_small_and_narrow_grids_are_finite(method: str, size: tuple[int, int], variants_model: Clip) -> None:
    for pixels in (torch.randn(1, 3, *size, generator=_seeded(2)), torch.zeros(1, 3, *size)):
        cosines = cosines_of(method, variants_model, pixels)
        assert cosines.shape == (1, 5, size[0] * size[1] // 256)
        assert torch.isfinite(cosines).all()


# -- Settings ------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_local_window_of_one_equals_maskclip(variants_model: Clip) -> None:
    pixels = torch.randn(2, 3, 64, 80, generator=_seeded(4))
    local = cosines_of("clip-local", variants_model, pixels, LocalSettings(local_window=1))
    torch.testing.assert_close(local, cosines_of("maskclip", variants_model, pixels), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_large_local_window_masks_only_the_class_token(variants_model: Clip) -> None:
    pixels = torch.randn(1, 3, 48, 48, generator=_seeded(4))
    rule = rule_of("clip-local", variants_model, LocalSettings(local_window=9))
    weights = rule.weights(extract_features(variants_model.vision, pixels, bicubic_nudged))
    assert weights is not None
    assert (weights[:, :, 1:, 0] == 0).all()
    assert (weights[:, :, 1:, 1:] > 0).all()
    assert (weights[:, :, 0] > 0).all()


@torch.inference_mode()
def test_early_attention_equals_that_layer(variants_model: Clip) -> None:
    pixels = torch.randn(1, 3, 48, 48, generator=_seeded(4))
    for layer in (0, 3, 10):
        rule = rule_of("clip-early", variants_model, EarlySettings(early_layer=layer))
        tower = extract_features(variants_model.vision, pixels, bicubic_nudged, capture=rule.capture)
        before = extract_features(
            variants_model.vision, pixels, bicubic_nudged, capture=CaptureSpec(last_blocks=12)
        )
        block = variants_model.vision.blocks[layer]
        x = before.states[layer - 1] if layer else _embedded(variants_model, pixels)
        q, k, _ = block.attn.qkv(block.ln_1(x))
        expected = torch.softmax((q @ k.transpose(-2, -1)).float() / 8, dim=-1)
        actual = rule.weights(tower)
        assert actual is not None
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def _embedded(clip: Clip, pixels: Tensor) -> Tensor:
    vision = clip.vision
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    return vision.embed(pixels, bicubic_nudged(vision.positional_embedding, grid))


@torch.inference_mode()
def test_ensemble_is_the_mean_of_its_members(variants_model: Clip) -> None:
    pixels = torch.randn(1, 3, 48, 48, generator=_seeded(4))
    tower = extract_features(variants_model.vision, pixels, bicubic_nudged)
    rng = np.random.Generator(np.random.PCG64(3))
    width = tower.z.shape[-1]
    parts = []
    for _ in range(4):
        w = torch.from_numpy(rng.standard_normal((width, width), dtype=np.float32) * width**-0.5)
        y = (tower.z @ w).reshape(1, -1, width // 64, 64).transpose(1, 2)
        parts.append(torch.softmax(y @ y.transpose(-2, -1) / 8, dim=-1))
    rule = rule_of("sclip-random", variants_model, RandomSettings(ensemble=4, ensemble_seed=3))
    actual = rule.weights(tower)
    assert actual is not None
    torch.testing.assert_close(actual, torch.stack(parts).mean(dim=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings_type", "settings"),
    [
        (SharpSettings, {"divisor": 0.0}),
        (LocalSettings, {"local_window": 0}),
        (EarlySettings, {"early_layer": 11}),
        (RandomSettings, {"ensemble": 0}),
        (ResclipSettings, {"rcs_share": 1.5}),
        (ResclipSettings, {"temp_thd": -0.1}),
    ],
)
def test_settings_out_of_range_are_refused(
    settings_type: type[VariantSettings], settings: Mapping[str, float]
) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        settings_type(**settings)


def test_layers_of_deeper_towers() -> None:
    assert [Layers(12)(layer) for layer in range(11)] == list(range(11))
    assert [Layers(24)(layer) for layer in (3, 5, 8, 10)] == [7, 11, 17, 22]
    assert [Layers(24, absolute=True)(layer) for layer in (3, 5, 8, 10)] == [3, 5, 8, 10]
    assert (Layers(24).last(6), Layers(24, absolute=True).last(6), Layers(4).last(6)) == (12, 6, 2)


@torch.inference_mode()
@pytest.mark.parametrize("method", METHODS)
def test_every_method_works_in_a_shallow_tower(method: str, sclip_model: Clip) -> None:
    pixels = torch.randn(1, 3, 64, 64, generator=_seeded(2))
    assert torch.isfinite(cosines_of(method, sclip_model, pixels)).all()


# -- Feature extraction --------------------------------------------------------------------------------------


def test_only_requested_layers_are_captured(sclip_model: Clip) -> None:
    pixels = torch.zeros(1, 3, 32, 32)
    default = extract_features(sclip_model.vision, pixels, bicubic_nudged)
    assert (dict(default.attention), dict(default.states), dict(default.heads)) == ({}, {}, {})
    group = frozenset({0, 2})
    spec = CaptureSpec(states=frozenset({1}), attention=frozenset({1}), heads=frozenset({group}))
    tower = extract_features(sclip_model.vision, pixels, bicubic_nudged, capture=spec)
    assert (set(tower.attention), set(tower.states), set(tower.heads)) == ({1}, {1}, {group})
    torch.testing.assert_close(tower.attention[1].sum(dim=-1), torch.ones(1, 5))
    torch.testing.assert_close(tower.heads[group].sum(dim=-1), torch.ones(1, 2, 5))


def test_missing_layers_are_refused(sclip_model: Clip) -> None:
    with pytest.raises(InputError, match=r"layers \[9\].*these weights have 4 layers"):
        extract_features(sclip_model.vision, torch.zeros(1, 3, 32, 32), bicubic_nudged, attention={9})


def test_capturing_does_not_change_the_tokens(sclip_model: Clip) -> None:
    pixels = torch.randn(1, 3, 64, 48, generator=_seeded(1))
    plain = extract_features(sclip_model.vision, pixels, bicubic_nudged)
    averaged = extract_features(sclip_model.vision, pixels, bicubic_nudged, attention=frozenset(range(3)))
    groups = frozenset(frozenset({layer}) for layer in range(3))
    by_head = extract_features(sclip_model.vision, pixels, bicubic_nudged, capture=CaptureSpec(heads=groups))
    for captured in (averaged, by_head):
        torch.testing.assert_close(plain.tokens, captured.tokens, rtol=0, atol=1e-5)
    for layer in range(3):
        mean = by_head.heads[frozenset({layer})].mean(dim=1)
        torch.testing.assert_close(mean, averaged.attention[layer], rtol=0, atol=1e-6)


def test_forward_from_an_earlier_block_equals_the_tower(sclip_model: Clip) -> None:
    pixels = torch.randn(1, 3, 64, 48, generator=_seeded(1))
    with torch.inference_mode():
        tower = extract_features(
            sclip_model.vision, pixels, bicubic_nudged, capture=CaptureSpec(last_blocks=3)
        )
        x = tower.at_block(1).tokens
        for block in sclip_model.vision.blocks[1:-1]:
            x = block(x)
    torch.testing.assert_close(x, tower.tokens, rtol=0, atol=1e-5)


def test_patch_features_exclude_the_class_token(variants_model: Clip) -> None:
    pixels = torch.randn(1, 3, 64, 48, generator=_seeded(1))
    for method in ("clip", "sc-clip", "gem"):
        rule = rule_of(method, variants_model)
        tower = extract_features(variants_model.vision, pixels, bicubic_nudged, capture=rule.capture)
        texts = torch.eye(variants_model.vision.proj.shape[1])
        assert patch_features(tower, rule, SecondPassContext(pixels, texts, 40.0)).shape[:2] == (1, 12)


def test_unknown_method_suggests_a_known_one() -> None:
    with pytest.raises(InputError, match=r"Unknown method 'slip'. Did you mean sclip"):
        dense_rule("slip", 12)
