"""SCLIP's settings against a naive tower: more than one block, another temperature."""

import numpy as np
import pytest
import torch
from torch import Tensor

import tagmask
from tagmask.catalogue import dense_rule, method
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.rule import block_attention, patch_features
from tagmask.errors import InputError
from tagmask.variants.sclip import SclipSettings


def _pixels() -> Tensor:
    return torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(3))


def _naive(clip: Clip, pixels: Tensor, last_blocks: int, temperature: float) -> Tensor:
    """The whole tower, block by block and head by head."""
    vision = clip.vision
    grid = vision.grid_of((pixels.shape[-2], pixels.shape[-1]))
    x = vision.embed(pixels, bicubic_nudged(vision.positional_embedding, grid))
    for layer, block in enumerate(vision.blocks):
        if layer < len(vision.blocks) - last_blocks:
            x = block(x)
            continue
        projected = block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        q, k, v = projected.chunk(3, dim=-1)
        heads = []
        for head in range(q.shape[-1] // 64):
            part = slice(64 * head, 64 * head + 64)
            similar = [u[..., part] @ u[..., part].transpose(1, 2) / temperature for u in (q, k)]
            heads.append(sum(s.softmax(dim=-1) for s in similar) @ v[..., part])
        x = x + block.attn.out_proj(torch.cat(heads, dim=-1))
        x = x + block.mlp(block.ln_2(x))
    return vision.project(x)[:, 1:]


def _features(clip: Clip, pixels: Tensor, settings: SclipSettings) -> Tensor:
    rule = dense_rule("sclip", len(clip.vision.blocks), settings)
    tower = extract_features(clip.vision, pixels, bicubic_nudged, capture=rule.capture)
    return patch_features(tower, rule)


@torch.inference_mode()
@pytest.mark.parametrize(("last_blocks", "temperature"), [(1, 8.0), (1, 2.0), (2, 8.0), (3, 20.0), (11, 8.0)])
def test_features_equal_a_naive_tower(variants_model: Clip, last_blocks: int, temperature: float) -> None:
    pixels = _pixels()
    settings = SclipSettings(last_blocks=last_blocks, temperature=temperature)
    expected = _naive(variants_model, pixels, last_blocks, temperature)
    torch.testing.assert_close(_features(variants_model, pixels, settings), expected, rtol=0, atol=2e-5)


@torch.inference_mode()
def test_the_defaults_are_the_papers_bit_for_bit(variants_model: Clip) -> None:
    tower = extract_features(variants_model.vision, _pixels(), bicubic_nudged)
    q, k = tower.q * 64**-0.5, tower.k * 64**-0.5
    weights = (q @ tower.q.transpose(-2, -1)).softmax(dim=-1) + (k @ tower.k.transpose(-2, -1)).softmax(-1)
    expected = tower.vision.project(tower.last_block(weights))[:, 1:]
    assert torch.equal(_features(variants_model, _pixels(), SclipSettings()), expected)


@torch.inference_mode()
def test_the_attention_shown_is_that_of_the_last_of_the_blocks(variants_model: Clip) -> None:
    rule = dense_rule("sclip", 12, SclipSettings(last_blocks=3))
    tower = extract_features(variants_model.vision, _pixels(), bicubic_nudged, capture=rule.capture)
    shown, last_alone = block_attention(tower, rule), block_attention(tower, dense_rule("sclip", 12))
    assert shown is not None
    assert last_alone is not None
    torch.testing.assert_close(shown.sum(dim=-1), torch.full(shown.shape[:-1], 2.0))
    assert (shown - last_alone).abs().max() > 1e-4


def test_settings_reach_the_recipe_and_are_checked(sclip_model: Clip) -> None:
    words = ["cat", "dog"]
    recipe = tagmask.Segmenter(sclip_model, words, last_blocks=2, temperature=4.0).recipe
    assert recipe.variant == SclipSettings(last_blocks=2, temperature=4.0)
    assert tagmask.Segmenter(sclip_model, recipe="sclip/voc20").recipe.variant == SclipSettings()
    with pytest.raises(InputError, match=r"these weights have 4 blocks. Give 1 to 3"):
        tagmask.Segmenter(sclip_model, words, last_blocks=4)
    with pytest.raises(InputError, match="temperature"):
        tagmask.Segmenter(sclip_model, words, temperature=0.0)
    with pytest.raises(InputError, match=r"with method maskclip; it belongs to sclip"):
        tagmask.Segmenter(sclip_model, words, method="maskclip", last_blocks=2)


def test_methods_with_other_blocks_share_a_forward_pass(sclip_model: Clip) -> None:
    """`compare` gives each method's own result also where one needs more captured blocks."""
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    segmenter = tagmask.Segmenter(sclip_model, ["cat", "dog"], last_blocks=3)
    compared = segmenter.compare(image, ["sclip", "clip"])
    for name, settings in (("sclip", {"last_blocks": 3}), ("clip", {})):
        alone = tagmask.Segmenter(sclip_model, ["cat", "dog"], method=name, **settings)(image)
        np.testing.assert_array_equal(compared[name].labels, alone.labels)


def test_the_method_has_the_papers_defaults() -> None:
    assert method("sclip", "masks").default_settings() == SclipSettings(last_blocks=1, temperature=8.0)
