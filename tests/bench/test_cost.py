"""Counted costs against torch's counter on a real tower, and against the specification's figures."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from tagmask.bench.cost import recipe_cost, refinement_costs, sentence_macs, window_macs
from tagmask.catalogue import dense_rule
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bicubic_nudged
from tagmask.dense.rule import SecondPassContext, patch_cosines
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import MaskRecipe


def dense(name: str, **settings: object) -> MaskRecipe:
    found = mask_recipe(name, overrides=settings)
    assert isinstance(found, MaskRecipe)
    return found


@pytest.mark.parametrize(
    "settings", [{"method": "clip"}, {"method": "maskclip"}, {}, {"last_blocks": 3}], ids=str
)
@torch.inference_mode()
def test_macs_equal_those_that_torch_counts(settings: dict[str, object], variants_model: Clip) -> None:
    recipe, geometry = dense("sclip/voc20", **settings), variants_model.geometry
    pixels, texts = torch.randn(1, 3, 64, 96), torch.randn(30, geometry.embed)
    rule = dense_rule(recipe.method, geometry.vision_layers, recipe.variant)
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(
        display=False, custom_mapping={on_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)}
    )
    with counter:
        tower = extract_features(variants_model.vision, pixels, bicubic_nudged, capture=rule.capture)
        patch_cosines(tower, rule, SecondPassContext(pixels, texts, 40.0))
    assert 2 * window_macs(recipe, 24, 30, geometry) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("size", "recipe", "windows"),
    [
        ((375, 500), "sclip/voc21", 6),
        ((333, 500), "sclip/voc21", 8),
        ((400, 400), "sclip/voc21", 4),
        ((1024, 2048), "sclip/cityscapes", 36),
        ((480, 640), "sclip/coco-stuff", 15),
    ],
)
def test_windows_are_those_of_the_specification(size: tuple[int, int], recipe: str, windows: int) -> None:
    cost = recipe_cost(dense(recipe), size)
    assert (cost.windows, cost.tokens, cost.window) == (windows, 197, (224, 224))
    assert cost.window_macs == pytest.approx(17.6e9, rel=0.01)
    assert cost.image_macs == windows * cost.window_macs


def test_correlative_attention_adds_one_product_and_texts_are_counted_in_full() -> None:
    plain, ours = (recipe_cost(dense("sclip/voc21", method=name), (375, 500)) for name in ("clip", "sclip"))
    assert ours.window_macs - plain.window_macs == 197**2 * 768  # 0.03 GMAC
    assert sentence_macs() == pytest.approx(2.98e9, rel=0.01)
    assert ours.sentences == 4480
    assert ours.text_macs == pytest.approx(13.3e12, rel=0.01)


def test_larger_windows_have_more_tokens_and_padding_rounds_up() -> None:
    large = recipe_cost(dense("sclip/voc21", short_side=448, crop=448, stride=224), (375, 500))
    assert (large.scaled, large.windows, large.tokens) == ((448, 597), 2, 785)
    whole = recipe_cost(dense("sclip/voc21", crop=None), (333, 500))
    padded = recipe_cost(dense("sclip/voc21", crop=None, pad_windows=True), (333, 500))
    assert (whole.window, whole.tokens, padded.tokens) == ((336, 505), 21 * 31 + 1, 21 * 32 + 1)


def test_refinements_of_the_specification() -> None:
    costs = refinement_costs(dense("sclip/voc21"), (375, 500))
    assert (costs["pamr"].maps, costs["tlp"].maps) == (56, 56)
    assert 2 * costs["tlp"].macs == 25 * 56 * 75 * 83 * 20  # 0.17 G operations
    assert costs["pamr"].macs == 10 * 56 * 16 * 375 * 500
    large = refinement_costs(dense("sclip/voc21"), (3000, 4000))
    assert large["pamr"].memory == 64 * costs["pamr"].memory
    assert large["tlp"].memory == pytest.approx(costs["tlp"].memory, rel=0.1)
    assert refinement_costs(dense("pearl/cityscapes"), (1024, 2048))["tlp"].macs == 25 * 19 * 204 * 227 * 10


def test_without_a_short_side_the_image_s_own_size_counts() -> None:
    cost = recipe_cost(dense("sclip/voc20", short_side=None, crop=None), (375, 500))
    assert (cost.scaled, cost.windows, cost.tokens) == ((384, 512), 1, 24 * 32 + 1)
