"""Masks of an image's tags: restricted candidate classes, refinements, settings shared with the tagger."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

import tagmask
from tagmask.clip.load import Clip
from tagmask.dense.cosine_maps import CosineMaps
from tagmask.dense.propagation import propagate_maps
from tagmask.pipelines import dense, mask_pipeline
from tagmask.pipelines.tag_first import TagFirstPipeline
from tagmask.refine.crf import CRF_SETTINGS, dense_crf
from tagmask.refine.tlp import tlp
from tagmask.resolve import mask_recipe, tag_recipe
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe
from tests.oracles import pamr as slow_pamr
from tests.segmenters import BACKGROUND, KINDS, WORDS, make_segmenter, scores_of


@pytest.fixture(scope="module")
def segmenters(sclip_model: Clip) -> dict[str, tagmask.Segmenter]:
    return {kind: make_segmenter(sclip_model, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def image_crop(shapes: list[np.ndarray]) -> np.ndarray:
    """A corner of a shape: 48 x 60 pixels."""
    return shapes[0][60:108, 40:100]


# -- Words of an image's tags only ---------------------------------------------------------------------------


def each_name(clip: Clip, image_crop: np.ndarray) -> dict[str, np.ndarray]:
    """Logarithm of each name's softmax score: its scaled cosine similarity plus a constant."""
    names = ["wall", "grass", "cat", "dog", "puppy", "bicycle", "boat"]
    settings = {"words": names, "background": [], "among": "words"}
    scores = scores_of(make_segmenter(clip, "dense", **settings)(image_crop, scores=True))
    return {name: np.log(plane.astype(np.float64)) for name, plane in zip(names, scores, strict=True)}


def restricted(cosines: dict[str, np.ndarray], classes: Sequence[str]) -> np.ndarray:
    """Softmax over the names of some classes alone; each class takes its best name."""
    lines = [line.split(", ") for line in classes]
    total = sum(np.exp(cosines[name]) for line in lines for name in line)
    return np.stack([np.max([np.exp(cosines[name]) / total for name in line], axis=0) for line in lines])


@pytest.mark.parametrize("with_background", [True, False])
@pytest.mark.parametrize("tags", [(3, 1), (0,), (1, 2, 0)])
def test_only_words_of_the_tags_compete_in_the_softmax(
    sclip_model: Clip, image_crop: np.ndarray, tags: tuple[int, ...], with_background: bool
) -> None:
    threshold = 0.4
    background = BACKGROUND if with_background else []
    segmenter = make_segmenter(sclip_model, "dense", background=background, prob_thd=threshold)
    seg = segmenter(image_crop, tags=tags, scores=True)
    rows = sorted(tags)
    classes = [", ".join(BACKGROUND)] * with_background + [WORDS[tag] for tag in rows]
    expected = restricted(each_name(sclip_model, image_crop), classes)
    places = [0] * with_background + [tag + with_background for tag in rows]
    np.testing.assert_allclose(scores_of(seg)[places], expected, rtol=0, atol=2e-5)
    assert not np.delete(scores_of(seg), places, axis=0).any()
    labels = np.array(places)[expected.argmax(axis=0)]
    labels[expected.max(axis=0) < threshold] = 0 if with_background else 255
    top = np.sort(np.concatenate([expected, np.full((1, *labels.shape), threshold)]), axis=0)
    clear = (top[-1] - top[-2] > 1e-4) & (abs(expected.max(axis=0) - threshold) > 1e-4)
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(seg.labels[clear], labels[clear])
    assert seg.tags == tags

    fewer = make_segmenter(
        sclip_model, "dense", words=[WORDS[tag] for tag in rows], background=background, prob_thd=threshold
    )
    by_words = fewer(image_crop, tags=range(len(rows)), scores=True)
    np.testing.assert_allclose(scores_of(by_words), scores_of(seg)[places], rtol=0, atol=1e-6)


def test_given_tags_restrict_without_a_tagger(sclip_model: Clip, image_crop: np.ndarray) -> None:
    segmenter = make_segmenter(sclip_model, "dense", among="words")
    everything = segmenter(image_crop)
    assert everything.tags is None
    given = segmenter(image_crop, tags=[2])
    assert given.tags == (2,)
    np.testing.assert_array_equal(
        given.labels, make_segmenter(sclip_model, "dense")(image_crop, tags=[2]).labels
    )
    assert (given.labels != everything.labels).any()
    mixed = mask_pipeline(sclip_model, segmenter.recipe)([image_crop, image_crop], [None, [2]], 255, False)
    assert [masked.tags for masked in mixed] == [None, (2,)]


