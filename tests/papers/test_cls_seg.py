"""CLS-SEG through the public API: recorded labels, one forward pass for both methods, its parts."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bilinear_half_always
from tagmask.dense.prompts import TextQuery, split_names, text_features
from tagmask.errors import InputError
from tagmask.papers import clip_es, cls_seg, tagclip
from tagmask.papers.tagclip import TagclipSettings
from tagmask.refine.crf import CRF_SETTINGS, caffe_wrapped, dense_crf
from tagmask.resolve import tag_recipe
from tagmask.settings.recipes import TagFirstRecipe

GATE = Path(__file__).parents[1] / "golden" / "clipes_small.npz"
SHARED = Path(__file__).parents[3] / "shared" / "golden" / "clipes_voc_img0.npz"
TAGS = [0, 5, 11, 19]
WORDS = ["cat", "dog, puppy", "bicycle", "boat"]
BACKGROUND = ["wall", "grass"]


@pytest.fixture(scope="module")
def voc(tagclip_model: Clip) -> tagmask.Segmenter:
    return tagmask.Segmenter(tagclip_model, recipe="cls-seg/voc2012")


def small_recipe(**tagging: object) -> TagFirstRecipe:
    """A recipe with a few words and several tags per image, at the papers' image sizes."""
    recipe = tagmask.recipe("cls-seg/voc2012")
    assert isinstance(recipe, TagFirstRecipe)
    recipe = recipe.with_names(tuple(WORDS), tuple(BACKGROUND))
    assert recipe.tagger is not None
    tagger = replace(recipe.tagger, templates=("a photo of a {}.",))
    return replace(recipe, tagger=tag_recipe(tagger, overrides={"tag_tau": 0.0, **tagging}))


# -- Recorded labels -------------------------------------------------------------------------------------


def test_labels_of_given_tags_equal_the_reference(voc: tagmask.Segmenter, shapes: list[np.ndarray]) -> None:
    reference = np.load(GATE)["voc/img0/label"]
    seg = voc(shapes[0], tags=TAGS)
    assert np.mean(seg.labels == reference) >= 0.9999
    assert set(np.unique(reference)) == {0, 1, 12, 20}
    assert seg.tags == tuple(TAGS)
    assert (seg.words[0], seg.words[12], len(seg.words)) == ("background", "dog", 21)


