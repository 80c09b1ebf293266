from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tagmask.clip.load import load
from tagmask.clip.model import ACTIVATIONS, Vision
from tagmask.clip.state_dict import Geometry
from tagmask.dense import gradcam as module
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.gradcam import softmax_gradcam
from tagmask.dense.positions import bilinear_half
from tagmask.errors import ShapeError

WIDTH, EMBED = 128, 24
SCALE = 20.0


def tower(activation="quickgelu", seed=0):
    """A tower of one random block."""
    geometry = Geometry(
        vision_width=WIDTH,
        vision_layers=1,
        vision_heads=2,
        patch=8,
        grid=4,
        embed=EMBED,
        text_width=64,
        text_layers=1,
        text_heads=1,
        vocab=8,
        context=4,
    )
    vision = Vision(geometry, ACTIVATIONS[activation])
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in vision.named_parameters():
        deviation = 0.2 if "ln_" in name or "bias" in name else 0.12
        tensor.data = torch.randn(tensor.shape, generator=generator) * deviation
        if "ln_" in name and name.endswith("weight"):
            tensor.data += 1
    return vision.requires_grad_(False).eval()


def scene(grid, texts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 1 + grid[0] * grid[1], WIDTH, generator=generator)
    return tokens, F.normalize(torch.randn(texts, EMBED, generator=generator), dim=-1)


def layer_norm(x, layer):
    rows = []
    for row in x:
        deviation = ((row - row.mean()) ** 2).mean().add(1e-5).sqrt()
        rows.append((row - row.mean()) / deviation * layer.weight.double() + layer.bias.double())
    return torch.stack(rows)


def oracle(vision, tokens, texts, target, scale):
    """The paper's program in float64 for one text: forward, backward, average, weighted sum, clip at 0."""
    block = vision.blocks[-1]
    x = tokens[0].double()
    u = layer_norm(x, block.ln_1).requires_grad_()
    projected = u @ block.attn.in_proj_weight.double().T + block.attn.in_proj_bias.double()
    heads = []
    for head in range(WIDTH // 64):
        q, k, v = (projected[:, part * WIDTH + head * 64 :][:, :64] for part in range(3))
        heads.append(torch.softmax(q @ k.T / 64**0.5, dim=-1) @ v)
    merge = block.attn.out_proj
    x = x + torch.cat(heads, dim=-1) @ merge.weight.double().T + merge.bias.double()
    wide, narrow = block.mlp.c_fc, block.mlp.c_proj
    hidden = layer_norm(x, block.ln_2) @ wide.weight.double().T + wide.bias.double()
    x = x + block.mlp.activation(hidden) @ narrow.weight.double().T + narrow.bias.double()
    feature = layer_norm(x, vision.ln_post)[1:].mean(dim=0) @ vision.proj.double()
    probabilities = torch.softmax(scale * texts.double() @ (feature / feature.norm()), dim=0)
    (gradient,) = torch.autograd.grad(probabilities[target], u)
    weights = gradient[1:].mean(dim=0)
    cam = [max(0.0, float(sum(weights * row))) for row in u[1:].detach()]
    return torch.tensor(cam), weights, probabilities.detach()


def assert_close_to_maximum(actual, expected, share):
    """Absolute tolerance: a share of the largest expected value."""
    torch.testing.assert_close(
        actual.double(), expected.double(), rtol=0, atol=share * float(expected.abs().max())
    )


@settings(deadline=None, max_examples=12)
@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    targets=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 5),
)
def test_equals_one_backward_pass_per_text(grid, targets, activation, seed):
    vision = tower(activation, seed)
    tokens, texts = scene(grid, 6, seed)
    result = softmax_gradcam(TowerFeatures(vision, tokens, grid, {}), texts, targets, SCALE)
    assert result.maps.shape == (len(targets), *grid)
    assert result.probabilities.sum().item() == pytest.approx(1, abs=1e-6)
    for row, target in enumerate(targets):
        cam, weights, probabilities = oracle(vision, tokens, texts, target, SCALE)
        assert_close_to_maximum(result.probabilities, probabilities, 1e-5)
        assert_close_to_maximum(result.weights[row], weights, 2e-5)
        # Terms of a sum that ends near 0 are larger than it.
        terms = weights.abs() @ torch.ones(WIDTH, dtype=torch.float64) * 4
        torch.testing.assert_close(
            result.maps[row].flatten().double(), cam.double(), rtol=0, atol=3e-6 * float(terms)
        )


