"""Masks of given and found tags: valid and invalid tags, images of extreme sizes."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask import resolve
from tagmask.clip.load import Clip
from tagmask.dense import rule
from tagmask.dense.features import extract_features
from tagmask.errors import InputError
from tagmask.pipelines import mask_pipeline
from tagmask.pipelines.given_tags import tag_list, tag_lists
from tests.segmenters import BACKGROUND, KINDS, WORDS, make_segmenter, scores_of


@pytest.fixture(scope="module")
def segmenters(sclip_model: Clip) -> dict[str, tagmask.Segmenter]:
    return {kind: make_segmenter(sclip_model, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def image_crop(shapes: list[np.ndarray]) -> np.ndarray:
    """A corner of a shape: 48 x 60 pixels."""
    return shapes[0][60:108, 40:100]


# -- What counts as tags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tags", [[3, 0], (3, 0), range(3, -1, -3)])
def test_tags_keep_their_order(
    segmenters: dict[str, tagmask.Segmenter], image_crop: np.ndarray, kind: str, tags: Sequence[int]
) -> None:
    seg = segmenters[kind](image_crop, tags=tags)
    assert seg.tags == (3, 0)
    assert set(np.unique(seg.labels)) <= {0, 1, 4}
    assert seg.words == ("background", "cat", "dog", "bicycle", "boat")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([1, 1], r"Tags \(1, 1\) repeat a class\. Give each class once"),
        ([4], "a tag is 4. Give a whole number, from 0 to 3"),
        ([0, -1], "a tag is -1"),
        ([10**30], "a tag is 1000000000000"),
        ([True], "Invalid tag True. Give class numbers"),
    ],
)
def test_invalid_tags_are_refused(
    segmenters: dict[str, tagmask.Segmenter], image_crop: np.ndarray, kind: str, tags: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        segmenters[kind](image_crop, tags=tags)


# Tests check annotations, so values that `Segmenter` does not allow are passed to the parser itself.


@pytest.mark.parametrize(
    "tags",
    [
        np.array([3, 0]),
        np.array([3, 0], np.uint8),
        [np.int64(3), np.uint8(0)],
        (tag for tag in (3, 0)),
        {3: "boat", 0: "cat"}.keys(),
    ],
)
def test_any_sequence_of_integers_is_accepted(tags: object) -> None:
    found = tag_list(tags)
    assert found == [3, 0]
    assert all(type(tag) is int for tag in found)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([np.bool_(True)], "Invalid tag "),
        (np.array([True, False]), "Invalid tag "),
        (["0"], "Invalid tag '0'"),
        ([1.0], r"Invalid tag 1\.0"),
        (np.array([1.0]), "Invalid tag "),
        ([None], "Invalid tag None"),
        ([[0]], r"Invalid tag \[0\]. Give class numbers, as in tags=\[0, 5\]"),
        ("0", "Invalid tags '0'. Give a list of class numbers"),
        ("cat", "Invalid tags 'cat'"),
        (2, "Invalid tags 2"),
        (np.int64(2), "Invalid tags"),
    ],
)
def test_other_values_are_refused(tags: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tag_list(tags)


def test_scalar_array_is_refused() -> None:
    with pytest.raises(InputError, match="Give a list of class numbers"):
        tag_list(np.array(2))


@pytest.mark.parametrize("kind", KINDS)
def test_list_of_images_takes_one_list_of_tags_per_image(
    segmenters: dict[str, tagmask.Segmenter], image_crop: np.ndarray, kind: str
) -> None:
    segmenter = segmenters[kind]
    images = [image_crop[: 20 + row] for row in range(10)]  # more than one group
    tags = [[row % 4] for row in range(8)] + [[], [2, 1]]
    found = segmenter(images, tags=tags)
    assert [seg.tags for seg in found] == [tuple(each) for each in tags]
    for seg, image, each in zip(found, images, tags, strict=True):
        assert seg.labels.shape == image.shape[:2]
        assert set(np.unique(seg.labels)) <= {0, *(tag + 1 for tag in each)}
        assert np.mean(seg.labels != segmenter(image, tags=each).labels) < 0.01
    assert segmenter([], tags=[]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_found_if_none_are_given(
    segmenters: dict[str, tagmask.Segmenter], sclip_model: Clip, shapes: list[np.ndarray], kind: str
) -> None:
    images = [image[:90, :110] for image in shapes]
    expected = [tags.chosen for tags in tagmask.Tagger(sclip_model, WORDS, background=BACKGROUND)(images)]
    assert len(set(expected)) > 1
    found = segmenters[kind](images)
    assert [seg.tags for seg in found] == expected
    given: list[list[int] | None] = [None, [3], None]
    mixed = mask_pipeline(sclip_model, segmenters[kind].recipe)(images, given, 255, False)
    assert [masked.tags for masked in mixed] == [expected[0], (3,), expected[2]]
    for masked, seg in ((mixed[0], found[0]), (mixed[2], segmenters[kind](images[2]))):
        assert np.mean(masked.labels != seg.labels) < 0.01


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([[0]], r"Invalid tags \[\[0\]\] for 2 images. Give one list per image"),
        ([[0], [1], [2]], "for 2 images"),
        ([], "for 2 images"),
        ([0, 1], "Invalid tags 0"),
        ("01", "Invalid tags '01' for 2 images"),
        (3, "Invalid tags 3 for 2 images"),
        ([[0], "1"], "Invalid tags '1'"),
        ([[0], [True]], "Invalid tag True"),
    ],
)
def test_invalid_lists_of_tags_are_refused(tags: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tag_lists(tags, 2)


@pytest.mark.parametrize("tags", [[[0]], [[0], [4]], [[0], [2, 2]]])
@pytest.mark.parametrize("kind", KINDS)
def test_tags_of_every_image_are_checked(
    segmenters: dict[str, tagmask.Segmenter], image_crop: np.ndarray, kind: str, tags: list[list[int]]
) -> None:
    with pytest.raises(InputError, match=r"for 2 images|tag is 4|repeat a class"):
        segmenters[kind]([image_crop, image_crop], tags=tags)


# -- Images without tags, recipes without a tagger, masks without a background -------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refined", [{}, {"crf": "cls-seg"}, {"pamr_steps": 2}, {"refine": "tlp"}])
def test_no_tags_give_background_only(
    sclip_model: Clip, image_crop: np.ndarray, kind: str, refined: dict[str, object]
) -> None:
    seg = make_segmenter(sclip_model, kind, **refined)(image_crop, tags=[], scores=True)
    assert set(np.unique(seg.labels)) == {0}
    assert seg.tags == ()
    assert not scores_of(seg)[1:].any()
    assert seg.shares() == {"background": 1.0}


@pytest.mark.parametrize("refined", [{}, {"crf": "cls-seg"}, {"pamr_steps": 2}, {"refine": "tlp"}])
def test_no_tags_and_no_background_give_the_ignore_index(
    sclip_model: Clip, image_crop: np.ndarray, refined: dict[str, object]
) -> None:
    stuff = tagmask.recipe("cls-seg/coco-stuff").with_names(tuple(WORDS), ())
    for segmenter in (
        make_segmenter(sclip_model, "dense", background=[], **refined),
        tagmask.Segmenter(sclip_model, recipe=stuff, **refined),
    ):
        assert "background" not in segmenter.words
        seg = segmenter(image_crop, tags=[], scores=True)
        assert set(np.unique(seg.labels)) == {255}
        assert scores_of(seg).shape == (len(segmenter.words), 48, 60)
        assert not scores_of(seg).any()
        assert seg.shares() == {}
        some = segmenter(image_crop, tags=[2, 0], scores=True)
        assert set(np.unique(some.labels)) <= {0, 2}
        assert scores_of(some)[[0, 2]].any()
        assert not np.delete(scores_of(some), [0, 2], axis=0).any()


def test_ignore_index_is_a_parameter(
    segmenters: dict[str, tagmask.Segmenter], image_crop: np.ndarray
) -> None:
    without = make_segmenter(segmenters["dense"].clip, "dense", background=[], prob_thd=1.0)
    found = mask_pipeline(without.clip, without.recipe)([image_crop, image_crop], [[], [3, 1]], 65535, False)
    assert [set(np.unique(masked.labels)) for masked in found] == [{65535}, {65535}]


def test_clip_es_needs_tags(sclip_model: Clip, image_crop: np.ndarray) -> None:
    segmenter = tagmask.Segmenter(sclip_model, recipe="clip-es/voc2012")
    for image in (image_crop, [image_crop]):
        with pytest.raises(InputError, match=r"clip-es/voc2012 needs the image's tags. Give them, as in"):
            segmenter(image)
    assert segmenter(image_crop, tags=[14]).tags == (14,)


def test_one_tag_without_competing_texts_is_background(sclip_model: Clip, image_crop: np.ndarray) -> None:
    seg = make_segmenter(sclip_model, "cls-seg", words=["cat"], background=[])(image_crop, scores=True)
    assert seg.tags == (0,)
    assert set(np.unique(seg.labels)) == {0}
    np.testing.assert_array_equal(scores_of(seg)[0], 1)


# -- Images of extreme sizes ---------------------------------------------------------------------------------


REFINED = ({}, {"pamr_steps": 1, "crf": "deeplab"}, {"tlp_steps": 25, "tlp_grid": 4, "crf": "deeplab"})


@pytest.fixture(scope="module")
def refiners(sclip_model: Clip) -> list[tagmask.Segmenter]:
    return [make_segmenter(sclip_model, kind, **refined) for kind in KINDS for refined in REFINED]


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (5, 40), (15, 17)])
def test_extreme_sizes_have_results(size: tuple[int, int], refiners: list[tagmask.Segmenter]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for segmenter in refiners:
        for tags in (None, [2, 0]):
            seg = segmenter(image, tags=tags, scores=True)
            assert seg.labels.shape == size
            assert scores_of(seg).shape == (5, *size)
            assert np.isfinite(scores_of(seg)).all()
            assert seg.tags is not None
            assert set(np.unique(seg.labels)) <= {0, *(tag + 1 for tag in seg.tags)}


@pytest.mark.parametrize("value", [0, 128, 255])
def test_plain_images_have_results(value: int, refiners: list[tagmask.Segmenter]) -> None:
    image = np.full((40, 50, 3), value, np.uint8)
    for segmenter in refiners:
        seg = segmenter(image, scores=True)
        assert seg.tags
        assert np.isfinite(scores_of(seg)).all()


def test_grey_image_equals_its_rgb_version(
    segmenters: dict[str, tagmask.Segmenter], image_crop: np.ndarray
) -> None:
    grey = PILImage.fromarray(image_crop).convert("L")
    for segmenter in segmenters.values():
        found = segmenter(grey, scores=True)
        same = segmenter(np.repeat(np.asarray(grey)[..., None], 3, axis=2), scores=True)
        assert found.tags == same.tags
        np.testing.assert_array_equal(found.labels, same.labels)
        np.testing.assert_array_equal(found.scores, same.scores)


def test_one_row_of_patches_is_background_as_published(sclip_model: Clip) -> None:
    image = np.random.default_rng(1).integers(0, 256, (14, 160, 3), np.uint8)
    recipe = resolve.mask_recipe("clip-es/voc2012", overrides={"min_patches": 1})
    published = tagmask.Segmenter(sclip_model, recipe=recipe)(image, tags=[0, 7])
    assert set(np.unique(published.labels)) == {0}
    corrected = tagmask.Segmenter(sclip_model, recipe=recipe, as_="corrected")(image, tags=[0, 7])
    assert set(np.unique(corrected.labels)) > {0}


def test_compare_equals_each_method_alone(
    variants_model: Clip, shapes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["clip", "sclip", "resclip", "sc-clip", "gem"]
    texts = {"templates": ("a photo of a {}.",), "short_side": 112, "crop": 112, "stride": 56}
    base = tagmask.Segmenter(variants_model, recipe="sclip/voc20", **texts)
    passes = _count_passes(monkeypatch)
    found = base.compare(shapes[0], chosen, scores=True)
    shared = len(passes)
    assert list(found) == chosen
    for method, seg in found.items():
        alone = tagmask.Segmenter(variants_model, recipe="sclip/voc20", method=method, **texts)
        expected = alone(shapes[0], scores=True)
        np.testing.assert_allclose(seg.scores, expected.scores, rtol=0, atol=1e-5)
    # GEM interpolates the position table in another way, so it needs a forward pass of its own.
    assert len(passes) - shared == len(chosen) * shared / 2


def _count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    passes: list[int] = []

    def counted(*args: object, **kwargs: object) -> object:
        passes.append(1)
        return extract_features(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(rule, "extract_features", counted)
    return passes


def test_only_dense_methods_can_be_compared(variants_model: Clip, shapes: list[np.ndarray]) -> None:
    dense = tagmask.Segmenter(variants_model, ["cat"], background=["sky"])
    with pytest.raises(tagmask.TagmaskError, match="'cls-seg' masks tags and has no attention to vary"):
        dense.compare(shapes[0], ["cls-seg"])
    tagged = tagmask.Segmenter(variants_model, ["cat"], background=["sky"], method="cls-seg")
    with pytest.raises(tagmask.TagmaskError, match="masks tags and has no last block to vary"):
        tagged.compare(shapes[0], ["clip"])