@pytest.mark.parity
def test_labels_after_the_crf_equal_the_reference(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    pack = np.load(SHARED)
    seg = tagmask.Segmenter(tagclip_model, recipe="cls-seg+crf/voc2012")(shapes[0], tags=TAGS, scores=True)
    assert np.mean(seg.labels == pack["voc/img0/crf_label"]) >= 0.997
    assert seg.scores is not None
    difference = np.abs(seg.scores.max(axis=0) - pack["voc/img0/crf_conf_max"].astype(np.float32))
    assert np.quantile(difference, 0.999) < 2e-3


@pytest.mark.parity
def test_labels_before_the_crf_equal_the_whole_pack(voc: tagmask.Segmenter, shapes: list[np.ndarray]) -> None:
    assert np.mean(voc(shapes[0], tags=TAGS).labels == np.load(SHARED)["voc/img0/label"]) >= 0.9999


def test_crf_recipe_equals_its_steps(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    recipe = replace(tagmask.recipe("cls-seg+crf/voc2012"), tagger=None)
    image = shapes[0][60:140, 150:270]
    seg = tagmask.Segmenter(tagclip_model, recipe=recipe)(image, tags=TAGS, scores=True)

    def text(names: tuple[str, ...]) -> torch.Tensor:
        return text_features(tagclip_model, names, ("a clean origami {}.",))

    texts = clip_es.ClassTexts(text(recipe.prompts), text(recipe.background))
    settings = recipe.variant
    tower = clip_es.encode_image(tagclip_model, image, settings)
    maps = clip_es.tag_maps(tagclip_model, tower, texts, TAGS, settings).numpy()

    def crf_planes(guide: np.ndarray) -> np.ndarray:
        planes = clip_es.crf_probabilities(torch.from_numpy(maps), (80, 120), settings)
        return dense_crf(torch.from_numpy(planes), guide, CRF_SETTINGS["cls-seg"]).numpy()

    expected = crf_planes(caffe_wrapped(image))
    names = np.array([0, *(tag + 1 for tag in TAGS)])
    assert seg.scores is not None
    np.testing.assert_allclose(seg.scores[names], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(seg.labels, names[expected.argmax(axis=0)])
    assert np.abs(crf_planes(image) - expected).max() > 0.01  # the wrapped image gives other planes
    assert not seg.scores[[c for c in range(21) if c not in names]].any()


def check_equal(a: tagmask.Segmentation, b: tagmask.Segmentation) -> None:
    """Equal up to a step of float16: layers whose attention is captured are summed in another order."""
    assert a.tags == b.tags
    assert a.scores is not None
    assert b.scores is not None
    np.testing.assert_allclose(a.scores, b.scores, rtol=0, atol=2**-10)
    assert np.mean(a.labels != b.labels) < 1e-4


# -- One forward pass ------------------------------------------------------------------------------------


@dataclass
class BlockCalls:
    """Number of runs of each block's MLP, by (layer, images, tokens)."""

    calls: Counter[tuple[int, int, int]]

    def of(self, layer: int, tokens: int) -> int:
        return sum(count for (at, _, n), count in self.calls.items() if (at, n) == (layer, tokens))


@contextmanager
def count_block_calls(clip: Clip) -> Iterator[BlockCalls]:
    """Count calls by hooks on the MLPs: every path through a block ends there, the last block's too."""
    count = BlockCalls(Counter())
    hooks = []
    for layer, block in enumerate(clip.vision.blocks):

        def note(
            module: nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor, layer: int = layer
        ) -> None:
            batch = len(inputs[0]) if inputs[0].ndim == 3 else 1
            count.calls[layer, batch, inputs[0].shape[-2]] += 1

        hooks.append(block.mlp.c_fc.register_forward_hook(note))
    yield count
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("top", [1, 4])
def test_tags_and_masks_share_one_forward_pass(
    tagclip_model: Clip, shapes: list[np.ndarray], top: int
) -> None:
    segmenter = tagmask.Segmenter(tagclip_model, recipe=small_recipe(top=top, candidate_tau=0.0))
    tokens = 1 + 16 * 21
    with count_block_calls(tagclip_model) as count:
        seg = segmenter(shapes[0])
    assert seg.tags is not None
    assert len(seg.tags) == min(top, 3)  # tau 0 takes all words above the lowest
    crops = [(batch, tokens) for layer, batch, tokens in count.calls if layer == 0 and tokens == 197]
    assert len(crops) == 1  # all in one batch
    assert crops[0][0] >= 3
    for layer in range(11):
        assert count.of(layer, tokens) == 1
        assert count.of(layer, 197) == 1
    last = {(batch, tokens): calls for (layer, batch, tokens), calls in count.calls.items() if layer == 11}
    # The value path of tagging; the class tokens of the crops; the patches in Grad-CAM's last block.
    assert last == {(1, tokens): 1, (crops[0][0], 1): 1, (1, tokens - 1): 1}


def test_given_tags_skip_tagging(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    segmenter = tagmask.Segmenter(tagclip_model, recipe=small_recipe())
    with count_block_calls(tagclip_model) as count:
        segmenter(shapes[0], tags=[2, 0, 1])
    assert count.calls == Counter({**{(layer, 1, 337): 1 for layer in range(11)}, (11, 1, 336): 1})
    with count_block_calls(tagclip_model) as count:
        segmenter([shapes[0], shapes[1]], tags=[[], [1]])
    assert {tokens for _, _, tokens in count.calls} == {261, 260}  # without tags no forward pass


def test_tags_equal_the_taggers_and_masks_those_of_given_tags(
    tagclip_model: Clip, voc: tagmask.Segmenter, shapes: list[np.ndarray]
) -> None:
    tags = [result.chosen for result in tagmask.Tagger(tagclip_model, recipe="tagclip/voc2012")(shapes)]
    actual = voc(shapes, scores=True)
    assert [seg.tags for seg in actual] == tags
    assert len(set(tags)) == 3
    for seg, given in zip(actual, voc(shapes, tags=tags, scores=True), strict=True):
        check_equal(seg, given)


@pytest.fixture(scope="module")
def half_table_model(tagclip_weights: Path) -> Clip:
    """Weights whose position table is float16 already, like published weights."""
    clip = tagmask.load(tagclip_weights, device="cpu")
    table = clip.vision.positional_embedding
    table.data.copy_(table.half().float())
    return clip


def test_position_tables_differ_on_the_native_grid(
    tagclip_model: Clip, half_table_model: Clip, shapes: list[np.ndarray]
) -> None:
    # Without crops, which have 197 tokens too.
    recipe = small_recipe(cwr=False)
    for clip, passes in ((tagclip_model, 2), (half_table_model, 1)):
        segmenter = tagmask.Segmenter(clip, recipe=recipe)
        with count_block_calls(clip) as count:
            seg = segmenter(shapes[2], scores=True)
        assert [count.of(layer, 197) for layer in range(11)] == [passes] * 11
        assert count.of(11, 196) == 1
        check_equal(seg, segmenter(shapes[2], tags=seg.tags, scores=True))


@pytest.mark.parametrize("index", [0, 2])
def test_masks_use_position_tables_rounded_as_in_clip_es(
    tagclip_model: Clip, shapes: list[np.ndarray], index: int
) -> None:
    clip, image, recipe = tagclip_model, shapes[index], small_recipe()
    texts = clip_es.ClassTexts(
        text_features(clip, clip_es.fuse_names(WORDS), recipe.templates),
        text_features(clip, BACKGROUND, recipe.templates),
    )
    assert recipe.tagger is not None
    shared = cls_seg.extract_shared_features(clip, image, recipe.tagger.variant, recipe.variant)
    actual = cls_seg.maps_of_tags(clip, image, shared, (1, 3), texts, recipe.variant)
    with torch.inference_mode():
        tower = extract_features(
            clip.vision,
            shared.pixels[None],
            bilinear_half_always,
            capture=tagclip.captured(recipe.tagger.variant, 12) | clip_es.captured(recipe.variant, 12),
        )
        expected = clip_es.tag_maps(clip, tower, texts, (1, 3), recipe.variant)
        unrounded = clip_es.tag_maps(clip, shared.tower, texts, (1, 3), recipe.variant)
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-6)
    off = float((unrounded - expected).abs().max())
    assert off == 0 if index == 0 else off > 2e-5  # else the second forward pass would be useless


# -- Parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dmar", [True, False])
@pytest.mark.parametrize("cwr", [True, False])
def test_scores_from_shared_features_equal_tagclips(
    sclip_model: Clip, shapes: list[np.ndarray], dmar: bool, cwr: bool
) -> None:
    names = split_names([*WORDS, *BACKGROUND])
    texts = text_features(sclip_model, names.texts, ("{}",))
    settings = TagclipSettings(dmar=dmar, cwr=cwr, candidate_tau=0.2)
    masking = clip_es.ClipEsSettings(attention_layers=(7, 8))
    for image in (shapes[0][:100, :90], shapes[2]):
        shared = cls_seg.extract_shared_features(sclip_model, image, settings, masking)
        # Layers 7 and 8 of 12 are 2 of 4, as are 8, 9 and 10 without the last.
        assert set(shared.tower.averages) == {frozenset({2})}
        assert set(shared.tower.votes) == ({"patches"} if dmar else set())
        assert not shared.tower.attention
        query = TextQuery(names, texts, len(WORDS))
        actual = cls_seg.tag_scores(sclip_model, shared, query, settings)
        (expected,) = tagclip.score_images(sclip_model, [image], names, texts, len(WORDS), settings)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)
        assert actual.shape == (len(WORDS),)


def test_features_without_the_layers_are_refused(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    texts = clip_es.ClassTexts(*(text_features(sclip_model, names, ("{}",)) for names in (WORDS, BACKGROUND)))
    few, many = (clip_es.ClipEsSettings(attention_layers=layers) for layers in ((11,), (2, 11)))
    shared = cls_seg.extract_shared_features(sclip_model, shapes[1], TagclipSettings(dmar=False), few)
    with pytest.raises(InputError, match=r"attention of layers \[0\] was not captured"):
        cls_seg.maps_of_tags(sclip_model, shapes[1], shared, (0,), texts, many)
    assert len(cls_seg.maps_of_tags(sclip_model, shapes[1], shared, (), texts, many)) == 0