# -- Refinements ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_background", [True, False])
def test_crf_starts_from_the_words_scores(
    sclip_model: Clip, image_crop: np.ndarray, with_background: bool
) -> None:
    background = BACKGROUND if with_background else []
    plain = make_segmenter(sclip_model, "dense", background=background)(
        image_crop, tags=[3, 0, 1], scores=True
    )
    threshold = float(np.median(scores_of(plain).max(axis=0)))
    refining = make_segmenter(sclip_model, "dense", background=background, prob_thd=threshold, crf="cls-seg")
    seg = refining(image_crop, tags=[3, 0, 1], scores=True)
    places = [0] * with_background + [with_background, 1 + with_background, 3 + with_background]
    planes = scores_of(plain)[places].copy()
    unsure = planes.max(axis=0) < np.float32(threshold)
    if with_background:
        planes[0][unsure] = threshold  # pixels below the threshold start as background
    expected = dense_crf(torch.from_numpy(planes), image_crop, CRF_SETTINGS["cls-seg"]).numpy()
    np.testing.assert_allclose(scores_of(seg)[places], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores_of(seg).sum(axis=0), 1, rtol=0, atol=1e-5)
    assert not np.delete(scores_of(seg), places, axis=0).any()
    labels = np.array(places)[scores_of(seg)[places].argmax(axis=0)]
    if not with_background:
        labels[unsure] = 255
    np.testing.assert_array_equal(seg.labels, labels)


def test_crf_keeps_background_below_the_threshold(sclip_model: Clip, image_crop: np.ndarray) -> None:
    assert set(
        np.unique(make_segmenter(sclip_model, "dense", prob_thd=1.0, crf="cls-seg")(image_crop).labels)
    ) == {0}
    without = make_segmenter(sclip_model, "dense", prob_thd=1.0, crf="cls-seg", background=[])(
        image_crop, tags=[0, 2]
    )
    assert set(np.unique(without.labels)) == {255}


