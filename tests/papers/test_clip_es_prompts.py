"""Sharpness of prompt templates: the formula written naively, with Grad-CAM's own probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tagmask.clip.load import Clip
from tagmask.dense.gradcam import patch_feature, softmax_gradcam
from tagmask.dense.prompts import text_features
from tagmask.errors import InputError
from tagmask.papers import clip_es
from tagmask.papers.clip_es_prompts import sharpness, tag_probabilities
from tagmask.pipelines.prompt_selection import PromptSelection, default_candidates
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import TagFirstRecipe

WORDS = ["cat", "dog, puppy", "cow", "tree"]
TEMPLATES = ("a clean origami {}.", "a photo of a {}.", "itap of the {}.")


def recipe(**settings: object) -> TagFirstRecipe:
    found = mask_recipe(None, WORDS, ["wall", "grass"], None, {"method": "cls-seg", **settings})
    assert isinstance(found, TagFirstRecipe)
    return found


def naive(scores: list[float]) -> float:
    mean = sum(scores) / len(scores)
    return sum((score - mean) ** 2 for score in scores) / len(scores) / mean


def test_sharpness_equals_the_formula() -> None:
    scores = np.random.default_rng(0).random((6, 4))
    wanted = [naive(row.tolist()) for row in scores]
    np.testing.assert_allclose(sharpness(torch.from_numpy(scores)).numpy(), wanted, rtol=1e-12)


def test_equal_tags_are_not_sharp_and_one_winner_is() -> None:
    even, winner, none = sharpness(torch.tensor([[0.3, 0.3, 0.3], [0.9, 0.0, 0.0], [0.0] * 3]).double())
    assert even == pytest.approx(0, abs=1e-15)
    assert winner == pytest.approx(0.6)  # 0.18 / 0.3
    assert none == 0


def test_probabilities_are_those_of_gradcam(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    settings, tags = recipe().variant, (2, 0)
    tower = clip_es.encode_image(tagclip_model, shapes[0], settings)
    selection = PromptSelection(tagclip_model, recipe(), TEMPLATES)
    competing = selection._competing(tags)
    found = tag_probabilities(patch_feature(tower), competing, 2, tagclip_model.logit_scale)
    for row, template in enumerate(TEMPLATES):
        texts = text_features(tagclip_model, ["cow", "cat", "wall", "grass"], (template,))
        gradcam = softmax_gradcam(tower, texts, (0, 1), tagclip_model.logit_scale)
        torch.testing.assert_close(found[row].float(), gradcam.probabilities[:2], rtol=1e-4, atol=1e-6)


def test_an_image_is_measured_under_every_template(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    selection = PromptSelection(tagclip_model, recipe(), TEMPLATES)
    tags = (1, 3, 0)
    measured = selection.measure(shapes[1], tags)
    assert measured.tags == tags
    tower = clip_es.encode_image(tagclip_model, shapes[1], recipe().variant)
    wanted = []
    for template in TEMPLATES:
        # Synonyms are fused, as in the prompts of the masks.
        texts = text_features(tagclip_model, ["dog,puppy", "tree", "cat", "wall", "grass"], (template,))
        scores = softmax_gradcam(tower, texts, (), tagclip_model.logit_scale).probabilities[:3]
        wanted.append(naive(scores.tolist()))
    assert measured.sharpness is not None
    np.testing.assert_allclose(measured.sharpness.numpy(), wanted, rtol=1e-3)
    assert len(set(wanted)) == 3
    ranked = selection.ranked(measured.sharpness)
    assert [each.template for each in ranked] == [TEMPLATES[row] for row in np.argsort(wanted)]


def test_without_given_tags_the_tagger_finds_them(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    found = recipe()
    assert found.tagger is not None
    many = replace(found, tagger=replace(found.tagger, tag_tau=0.0))  # all tags but the lowest
    measured = PromptSelection(tagclip_model, many, TEMPLATES).measure(shapes[1])
    assert len(measured.tags) == 3
    given = PromptSelection(tagclip_model, many, TEMPLATES).measure(shapes[1], measured.tags)
    assert measured.sharpness is not None
    assert given.sharpness is not None
    torch.testing.assert_close(measured.sharpness, given.sharpness, rtol=1e-3, atol=1e-9)


def test_an_image_of_one_tag_does_not_count(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    selection = PromptSelection(tagclip_model, recipe(), TEMPLATES)
    assert selection.measure(shapes[0], (2,)).sharpness is None
    assert selection.measure(shapes[0], ()).sharpness is None
    few = recipe()
    assert few.tagger is not None
    one = replace(few, tagger=replace(few.tagger, top=1))
    assert PromptSelection(tagclip_model, one, TEMPLATES).measure(shapes[0]).sharpness is None


def test_what_does_not_fit_is_refused(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match=r"has no \{\}"):
        PromptSelection(tagclip_model, recipe(), ("the {}.", "the cat."))
    with pytest.raises(InputError, match="Give at least one of each"):
        PromptSelection(tagclip_model, recipe(), ())
    selection = PromptSelection(tagclip_model, recipe(method="clip-es"), TEMPLATES)
    with pytest.raises(InputError, match="needs the image's tags"):
        selection.measure(shapes[0])
    with pytest.raises(InputError, match="a tag is 4"):
        selection.measure(shapes[0], (0, 4))


def test_the_default_candidates_are_all_different_and_have_the_papers() -> None:
    candidates = default_candidates()
    assert len(candidates) == len(set(candidates)) == 86
    assert candidates[0] == "a clean origami {}."
    assert all("{}" in template for template in candidates)
