"""Settings of purification, and the forms of the base in its presets."""

import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.dense.features import ALL_HEADS, FIRST_HEAD, CaptureSpec, extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.errors import InputError
from tagmask.pipelines.purified import purified_rule
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import MaskRecipe
from tagmask.variants.sclip import correlative
from tests.pipelines.conftest import Make


def resolved(name: str | None = None, as_: str | None = None, **settings: object) -> MaskRecipe:
    words = None if name else ["cat", "dog"]
    recipe = mask_recipe(name, words, None, as_, settings)
    assert isinstance(recipe, MaskRecipe)
    return recipe


@pytest.mark.parametrize(("given", "way"), [(True, "scores"), (False, "off"), ("tags", "tags")])
def test_purify_takes_a_way_or_a_truth_value(given: object, way: str) -> None:
    recipe = resolved(purify=given)
    assert recipe.purify == way
    assert recipe.purifies == (way != "off")
    assert (recipe.tagger is not None) == (way == "tags")


def test_a_purification_that_is_off_decides_nothing() -> None:
    off, on = resolved(), resolved(purify=True)
    assert not [name for name in off.deciding() if "purify" in name or name in ("redundancy", "overlap")]
    assert resolved(as_="published").deciding() == off.deciding()
    assert on.deciding()["redundancy"] == 0.15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"purify": "yes"}, "Unknown purify 'yes'. Give one of off, scores, tags"),
        ({"redundancy": 0.1}, "redundancy has no effect without purify"),
        ({"purify": True, "redundancy": -0.1}, "redundancy is -0.1"),
        ({"purify": True, "overlap": 1.5}, "overlap is 1.5"),
        ({"purify": True, "purify_scope": "set"}, "Unknown purify_scope"),
        ({"purify": "tags", "purify_tag_low": 0.9}, "purify_tag_high is 0.8. Give a number, 0.9 or more"),
        ({"purify": True, "prob_thd": 0.3}, "prob_thd .--threshold. has no effect with purify"),
        ({"purify": True, "area_thd": 0.3}, "area_thd has no effect with purify"),
        ({"purify": True, "join": "tokens"}, "join='tokens' does not fit purify"),
    ],
)
def test_unfit_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolved(**settings)


SETS = {
    # short side, window, T_rp, T_ap, texts of the background, classes
    "voc21": (448, 384, 0.15, 0.8, 26, 20),
    "coco-object": (448, 384, 0.15, 0.8, 26, 80),
    "context60": (448, 384, 0.10, 0.7, 1, 59),
    "voc20": (448, 384, 0.15, 0.7, 0, 20),
    "context59": (448, 384, 0.10, 0.7, 0, 59),
    "cityscapes": (560, 224, 0.10, 0.8, 0, 19),
    "ade20k": (448, 384, 0.05, 0.7, 0, 150),
    "coco-stuff": (448, 384, 0.05, 0.7, 0, 171),
}


@pytest.mark.parametrize("name", SETS)
def test_presets(name: str) -> None:
    for base in ("sclip", "clearclip", "maskclip", "gem"):
        recipe = resolved(f"freecp+{base}/{name}")
        assert (
            recipe.short_side,
            recipe.crop,
            recipe.redundancy,
            recipe.overlap,
            len(recipe.background),
            len(recipe.words),
        ) == SETS[name]
        assert (recipe.method, recipe.stride, recipe.purify, len(recipe.templates)) == (
            base,
            112,
            "scores",
            80,
        )
        assert (recipe.prob_thd, recipe.area_thd, recipe.pamr_steps) == (0, None, 0)
        assert not [word for word in recipe.words if ", " in word]  # one name per class
    own = {
        word for word in recipe.words if " in shirt jeans" in word or word.startswith("television monitor")
    }
    assert len(own) == {"voc21": 2, "voc20": 2, "coco-object": 1}.get(name, 0)


def test_as_published_has_the_authors_forms() -> None:
    def rule(base: str, as_: str | None) -> tuple[str, frozenset[str]]:
        found = purified_rule(resolved(f"freecp+{base}/voc21", as_), 12)
        return found.block_form, found.capture.running

    every, first = frozenset({ALL_HEADS}), frozenset({FIRST_HEAD})
    for as_ in (None, "corrected"):
        assert rule("sclip", as_) == ("full", every)
        assert rule("gem", as_) == ("full", every)
    assert rule("sclip", "published") == ("half", every)
    assert rule("maskclip", "published") == ("half", every)
    assert rule("clearclip", "published") == ("bare", every)
    assert rule("gem", "published") == ("full", first)


@torch.inference_mode()
def test_the_half_form_drops_the_residual_only(variants_model: Clip, make: Make) -> None:
    pixels = torch.rand(1, 3, 64, 64)
    tower = extract_features(variants_model.vision, pixels, bilinear_half)
    y = tower.attend(correlative(tower)).float()
    block = tower.block
    expected = tower.vision.project(y + block.mlp(block.ln_2(y)))[:, 1:]
    from tagmask.dense.rule import patch_features

    rule = purified_rule(resolved("freecp+sclip/voc21", "published"), 12)
    torch.testing.assert_close(patch_features(tower, rule), expected)


@torch.inference_mode()
def test_attention_is_averaged_over_the_layers_before_the_last(variants_model: Clip) -> None:
    vision, pixels = variants_model.vision, torch.rand(2, 3, 64, 48)
    layers = frozenset(range(11))
    spec = CaptureSpec(
        attention=layers, heads=frozenset({layers}), running=frozenset({ALL_HEADS, FIRST_HEAD})
    )
    tower = extract_features(vision, pixels, bilinear_half, capture=spec)
    mean = torch.stack(list(tower.attention.values())).mean(dim=0)
    torch.testing.assert_close(tower.running[ALL_HEADS], mean)
    torch.testing.assert_close(tower.running[FIRST_HEAD], tower.heads[layers][:, 0])
    assert (tower.running[FIRST_HEAD] - mean).abs().max() > 1e-3
    alone = extract_features(vision, pixels, bilinear_half, capture=CaptureSpec(running=spec.running))
    assert not alone.attention
    torch.testing.assert_close(alone.running[ALL_HEADS], mean)
    torch.testing.assert_close(alone.tokens, tower.tokens)