def borders_on_edges(labels: np.ndarray, image: np.ndarray) -> float:
    """Share of the borders between labels at which the colour changes too."""
    edges, borders = [], []
    for axis in (0, 1):
        edges.append((np.diff(image.astype(int), axis=axis) != 0).any(axis=2).ravel())
        borders.append(np.diff(labels.astype(int), axis=axis).ravel() != 0)
    return float(np.concatenate(edges)[np.concatenate(borders)].mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refined", [{"crf": "cls-seg"}, {"pamr_steps": 10}, {"refine": "tlp"}])
def test_refined_masks_follow_colour_edges(
    tagclip_model: Clip, kind: str, refined: dict[str, object]
) -> None:
    flat = np.zeros((60, 80, 3), np.uint8)
    flat[:, :] = (30, 60, 210)
    flat[13:47, 22:55] = (220, 40, 30)
    flat[50:, 60:] = (240, 230, 40)
    plain = make_segmenter(tagclip_model, kind)(flat, tags=[0, 1, 2, 3], scores=True)
    seg = make_segmenter(tagclip_model, kind, **refined)(flat, tags=[0, 1, 2, 3], scores=True)
    assert 0.01 < np.mean(plain.labels != seg.labels) < 0.5
    after = borders_on_edges(seg.labels, flat)
    gain = 1.5 if "refine" in refined else 2  # TLP holds to confident scores
    assert after > gain * borders_on_edges(plain.labels, flat)
    assert after == 1 or "crf" not in refined


def test_propagation_compares_the_texts_of_the_candidates(
    sclip_model: Clip, image_crop: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = make_segmenter(sclip_model, "dense", words=["cat", "dog, puppy", "boat"], refine="tlp")
    seen: list[torch.Tensor] = []

    def watched(maps: CosineMaps, texts: torch.Tensor, recipe: MaskRecipe) -> CosineMaps:
        seen.append(texts)
        assert len(maps.cosines) == len(texts)
        return propagate_maps(maps, texts, recipe)

    monkeypatch.setattr(dense, "propagate_maps", watched)
    for tags in ([0, 1, 2], [1]):
        segmenter(image_crop, tags=tags)
    whole, some = seen
    background = len(whole) - 4
    torch.testing.assert_close(some, torch.cat([whole[:background], whole[background + 1 : -1]]))


def test_propagated_planes_of_tags_stay_probabilities(sclip_model: Clip) -> None:
    pipeline = TagFirstPipeline(
        sclip_model, make_segmenter(sclip_model, "cls-seg", refine="tlp", tlp_steps=2).recipe
    )
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (40, 40, 3), generator=generator, dtype=torch.uint8).numpy()
    planes = (torch.rand(3, 40, 40, generator=generator) > 0.5).float()
    colours = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    free = tlp(planes, colours, torch.eye(3), steps=2)
    assert free.min() < 1e-5
    refined = pipeline._propagate(planes, image, [0, 2])
    assert refined.min() >= 1e-5
    assert refined.max() <= 1


def test_pamr_on_tag_masks_equals_the_formula(sclip_model: Clip, image_crop: np.ndarray) -> None:
    small = image_crop[:18, :22]
    recipe = mask_recipe(make_segmenter(sclip_model, "cls-seg").recipe, overrides={"half_planes": False})
    tags = [2, 0, 3]
    places = [0, 3, 1, 4]
    plain = tagmask.Segmenter(sclip_model, recipe=recipe)(small, tags=tags, scores=True)
    seg = tagmask.Segmenter(sclip_model, recipe=recipe, pamr_steps=2, pamr_dilations=(1, 3))(
        small, tags=tags, scores=True
    )
    planes = np.clip(scores_of(plain)[places], 1e-5, 1)
    guide = (small.transpose(2, 0, 1) / 255).tolist()
    expected = np.array(slow_pamr.pamr(planes.tolist(), guide, 2, (1, 3)))
    np.testing.assert_allclose(scores_of(seg)[places], expected, rtol=0, atol=1e-5)
    assert not scores_of(seg)[2].any()
    top = np.sort(expected, axis=0)
    clear = top[-1] - top[-2] > 1e-4
    np.testing.assert_array_equal(seg.labels[clear], np.array(places)[expected.argmax(axis=0)][clear])


def test_the_crf_of_tag_masks_sums_to_one(sclip_model: Clip, image_crop: np.ndarray) -> None:
    seg = make_segmenter(sclip_model, "cls-seg", crf="cls-seg")(image_crop, tags=[3, 1], scores=True)
    np.testing.assert_allclose(scores_of(seg).sum(axis=0), 1, rtol=0, atol=1e-5)
    assert not scores_of(seg)[[1, 3]].any()
    places = np.array([0, 4, 2])
    np.testing.assert_array_equal(seg.labels, places[scores_of(seg)[places].argmax(axis=0)])


def test_pixels_of_low_confidence_are_ignored(sclip_model: Clip, image_crop: np.ndarray) -> None:
    seg = tagmask.Segmenter(sclip_model, recipe="clip-es+crf/voc2012")(image_crop, tags=[14, 7], scores=True)
    sure = scores_of(seg).max(axis=0)
    assert 0 < np.mean(sure < 0.95) < 1
    np.testing.assert_array_equal(seg.labels == 255, sure < np.float32(0.95))


# -- Settings shared with the tagger -------------------------------------------------------------------------


def test_limits_on_patches_hold_for_found_tags(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    segmenter = make_segmenter(sclip_model, "cls-seg", min_patches=1, max_patches=40)
    found = segmenter(shapes[0], scores=True)
    given = segmenter(shapes[0], tags=found.tags, scores=True)
    np.testing.assert_allclose(scores_of(found), scores_of(given), rtol=0, atol=2**-10)


@pytest.mark.parametrize("as_", ["published", "corrected"])
def test_quirks_apply_to_the_tagger_too(as_: str) -> None:
    found = mask_recipe("cls-seg/voc2012", None, None, as_, {})
    assert isinstance(found, TagFirstRecipe)
    assert found.tagger == tag_recipe("tagclip/voc2012", None, None, as_, {})


def test_confidence_is_a_crfs(sclip_model: Clip, image_crop: np.ndarray) -> None:
    refined = {"crf": None, "pamr_steps": 2}
    segmenter = tagmask.Segmenter(sclip_model, recipe="clip-es+crf/voc2012", **refined)
    assert 255 not in segmenter(image_crop, tags=[14, 7]).labels
