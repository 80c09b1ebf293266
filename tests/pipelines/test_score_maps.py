"""The steps behind tags and masks are those of the taggers and segmenters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec
from tagmask.errors import InputError
from tagmask.papers import clip_es, tagclip
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.pipelines.attention_maps import layer_attention
from tagmask.pipelines.score_maps import cam_steps, tag_steps
from tagmask.resolve import mask_recipe, tag_recipe

WORDS = ("cat", "dog, puppy", "boat", "bicycle")
BACKGROUND = ("wall", "grass")
PLAIN = {"templates": ("a photo of a {}.",)}


def scores_of(clip: Clip, image: np.ndarray, **settings: object) -> np.ndarray:
    return tagmask.Tagger(clip, WORDS, background=BACKGROUND, **PLAIN, **settings)(image).scores


@pytest.mark.parametrize("as_", ["published", "printed"])
def test_steps_of_tags_end_with_the_scores_of_the_tagger(
    tagclip_model: Clip, shapes: list[np.ndarray], as_: str
) -> None:
    recipe = tag_recipe(None, WORDS, BACKGROUND, as_, PLAIN)
    steps = tag_steps(tagclip_model, recipe, shapes[0])
    tags = tagmask.Tagger(tagclip_model, recipe=recipe)(shapes[0])
    np.testing.assert_allclose(steps.final, tags.scores, rtol=0, atol=2e-6)
    assert (steps.words, steps.chosen) == (tags.words, tags.chosen)
    local = steps.coarse if as_ == "printed" else steps.refined
    assert list(steps.crops) == (list(range(4)) if as_ == "printed" else list(steps.crops))
    assert steps.crops
    for c in range(4):
        best = local[c].max()
        fused = (best + steps.crops[c].score) / 2 if c in steps.crops else best
        assert steps.final[c] == pytest.approx(fused, abs=2e-6)
    for c, crop in steps.crops.items():
        # The mask is where the refined map is above half its range, and the box encloses it.
        plane = steps.refined[c]
        above = (plane - plane.min()) / (plane.max() - plane.min()) > 0.5
        np.testing.assert_array_equal(crop.mask, above)
        x0, y0, x1, y1 = crop.box
        assert above[y0:y1, x0:x1].sum() >= above[:-1, :-1].sum()


def test_each_step_is_that_of_the_switches(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    steps = tag_steps(tagclip_model, tag_recipe(None, WORDS, BACKGROUND, None, PLAIN), shapes[0])
    off: dict[str, object] = {"dmar": False, "cwr": False}
    for maps, settings in (
        (steps.kept, {**off, "last_attention": True}),
        (steps.coarse, off),
        (steps.once, {"cwr": False, "dmar_masks": "attention"}),
        (steps.refined, {"cwr": False}),
    ):
        expected = scores_of(tagclip_model, shapes[0], **settings)
        np.testing.assert_allclose(maps.max(axis=(1, 2)), expected, rtol=0, atol=2e-6)
    assert 0 < steps.class_mask.mean() < 1


def test_other_methods_have_no_such_steps(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    dpt = tag_recipe(None, WORDS, None, None, {"method": "dpt"})
    with pytest.raises(InputError, match=r"dpt is not TagCLIP\. Give a recipe"):
        tag_steps(tagclip_model, dpt, shapes[0])


def test_steps_of_masks_end_with_the_labels_of_the_segmenter(
    tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    recipe = mask_recipe(None, WORDS, BACKGROUND, None, {"method": "cls-seg"})
    steps = cam_steps(tagclip_model, recipe, shapes[0], [2, 0])
    found = tagmask.Segmenter(tagclip_model, recipe=recipe)(shapes[0], tags=[2, 0])
    assert steps.words == ("boat", "cat")
    np.testing.assert_array_equal(steps.masks[0], found.labels == 3)
    np.testing.assert_array_equal(steps.masks[1], found.labels == 1)
    # The refined map is what the affinity makes of the map inside the boxes.
    settings = replace(recipe.variant, box_threshold=0.0, lose_border=False)
    with torch.inference_mode():
        tower = clip_es.encode_image(tagclip_model, shapes[0], recipe.variant)
        attention = clip_es.patch_attention(tower, recipe.variant)
        inside = torch.from_numpy(np.where(steps.boxes, steps.cams, 0))
        spread = clip_es.min_max_scaled(clip_es.refine_maps(inside, attention, settings))
    # A threshold of 0 puts boxes around everything that is left.
    np.testing.assert_allclose(steps.refined, spread.numpy(), rtol=0, atol=1e-5)
    found_tags = cam_steps(tagclip_model, recipe, shapes[0])
    assert found_tags.words == tuple(
        WORDS[tag].split(", ")[0] for tag in tagmask.Segmenter(tagclip_model, recipe=recipe)(shapes[0]).tags
    )


def test_no_tags_have_no_steps(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    recipe = mask_recipe(None, WORDS, BACKGROUND, None, {"method": "cls-seg"})
    steps = cam_steps(tagclip_model, recipe, shapes[0], [])
    assert (steps.words, len(steps.cams), steps.masks.shape) == ((), 0, (0, *shapes[0].shape[:2]))


def test_attention_by_layer_is_that_of_dmar(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    image, points = shapes[0], [(0, 0), (100, 50)]
    names, maps = layer_attention(tagclip_model, image, points, TagclipSettings())
    assert names[0] == "layer 0"
    assert names[11:] == ("layer 11", "mean of 8, 9, 10", "layers that agree", "masked mean")
    with torch.inference_mode():
        pixels = tagclip.preprocess_bicubic(tagclip_model, image, TagclipSettings())
        every = CaptureSpec(attention=frozenset(range(11)))
        tower = tagclip.encode_image(tagclip_model, pixels, TagclipSettings(), extra=every)
        attention = [layer[0, 1:, 1:] for layer in (*tower.attention.values(), tower.last_attention)]
    h, w = image.shape[:2]
    gh, gw = tower.grid
    patches = [0, int(50.5 * gh / h) * gw + int(100.5 * gw / w)]
    for layer in (0, 10, 11):
        np.testing.assert_array_equal(maps[layer].reshape(2, -1), attention[layer][patches].numpy())
    np.testing.assert_allclose(maps[12], maps[8:11].mean(axis=0), rtol=0, atol=1e-7)
    votes = sum((layer > layer.mean())[patches].int() for layer in attention)
    np.testing.assert_array_equal(maps[13].reshape(2, -1), votes.numpy())
    np.testing.assert_array_equal(maps[14], np.where(maps[13] >= 4, maps[12], 0))