def test_maps_have_positive_and_zero_cells():
    """Otherwise the comparison above might compare zeros."""
    tokens, texts = scene((4, 5), 6)
    maps = softmax_gradcam(TowerFeatures(tower(), tokens, (4, 5), {}), texts, range(6), SCALE).maps
    assert (maps > 0).any(dim=(1, 2)).sum() >= 4
    assert (maps == 0).any(dim=(1, 2)).sum() >= 4
    assert (maps >= 0).all()


@pytest.mark.parametrize("grid", [(31, 33), (32, 32), (45, 47)])
def test_equals_one_backward_pass_per_text_on_large_grids(grid):
    """1,023 patches and a class token are one block of attention weights, more are several."""
    vision = tower()
    tokens, texts = scene(grid, 6)
    result = softmax_gradcam(TowerFeatures(vision, tokens, grid, {}), texts, [4, 1], SCALE)
    blocks = module._blocks(grid[0] * grid[1], 1 + grid[0] * grid[1], module._WEIGHTS_ALIVE)
    assert len(blocks) == {(31, 33): 1, (32, 32): 2, (45, 47): 5}[grid]
    for row, target in enumerate([4, 1]):
        cam, weights, _ = oracle(vision, tokens, texts, target, SCALE)
        assert_close_to_maximum(result.weights[row], weights, 2e-5)
        assert_close_to_maximum(result.maps[row].flatten(), cam, 2e-5)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("_GRADIENTS_ALIVE", 1),
        ("_GRADIENTS_ALIVE", 3 * 20 * WIDTH),
        ("_HIDDEN_ALIVE", 1),
        ("_HIDDEN_ALIVE", 3 * 8 * 4 * WIDTH),  # 3 patches, 8 targets
        ("_WEIGHTS_ALIVE", 1),
        ("_WEIGHTS_ALIVE", 7 * 21),  # 7 of 20 patches, 21 tokens
        ("_WEIGHTS_ALIVE", 20 * 21),
    ],
)
def test_size_of_groups_and_blocks_does_not_change_the_result(monkeypatch, name, limit):
    tokens, texts = scene((4, 5), 9)
    features = TowerFeatures(tower(), tokens, (4, 5), {})
    expected = softmax_gradcam(features, texts, range(8), SCALE)
    monkeypatch.setattr(module, name, limit)
    result = softmax_gradcam(features, texts, range(8), SCALE)
    assert_close_to_maximum(result.weights, expected.weights, 1e-6)
    assert_close_to_maximum(result.maps, expected.maps, 1e-5)


def test_works_on_inference_tensors():
    vision = tower()
    tokens, texts = scene((3, 4), 5)
    expected = softmax_gradcam(TowerFeatures(vision, tokens, (3, 4), {}), texts, [1, 0], SCALE)
    with torch.inference_mode():
        inference = TowerFeatures(vision, tokens * 1, (3, 4), {})
        result = softmax_gradcam(inference, texts * 1, [1, 0], SCALE)
    assert torch.equal(result.maps, expected.maps)
    assert inference.tokens.is_inference()
    # Also outside of inference mode, on tensors created in it.
    assert torch.equal(softmax_gradcam(inference, texts, [1, 0], SCALE).maps, expected.maps)


