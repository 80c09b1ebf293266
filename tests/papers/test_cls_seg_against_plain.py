"""CLS-SEG and CLIP-ES by the public API, in float32, compared with a plain implementation of the definitions.

The default tests cover a selection, with a subset of the classes; the cross product of recipes, images and
tags is marked `parity`.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.plain import plain_tagclip, plain_text
from benchmarks.plain_cls_seg import mask_names, plain_cams, plain_cls_seg
from torch import Tensor

import tagmask
from tagmask.resolve import mask_recipe
from tagmask.settings.recipes import TagFirstRecipe
from tests.golden import make_images
from tests.papers.images import IMAGES

RECIPES = [name for name in tagmask.recipes() if name.startswith(("cls-seg", "clip-es"))]
CLS_SEG = [name for name in RECIPES if name.startswith("cls-seg")]

TOLERANCE = 1e-5
"""Tolerance of float32 planes."""
MAGNIFIED = (3 * TOLERANCE, 5e-3)
"""Largest difference of float32 planes, and the share of values above `TOLERANCE`: a raw map may be almost
flat, and scaling then magnifies its rounding."""
HALF_STEP = 2.0**-11
"""Step of float16 values in 0.5..1: the largest difference of a plane after rounding."""
TIED = 0.01
"""Largest share of an image with ties of two planes, which each program may resolve differently."""
SPREAD = (1e-3, 5e-3)
"""After the CRF: difference of planes, and the share that may exceed it; the CRF spreads rounding errors."""
UNTOUCHED = 1e-8
"""Float16 planes give the CRF the same energies except in a few pixels: the median pixel stays equal."""
SENTENCES = 40
"""Every 40th template is used for tagging."""

TAGS = {"one": [2], "some": [0, 1, 4], "unsorted": [5, 0, 3], "many": [0, 1, 2, 3, 4, 5, 6]}


class Compare:
    """Runs both programs on an image and compares their results."""

    def __init__(self, clip: tagmask.Clip, weights: Path) -> None:
        self.clip = clip
        self.tensors: dict[str, Tensor] = torch.load(weights, weights_only=True)
        self.cached: dict[tuple[object, ...], Tensor] = {}

    def texts(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        for name in names:
            if (name, *templates) not in self.cached:
                self.cached[name, *templates] = plain_text(self.tensors, [name], templates)[0]
        return torch.stack([self.cached[name, *templates] for name in names])

    def check_given_tags(self, image: str, recipe: TagFirstRecipe, tags: Sequence[int]) -> None:
        segmenter = tagmask.Segmenter(
            self.clip, recipe=replace(recipe, tagger=None)
        )  # no tagging texts to encode
        self.check_same(segmenter(IMAGES[image], tags=tags, scores=True), IMAGES[image], recipe, tags)

    def check_predicted_tags(self, image: str, recipe: TagFirstRecipe) -> None:
        assert recipe.tagger is not None
        tagger = recipe.tagger
        texts = self.texts([*tagger.words, *tagger.background], tagger.templates)
        _, tags, _ = plain_tagclip(self.tensors, IMAGES[image], tagger, texts)
        ours = tagmask.Segmenter(self.clip, recipe=recipe)(IMAGES[image], scores=True)
        assert ours.tags == tags
        assert ours.tags == tagmask.Tagger(self.clip, recipe=tagger)(IMAGES[image]).chosen
        self.check_same(ours, IMAGES[image], recipe, tags)

    def check_same(
        self, ours: tagmask.Segmentation, image: np.ndarray, recipe: TagFirstRecipe, tags: Sequence[int]
    ) -> None:
        """Check that planes are within the tolerance, and labels identical except at near ties."""
        texts = self.texts(mask_names(recipe), recipe.templates)
        labels, planes = plain_cls_seg(self.tensors, image, recipe, tags, texts)
        keys = list(tags) if recipe.variant.background_power is None else [0, *(tag + 1 for tag in tags)]
        assert ours.scores is not None
        assert len(ours.scores) == len(ours.words)
        assert not np.delete(ours.scores, keys, axis=0).any()  # classes that are not tags
        expected = planes.float().numpy()
        difference = np.abs(ours.scores[keys] - expected)
        off = ours.labels != labels.numpy()
        if recipe.crf:
            assert (difference > SPREAD[0]).mean() < SPREAD[1]
            assert off.mean() < SPREAD[1]
            assert np.median(difference) < UNTOUCHED or not recipe.variant.half_planes
            return
        limit = HALF_STEP if recipe.variant.half_planes else MAGNIFIED[0]
        assert difference.max() <= limit
        if not recipe.variant.half_planes:
            assert (difference > TOLERANCE).mean() < MAGNIFIED[1]
        assert off.mean() < TIED
        if off.any():
            second, best = np.sort(expected, axis=0)[-2:]
            assert (best - second)[off].max() <= 2 * limit


def _thinned(name: str, every: int = 1, **settings: object) -> TagFirstRecipe:
    """Fewer classes and tagging templates, so that the text tower does not dominate the time."""
    recipe = tagmask.recipe(name)
    assert isinstance(recipe, TagFirstRecipe)
    words = recipe.words[::every]
    tagger = recipe.tagger
    if tagger is not None:
        tagger = replace(tagger, words=words, templates=tagger.templates[::SENTENCES])
    fewer = replace(recipe, words=words, prompts=recipe.prompts[::every], tagger=tagger)
    return mask_recipe(fewer, overrides=settings)


@pytest.fixture(scope="module")
def compare(tagclip_model: tagmask.Clip, tagclip_weights: Path) -> Compare:
    return Compare(tagclip_model, tagclip_weights)


# -- Default selection ---------------------------------------------------------------------------------------


def test_plain_program_gives_the_reference_values(compare: Compare) -> None:
    golden = np.load(Path(make_images.__file__).with_name("clipes_small.npz"))
    recipe = _thinned("cls-seg/voc2012")
    tags = golden["voc/img0/keys"].tolist()
    texts = compare.texts(mask_names(recipe), recipe.templates)
    for tag, (cam, _) in zip(
        tags, plain_cams(compare.tensors, IMAGES["landscape"], recipe, tags, texts), strict=True
    ):
        np.testing.assert_allclose(cam, golden[f"voc/img0/c{tag}/cam"], rtol=0, atol=TOLERANCE)
    labels, _ = plain_cls_seg(compare.tensors, IMAGES["landscape"], recipe, tags, texts)
    np.testing.assert_array_equal(labels, golden["voc/img0/label"])


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize(
    ("image", "recipe", "every", "tags"),
    [
        ("landscape", "cls-seg/voc2012", 1, "many"),
        ("square", "cls-seg/voc2012", 2, "unsorted"),  # the native grid of the position table
        ("ribbon", "cls-seg/voc2012", 2, "one"),
        ("wide", "cls-seg/coco2017", 8, "some"),
        ("tiny", "cls-seg/coco-stuff", 16, "some"),
        ("noise", "clip-es/voc2012", 2, "many"),
        ("portrait", "clip-es/coco2014", 8, "unsorted"),
    ],
)
def test_masks_of_given_tags(
    compare: Compare, image: str, recipe: str, every: int, tags: str, half: bool
) -> None:
    compare.check_given_tags(image, _thinned(recipe, every, half_planes=half), TAGS[tags])


@pytest.mark.parametrize(
    ("image", "recipe", "every"),
    [
        ("square", "cls-seg/voc2012", 2),
        ("strip", "cls-seg/coco2017", 8),
        ("noise", "cls-seg/coco-stuff", 16),
    ],
)
def test_masks_of_predicted_tags(compare: Compare, image: str, recipe: str, every: int) -> None:
    compare.check_predicted_tags(image, _thinned(recipe, every))


@pytest.mark.parametrize(
    ("image", "recipe", "every", "settings"),
    [
        ("noise", "cls-seg+crf/voc2012", 2, {}),
        ("ribbon", "cls-seg+crf/voc2012", 2, {"half_planes": False, "crf_wrapped": False}),
        ("tiny", "cls-seg+crf/coco-stuff", 16, {}),
        ("noise", "clip-es+crf/voc2012", 2, {}),  # with pixels below the confidence threshold
    ],
)
def test_masks_after_the_crf(
    compare: Compare, image: str, recipe: str, every: int, settings: dict[str, object]
) -> None:
    compare.check_given_tags(image, _thinned(recipe, every, **settings), TAGS["some"])


def test_other_layers_thresholds_and_powers(compare: Compare) -> None:
    recipe = _thinned("cls-seg/voc2012", 2, half_planes=False)
    for settings in ({"attention_layers": (11,)}, {"box_threshold": 0.9}, {"background_power": 3.0}):
        compare.check_given_tags("noise", mask_recipe(recipe, overrides=settings), TAGS["unsorted"])


def test_batch_equals_single_images(compare: Compare) -> None:
    recipe = _thinned("cls-seg/voc2012", 2)
    names, tags = ["noise", "tiny", "strip", "noise"], [[2], [0, 1], [5, 3, 1], [4, 6]]
    segmenter = tagmask.Segmenter(compare.clip, recipe=recipe)
    together = segmenter([IMAGES[name] for name in names], tags=tags, scores=True)
    for ours, name, given in zip(together, names, tags, strict=True):
        compare.check_same(ours, IMAGES[name], recipe, given)


# -- The full cross product ----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_masks_of_every_recipe(compare: Compare, image: str, recipe: str, tags: str) -> None:
    compare.check_given_tags(image, _thinned(recipe), TAGS[tags])


@pytest.mark.parity
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", [name for name in RECIPES if "crf" not in name])
def test_exact_planes_of_every_recipe(compare: Compare, image: str, recipe: str, tags: str) -> None:
    compare.check_given_tags(image, _thinned(recipe, half_planes=False), TAGS[tags])


@pytest.mark.parity
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", CLS_SEG)
def test_predicted_tags_of_every_recipe(compare: Compare, image: str, recipe: str) -> None:
    compare.check_predicted_tags(image, _thinned(recipe))
