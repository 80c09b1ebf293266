"""The public API, end to end in float32, compared with a plain implementation of the definitions.

The default tests cover a selection, with a subset of the words and a few sentences per word; the full cross
product of images, recipes and methods, and all sentences of some recipes, are marked `parity`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.plain import METHODS, class_names, plain_sclip, plain_tagclip, plain_text
from torch import Tensor

import tagmask
from tests.papers.images import IMAGES

SCLIP = tuple(name for name in tagmask.recipes() if name.startswith("sclip/"))
PAMR = tuple(name for name in tagmask.recipes() if name.startswith("sclip+pamr/"))
TAGCLIP = tuple(name for name in tagmask.recipes() if name.startswith("tagclip/"))

TOLERANCE = 1e-5
NEAR_TIES = 1e-3
"""Largest share of pixels that may be near ties."""
SENTENCES = 20
"""Every 20th template is used, unless a test is about the templates."""

Texts = Callable[[Sequence[str], Sequence[str]], Tensor]


def _texts(weights: Path) -> tuple[dict[str, Tensor], Texts]:
    """The tensors of a checkpoint, and cached text features for each name."""
    tensors = torch.load(weights, weights_only=True)
    rows: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def texts(names: Sequence[str], templates: Sequence[str]) -> Tensor:
        keys = [(name, tuple(templates)) for name in names]
        for name, sentences in keys:
            if (name, sentences) not in rows:
                rows[name, sentences] = plain_text(tensors, [name], sentences)[0]
        return torch.stack([rows[key] for key in keys])

    return tensors, texts


@pytest.fixture(scope="module")
def sclip_plain(sclip_weights: Path) -> tuple[dict[str, Tensor], Texts]:
    return _texts(sclip_weights)


@pytest.fixture(scope="module")
def tagclip_plain(tagclip_weights: Path) -> tuple[dict[str, Tensor], Texts]:
    return _texts(tagclip_weights)


class Compare:
    """Runs both programs on an image and compares their results."""

    def __init__(self, clip: tagmask.Clip, plain: tuple[dict[str, Tensor], Texts]) -> None:
        self.clip = clip
        self.tensors, self.texts = plain

    def masks(self, image: str | list[str], recipe: str, *, every: int = 1, **settings: object) -> None:
        images = [IMAGES[name] for name in ([image] if isinstance(image, str) else image)]
        settings = _thinned(recipe, every) | settings
        segmenter = tagmask.Segmenter(self.clip, recipe=recipe, **settings)
        used_recipe = segmenter.recipe
        texts = self.texts(class_names(used_recipe)[0], used_recipe.templates)
        results = segmenter(images if len(images) > 1 else images[0], scores=True)
        for ours, pixels in zip(results if len(images) > 1 else [results], images, strict=True):
            _same_masks(ours, *plain_sclip(self.tensors, pixels, used_recipe, texts), used_recipe.prob_thd)

    def tags(self, image: str | list[str], recipe: str, *, every: int = 1, **settings: object) -> None:
        images = [IMAGES[name] for name in ([image] if isinstance(image, str) else image)]
        settings = _thinned(recipe, every) | settings
        tagger = tagmask.Tagger(self.clip, recipe=recipe, **settings)
        used_recipe = tagger.recipe
        texts = self.texts([*used_recipe.words, *used_recipe.background], used_recipe.templates)
        results = tagger(images if len(images) > 1 else images[0])
        for ours, pixels in zip(results if len(images) > 1 else [results], images, strict=True):
            scores, tags, _ = plain_tagclip(self.tensors, pixels, used_recipe, texts)
            np.testing.assert_allclose(ours.scores, scores.numpy(), rtol=0, atol=TOLERANCE)
            assert ours.chosen == tags


def _same_masks(ours: tagmask.Segmentation, labels: Tensor, scores: Tensor, prob_thd: float) -> None:
    """Check that scores are within the tolerance, and labels identical except at near ties."""
    assert ours.scores is not None
    np.testing.assert_allclose(ours.scores, scores.numpy(), rtol=0, atol=TOLERANCE)
    best, second = scores.topk(2, dim=0).values
    close = ((best - second < TOLERANCE) | ((best - prob_thd).abs() < TOLERANCE)).numpy()
    assert close.mean() < NEAR_TIES
    np.testing.assert_array_equal(ours.labels[~close], labels.numpy()[~close])
    assert len(np.unique(ours.labels)) > 1  # with a single label the comparison would be empty


def _thinned(recipe: str, every: int) -> dict[str, object]:
    """Fewer words and sentences, so that the text tower does not dominate the time."""
    full = tagmask.recipe(recipe)
    fewer = {"words": full.words[::every]} if every > 1 else {}
    return {**fewer, "templates": full.templates[::SENTENCES]}


@pytest.fixture(scope="module")
def sclip(sclip_model: tagmask.Clip, sclip_plain: tuple[dict[str, Tensor], Texts]) -> Compare:
    return Compare(sclip_model, sclip_plain)


@pytest.fixture(scope="module")
def tagclip(tagclip_model: tagmask.Clip, tagclip_plain: tuple[dict[str, Tensor], Texts]) -> Compare:
    return Compare(tagclip_model, tagclip_plain)


# -- Default selection ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "recipe", "every"),
    [
        ("noise", "sclip/voc21", 1),
        ("portrait", "sclip/voc20", 1),
        ("ribbon", "sclip/voc20", 2),
        ("wide", "sclip/voc20", 1),
        ("tiny", "sclip/context60", 4),
        ("square", "sclip/context59", 4),
        ("noise", "sclip/coco-object", 6),
        ("tiny", "sclip/coco-stuff", 12),
        ("square", "sclip/cityscapes", 2),
        ("landscape", "sclip/ade20k", 12),
        ("tiny", "sclip+pamr/voc21", 2),
        ("noise", "sclip+pamr/voc20", 2),
    ],
)
def test_masks(sclip: Compare, image: str, recipe: str, every: int) -> None:
    sclip.masks(image, recipe, every=every)


@pytest.mark.parametrize("method", METHODS)
def test_masks_of_each_method(sclip: Compare, method: str) -> None:
    sclip.masks("square", "sclip/voc20", every=2, method=method)


@pytest.mark.parametrize(
    ("image", "short_side"),
    [
        ("strip", 112),  # 7 x 28 patches, as many as the stored position table has: used unchanged
        ("strip", 150),  # 9 x 37
        ("portrait", 224),  # 22 x 14
        ("tiny", 75),  # a long side of 102.5 pixels, rounded up
    ],
)
def test_masks_of_a_whole_image(sclip: Compare, image: str, short_side: int) -> None:
    sclip.masks(image, "sclip/voc20", every=2, crop=None, short_side=short_side)


@pytest.mark.parametrize(
    ("image", "recipe", "every"),
    [
        ("landscape", "tagclip/voc2012", 1),
        ("portrait", "tagclip/voc2012", 2),
        ("square", "tagclip/voc2007", 2),
        ("tiny", "tagclip/coco2014", 8),
        ("noise", "tagclip/coco2017", 8),
        ("strip", "tagclip/coco-stuff", 16),
    ],
)
def test_tags(tagclip: Compare, image: str, recipe: str, every: int) -> None:
    tagclip.tags(image, recipe, every=every)


@pytest.mark.parametrize("image", ["tiny", "strip", "noise"])
@pytest.mark.parametrize("step", ["dmar", "cwr"])
def test_tags_without_a_step(tagclip: Compare, image: str, step: str) -> None:
    # Unrefined scores peak at the border too, where a candidate has an empty box and ends re-identification.
    tagclip.tags(image, "tagclip/voc2012", candidate_tau=0.1, **{step: False})


def test_all_sentences(sclip: Compare, tagclip: Compare) -> None:
    templates = tagmask.recipe("sclip/voc20").templates
    sclip.masks("tiny", "sclip/voc20", every=4, templates=templates)
    templates = tagmask.recipe("tagclip/voc2007").templates
    tagclip.tags("tiny", "tagclip/voc2007", every=4, templates=templates, background=("sky", "grass"))


def test_batch_equals_single_images(sclip: Compare, tagclip: Compare) -> None:
    # Windows and crops of several images share batches.
    sclip.masks(["tiny", "strip", "noise"], "sclip/voc20", every=2)
    tagclip.tags(["tiny", "strip", "noise"], "tagclip/voc2012", every=2)


# -- The full cross product ----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", SCLIP + PAMR)
def test_masks_of_every_recipe(sclip: Compare, image: str, recipe: str) -> None:
    sclip.masks(image, recipe)


@pytest.mark.parity
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("recipe", ["sclip/voc20", "sclip/voc21"])
def test_masks_of_every_method(sclip: Compare, image: str, recipe: str, method: str) -> None:
    sclip.masks(image, recipe, method=method)


@pytest.mark.parity
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", TAGCLIP)
def test_tags_of_every_recipe(tagclip: Compare, image: str, recipe: str) -> None:
    tagclip.tags(image, recipe)


@pytest.mark.parity
@pytest.mark.parametrize("recipe", ["sclip/voc21", "sclip/context60"])
def test_masks_with_all_sentences(sclip: Compare, recipe: str) -> None:
    sclip.masks("landscape", recipe, templates=tagmask.recipe(recipe).templates)


@pytest.mark.parity
@pytest.mark.parametrize("recipe", ["tagclip/voc2012", "tagclip/coco2017"])
def test_tags_with_all_sentences(tagclip: Compare, recipe: str) -> None:
    tagclip.tags("landscape", recipe, templates=tagmask.recipe(recipe).templates)
