"""CLS-SEG and CLIP-ES by the public surface, in float32, against a plain transcription of the definitions.

The gate runs a covering selection with every third or so class; the cross product of recipes, images and tags
is marked `parity`.
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
from tests.papers.test_against_plain import IMAGES

RECIPES = [name for name in tagmask.recipes() if name.startswith(("cls-seg", "clip-es"))]
CLS_SEG = [name for name in RECIPES if name.startswith("cls-seg")]

TOLERANCE = 1e-5
"""Of float32 planes."""
MAGNIFIED = (3 * TOLERANCE, 5e-3)
"""How far float32 planes differ at most, in which share of values: a raw map may be all but flat, and scaling
then magnifies its rounding."""
HALF_STEP = 2.0**-11
"""Between half numbers from 0.5 to 1: the most that a plane differs by after rounding."""
TIED = 0.01
"""Share of an image that two planes may leave open, each program choosing its own."""
SPREAD = (1e-3, 5e-3)
"""After the field: how far planes differ, but for which share: what a tipped rounding does travels."""
UNTOUCHED = 1e-8
"""Half planes give the field the same energies but in a few pixels: the median pixel gets the same again."""
SENTENCES = 40
"""Every 40th sentence is used to find tags."""

TAGS = {"one": [2], "some": [0, 1, 4], "unsorted": [5, 0, 3], "many": [0, 1, 2, 3, 4, 5, 6]}


class Compare:
    """Runs both programs on an image and compares all that comes back."""

    def __init__(self, clip: tagmask.Clip, weights: Path) -> None:
        self.clip = clip
        self.tensors: dict[str, Tensor] = torch.load(weights, weights_only=True)
        self.known: dict[tuple[object, ...], Tensor] = {}

    def texts(self, names: Sequence[str], templates: Sequence[str]) -> Tensor:
        for name in names:
            if (name, *templates) not in self.known:
                self.known[name, *templates] = plain_text(self.tensors, [name], templates)[0]
        return torch.stack([self.known[name, *templates] for name in names])

    def given(self, image: str, recipe: TagFirstRecipe, tags: Sequence[int]) -> None:
        segmenter = tagmask.Segmenter(self.clip, recipe=replace(recipe, tagger=None))  # saves its sentences
        self.same(segmenter(IMAGES[image], tags=tags, scores=True), IMAGES[image], recipe, tags)

    def found(self, image: str, recipe: TagFirstRecipe) -> None:
        assert recipe.tagger is not None
        tagger = recipe.tagger
        texts = self.texts([*tagger.words, *tagger.background], tagger.templates)
        _, tags, _ = plain_tagclip(self.tensors, IMAGES[image], tagger, texts)
        ours = tagmask.Segmenter(self.clip, recipe=recipe)(IMAGES[image], scores=True)
        assert ours.tags == tags
        assert ours.tags == tagmask.Tagger(self.clip, recipe=tagger)(IMAGES[image]).chosen
        self.same(ours, IMAGES[image], recipe, tags)

    def same(
        self, ours: tagmask.Segmentation, image: np.ndarray, recipe: TagFirstRecipe, tags: Sequence[int]
    ) -> None:
        """Planes within the tolerance, labels identical wherever that does not leave the winner open."""
        texts = self.texts(mask_names(recipe), recipe.templates)
        labels, planes = plain_cls_seg(self.tensors, image, recipe, tags, texts)
        keys = list(tags) if recipe.variant.background_power is None else [0, *(tag + 1 for tag in tags)]
        assert ours.scores is not None
        assert len(ours.scores) == len(ours.words)
        assert not np.delete(ours.scores, keys, axis=0).any()  # classes that are no tags
        theirs = planes.float().numpy()
        apart = np.abs(ours.scores[keys] - theirs)
        off = ours.labels != labels.numpy()
        if recipe.crf:
            assert (apart > SPREAD[0]).mean() < SPREAD[1]
            assert off.mean() < SPREAD[1]
            assert np.median(apart) < UNTOUCHED or not recipe.variant.half_planes
            return
        far = HALF_STEP if recipe.variant.half_planes else MAGNIFIED[0]
        assert apart.max() <= far
        if not recipe.variant.half_planes:
            assert (apart > TOLERANCE).mean() < MAGNIFIED[1]
        assert off.mean() < TIED
        if off.any():
            second, best = np.sort(theirs, axis=0)[-2:]
            assert (best - second)[off].max() <= 2 * far


def _thinned(name: str, every: int = 1, **settings: object) -> TagFirstRecipe:
    """Fewer classes, and sentences for tags, so that the text tower does not take all the time."""
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


# -- The gate ------------------------------------------------------------------------------------------------


def test_the_transcription_gives_the_reference_values(compare: Compare) -> None:
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
        ("square", "cls-seg/voc2012", 2, "unsorted"),  # as large as the stored table of positions
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
    compare.given(image, _thinned(recipe, every, half_planes=half), TAGS[tags])


@pytest.mark.parametrize(
    ("image", "recipe", "every"),
    [
        ("square", "cls-seg/voc2012", 2),
        ("strip", "cls-seg/coco2017", 8),
        ("noise", "cls-seg/coco-stuff", 16),
    ],
)
def test_masks_of_found_tags(compare: Compare, image: str, recipe: str, every: int) -> None:
    compare.found(image, _thinned(recipe, every))


@pytest.mark.parametrize(
    ("image", "recipe", "every", "settings"),
    [
        ("noise", "cls-seg+crf/voc2012", 2, {}),
        ("ribbon", "cls-seg+crf/voc2012", 2, {"half_planes": False, "crf_wrapped": False}),
        ("tiny", "cls-seg+crf/coco-stuff", 16, {}),
        ("noise", "clip-es+crf/voc2012", 2, {}),  # with pixels it is unsure of
    ],
)
def test_masks_after_the_field(
    compare: Compare, image: str, recipe: str, every: int, settings: dict[str, object]
) -> None:
    compare.given(image, _thinned(recipe, every, **settings), TAGS["some"])


def test_other_layers_thresholds_and_powers(compare: Compare) -> None:
    recipe = _thinned("cls-seg/voc2012", 2, half_planes=False)
    for settings in ({"attention_layers": (11,)}, {"box_threshold": 0.9}, {"background_power": 3.0}):
        compare.given("noise", mask_recipe(recipe, overrides=settings), TAGS["unsorted"])


def test_images_together_are_as_images_alone(compare: Compare) -> None:
    recipe = _thinned("cls-seg/voc2012", 2)
    names, tags = ["noise", "tiny", "strip", "noise"], [[2], [0, 1], [5, 3, 1], [4, 6]]
    segmenter = tagmask.Segmenter(compare.clip, recipe=recipe)
    together = segmenter([IMAGES[name] for name in names], tags=tags, scores=True)
    for ours, name, given in zip(together, names, tags, strict=True):
        compare.same(ours, IMAGES[name], recipe, given)


# -- The full cross product ----------------------------------------------------------------------------------


@pytest.mark.parity
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_masks_of_every_recipe(compare: Compare, image: str, recipe: str, tags: str) -> None:
    compare.given(image, _thinned(recipe), TAGS[tags])


@pytest.mark.parity
@pytest.mark.parametrize("tags", TAGS)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", [name for name in RECIPES if "crf" not in name])
def test_exact_planes_of_every_recipe(compare: Compare, image: str, recipe: str, tags: str) -> None:
    compare.given(image, _thinned(recipe, half_planes=False), TAGS[tags])


@pytest.mark.parity
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("recipe", CLS_SEG)
def test_found_tags_of_every_recipe(compare: Compare, image: str, recipe: str) -> None:
    compare.found(image, _thinned(recipe))
