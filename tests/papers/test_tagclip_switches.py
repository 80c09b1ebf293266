"""TagCLIP's switches between the formulas of its program and of its paper; the formulas written out."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.features import CaptureSpec, class_token_features
from tagmask.errors import InputError
from tagmask.papers import cls_seg, tagclip
from tagmask.papers.clip_es import ClipEsSettings
from tagmask.papers.tagclip_settings import TagclipSettings
from tagmask.pipelines.tagging import TagclipPipeline
from tagmask.resolve import mask_recipe, recipe, tag_recipe

WORDS = ("cat", "dog, puppy", "boat", "bicycle")
BACKGROUND = ("wall", "grass")
PLAIN = {"templates": ("a photo of a {}.",)}


class Steps:
    """What the formulas need from one image."""

    def __init__(self, clip: Clip, image: np.ndarray) -> None:
        recipe_ = tag_recipe(None, WORDS, BACKGROUND, None, PLAIN)
        self.clip, self.query = clip, TagclipPipeline(clip, recipe_).query
        with torch.inference_mode():
            self.pixels = tagclip.preprocess_bicubic(clip, image, recipe_.variant)
            every = CaptureSpec(attention=frozenset(range(11)))
            self.tower = tagclip.encode_image(clip, self.pixels, recipe_.variant, extra=every)
            layers = [self.tower.attention[layer] for layer in range(11)]
            self.whole = [layer[0].numpy() for layer in (*layers, self.tower.last_attention)]
            self.patches = [layer[1:, 1:] for layer in self.whole]
            features = F.normalize(self.tower.project_last_block(None)[0, 1:], dim=-1)
            self.cosines = (features @ self.query.features.T).numpy()

    def probabilities(self, cosines: np.ndarray, texts: int) -> np.ndarray:
        """Softmax over the first `texts` texts; "dog, puppy" takes its better name."""
        exponents = np.exp(self.clip.logit_scale * cosines[:, :texts].astype(np.float64))
        shares = exponents / exponents.sum(axis=1, keepdims=True)
        classes = [shares[:, 0], shares[:, 1:3].max(axis=1), *shares[:, 3:].T]
        return np.stack(classes, axis=1)


@pytest.fixture(scope="module")
def steps(tagclip_model: Clip, shapes: list[np.ndarray]) -> Steps:
    return Steps(tagclip_model, shapes[0])


def scores_of(clip: Clip, image: np.ndarray, **settings: object) -> np.ndarray:
    return tagmask.Tagger(clip, WORDS, background=BACKGROUND, **PLAIN, **settings)(image).scores


def test_printed_is_the_papers_formulas(steps: Steps, tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    coarse = steps.probabilities(steps.cosines, 5)  # the words' five names, no background
    agreed = sum(layer[1:, 1:] > layer.mean() for layer in steps.whole) > 4
    weights = agreed * np.mean(steps.patches[8:11], axis=0)
    once = weights @ coarse
    refined = weights @ ((once >= once.mean(axis=0)) * coarse)
    gh, gw = steps.tower.grid
    final = []
    for c in range(4):
        plane = refined[:, c].reshape(gh, gw)
        mask = (plane - plane.min()) / (plane.max() - plane.min()) > 0.5
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        crop = F.interpolate(
            steps.pixels[None, :, 16 * y0 : 16 * y1, 16 * x0 : 16 * x1], size=(224, 224), mode="bilinear"
        )
        cells = torch.from_numpy(mask[y0:y1, x0:x1].astype(np.float32))[None, None]
        inside = F.interpolate(cells, size=(14, 14))[0].flatten(1)
        with torch.inference_mode():
            token = class_token_features(tagclip_model.vision, crop, (1 - inside) * -1000)
            cosines = (F.normalize(token, dim=-1) @ steps.query.features.T).numpy()
        final.append((coarse[:, c].max() + steps.probabilities(cosines, 5)[0, c]) / 2)
    printed = scores_of(tagclip_model, shapes[0], as_="printed")
    np.testing.assert_allclose(printed, final, rtol=0, atol=2e-5)
    assert np.abs(printed - scores_of(tagclip_model, shapes[0])).max() > 0.01


@pytest.mark.parametrize("masks", ["both", "attention", "class", "none"])
def test_each_mask_is_used_or_not(steps: Steps, masks: str) -> None:
    settings = TagclipSettings(dmar_masks=masks, class_mask="mean")
    coarse = steps.probabilities(steps.cosines, 7)
    weights = np.mean(steps.patches[8:11], axis=0, dtype=np.float64)
    if masks in ("both", "attention"):
        weights = weights * (sum(layer > layer.mean() for layer in steps.patches) >= 4)
    expected = once = weights @ coarse
    if masks in ("both", "class"):
        expected = weights @ ((once >= once.mean(axis=0)) * coarse)
    attention = tagclip.patch_attention(steps.tower, settings)
    found = tagclip.refine_scores(torch.from_numpy(coarse).float(), attention, steps.tower.grid, settings)
    np.testing.assert_allclose(found.scores.numpy(), expected, rtol=0, atol=2e-6)
    assert bool(found.class_mask.all()) == (masks in ("attention", "none"))


def test_rows_of_renormalised_attention_sum_to_1_or_are_empty(steps: Steps) -> None:
    coarse = torch.from_numpy(steps.probabilities(steps.cosines, 7)).float()
    # More votes than any attention gets leave every row empty.
    for votes, sums in ((4, 1.0), (12, None)):
        settings = TagclipSettings(renormalise=True, votes=votes, strict_votes=votes == 12)
        attention = tagclip.patch_attention(steps.tower, settings)
        found = tagclip.refine_scores(coarse, attention, steps.tower.grid, settings)
        totals = found.attention.sum(dim=1)
        expected = torch.full_like(totals, sums or 0.0)
        torch.testing.assert_close(totals, expected, rtol=0, atol=1e-5)


def test_cosines_take_the_place_of_probabilities(
    steps: Steps, tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    best = steps.cosines.max(axis=0)
    expected = [best[0], max(best[1], best[2]), best[3], best[4]]
    found = scores_of(tagclip_model, shapes[0], patch_softmax=False, dmar=False, cwr=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_kept_attention_is_the_unmodified_last_block(
    tagclip_model: Clip, shapes: list[np.ndarray], steps: Steps
) -> None:
    blocks = tagclip_model.vision.blocks
    with torch.inference_mode():
        tokens = tagclip_model.vision.project(blocks[-1](steps.tower.tokens))[0, 1:]
        features = F.normalize(tokens, dim=-1)
        kept = (features @ steps.query.features.T).numpy()
    expected = steps.probabilities(kept, 7).max(axis=0)[:4]
    found = scores_of(tagclip_model, shapes[0], last_attention=True, dmar=False, cwr=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    removed = scores_of(tagclip_model, shapes[0], dmar=False, cwr=False)
    assert np.abs(found - removed).max() > 1e-3


def test_local_source_is_the_score_before_or_after_refinement(
    tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    coarse = scores_of(tagclip_model, shapes[0], dmar=False, cwr=False)
    found = scores_of(tagclip_model, shapes[0], local_source="coarse", cwr=False)
    np.testing.assert_allclose(found, coarse, rtol=0, atol=1e-5)
    assert np.abs(scores_of(tagclip_model, shapes[0], cwr=False) - coarse).max() > 0.01


def test_every_class_or_only_candidates_are_re_identified(steps: Steps) -> None:
    patches = torch.rand(len(steps.cosines), 6, generator=torch.Generator().manual_seed(0))
    patches[:, 1] /= 10
    local = patches[:, :4].amax(dim=0)
    found = {
        scope: tagclip.find_candidates(
            patches, local, steps.tower.grid, TagclipSettings(cwr_scope=scope, lose_border=False)
        ).classes
        for scope in ("candidates", "all")
    }
    assert found == {"candidates": (0, 2, 3), "all": (0, 1, 2, 3)}


def test_strict_votes_need_more_layers() -> None:
    votes = [(tagclip.needed_votes(4, d), tagclip.needed_votes(4, d, strict=True)) for d in (12, 24, 4, 1)]
    assert votes == [(4, 5), (8, 9), (2, 2), (1, 1)]


# -- as_ ---------------------------------------------------------------------------------------------------


def test_behaviours_differ_in_named_settings_only() -> None:
    found = {as_: recipe_.variant for as_, recipe_ in behaviours("tagclip/coco-stuff").items()}
    coded = recipe("tagclip/coco-stuff").variant
    assert found["published"] == coded
    assert found["corrected"] == dataclasses.replace(coded, early_exit=False, lose_border=False)
    assert found["printed"] == dataclasses.replace(coded, **TagclipSettings.PRINTED)
    assert found["printed"].attention_layers == tuple(range(11))


def behaviours(name: str) -> dict[str, object]:
    return {as_: tag_recipe(name, as_=as_) for as_ in ("published", "corrected", "printed")}


def test_a_behaviour_replaces_another_and_single_settings_replace_it() -> None:
    printed = tag_recipe("tagclip/voc2012", as_="printed")
    assert tag_recipe(printed, as_="published") == recipe("tagclip/voc2012")
    assert tag_recipe(printed) == printed
    mixed = tag_recipe("tagclip/voc2012", as_="printed", overrides={"local_source": "refined"})
    assert mixed.variant == dataclasses.replace(printed.variant, local_source="refined")


@pytest.mark.parametrize("name", ["dpt/voc2012", "piaa/voc2012", "clip-softmax/coco2014"])
def test_printed_is_as_published_for_other_taggers(name: str) -> None:
    assert tag_recipe(name, as_="printed") == tag_recipe(name, as_="published")


@pytest.mark.parametrize("name", ["sclip/voc21", "clip-es/voc2012", "naclip/ade20k"])
def test_printed_is_as_published_for_masks(name: str) -> None:
    assert mask_recipe(name, as_="printed") == mask_recipe(name, as_="published")


def test_cls_seg_tags_as_printed_and_masks_as_published() -> None:
    found = mask_recipe("cls-seg+crf/voc2012", as_="printed")
    assert found.tagger == tag_recipe("tagclip/voc2012", as_="printed")
    published = mask_recipe("cls-seg+crf/voc2012", as_="published")
    assert dataclasses.replace(found, tagger=published.tagger) == published


def test_cls_seg_uses_the_words_alone(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    # With a single word, the softmax over the words is 1 everywhere.
    tagger = TagclipPipeline(tagclip_model, tag_recipe(None, ["cat"], BACKGROUND, "printed", PLAIN))
    assert tagger.score([shapes[0]])[0].tolist() == [1.0]
    shared = cls_seg.extract_shared_features(tagclip_model, shapes[0], tagger.settings, ClipEsSettings())
    assert cls_seg.tag_scores(tagclip_model, shared, tagger.query, tagger.settings).tolist() == [1.0]


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("local_source", "fine", "refined, coarse"),
        ("dmar_masks", "all", "both, attention, class, none"),
        ("class_mask", "median", "boxes, mean"),
        ("vote_mean", "all", "patches, tokens"),
        ("cwr_scope", "none", "candidates, all"),
    ],
)
def test_unknown_forms_are_refused(name: str, value: str, choices: str) -> None:
    with pytest.raises(InputError, match=rf"Unknown {name} '{value}'\..* Give one of {choices}"):
        tag_recipe("tagclip/voc2012", overrides={name: value})