def test_no_target():
    tokens, texts = scene((3, 4), 5)
    result = softmax_gradcam(TowerFeatures(tower(), tokens, (3, 4), {}), texts, [], SCALE)
    assert result.maps.shape == (0, 3, 4)
    assert result.weights.shape == (0, WIDTH)


def test_single_text_has_no_gradient():
    tokens, texts = scene((3, 4), 1)
    result = softmax_gradcam(TowerFeatures(tower(), tokens, (3, 4), {}), texts, [0], SCALE)
    assert result.probabilities.tolist() == [1]
    assert not result.maps.any()


def test_nearly_certain_text_has_a_gradient():
    vision = tower()
    tokens, texts = scene((5, 5), 6)
    result = softmax_gradcam(TowerFeatures(vision, tokens, (5, 5), {}), texts, range(6), 40.0)
    winner = int(result.probabilities.argmax())
    _, weights, probabilities = oracle(vision, tokens, texts, winner, 40.0)
    assert 0 < 1 - float(probabilities[winner]) < 1e-7
    assert_close_to_maximum(result.weights[winner], weights, 1e-4)


@pytest.mark.parametrize("scale", [1e4, 1e6])
def test_certain_probabilities_give_zeros_and_no_nan(scale):
    tokens, texts = scene((3, 4), 5)
    result = softmax_gradcam(TowerFeatures(tower(), tokens, (3, 4), {}), texts, range(5), scale)
    assert sorted(result.probabilities.tolist()) == [0, 0, 0, 0, 1]
    assert result.maps.isfinite().all()
    assert not result.weights.any()


def test_several_images_are_refused():
    tokens, texts = scene((3, 4), 5)
    with pytest.raises(ShapeError, match="Grad-CAM takes one image at a time"):
        softmax_gradcam(TowerFeatures(tower(), tokens.repeat(2, 1, 1), (3, 4), {}), texts, [0], SCALE)


@pytest.mark.parametrize(("precision", "min_similarity"), [("bfloat16", 0.99), ("float16", 0.999)])
def test_lower_precision_keeps_small_gradients(
    tagclip_weights: Path, precision: str, min_similarity: float
) -> None:
    """Channel weights here are under 6e-8, float16's smallest number: they must be scaled before products."""
    pixels = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    maps = []
    for name in ("float32", precision):
        clip = load(tagclip_weights, device="cpu", precision=name)
        texts = F.normalize(
            torch.randn(4, clip.geometry.embed, generator=torch.Generator().manual_seed(1)), dim=-1
        )
        result = softmax_gradcam(extract_features(clip.vision, pixels, bilinear_half), texts, [0, 1], 1e-4)
        assert 0 < result.weights.abs().max() < 6e-8
        maps.append(result.weights)
    assert F.cosine_similarity(*maps).min() > min_similarity


@torch.inference_mode()
def test_sums_in_bfloat16_are_close_to_those_in_float32(tagclip_weights: Path, monkeypatch) -> None:
    """Of the same features and gradients; features in bfloat16 are themselves off by 1 %."""
    vision = load(tagclip_weights, device="cpu", precision="bfloat16").vision
    pixels = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    features, exact = (extract_features(vision, pixels, bilinear_half) for _ in range(2))
    vars(exact).update({name: getattr(features, name).float() for name in "qkv"})
    out = module._output_path(features)
    pooled = torch.randn(3, vision.proj.shape[0], generator=torch.Generator().manual_seed(1))
    gradient = module._back_to_attention(features, out, pooled)
    monkeypatch.setattr(module, "_WEIGHTS_ALIVE", 2 * 81)  # sums of many blocks are not rounded in between
    found, expected = (
        module._sum_through_attention(tower, out.attention_output, gradient)
        @ vision.blocks[-1].attn.in_proj_weight.float()
        for tower in (features, exact)
    )
    error = float((found - expected).norm() / expected.norm())
    assert 0 < error < 1e-3
