"""Tags in, masks out: what counts as tags, images at the edges of sense."""

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask import resolve
from tagmask.api import _lists, _one_list
from tagmask.clip.load import Clip
from tagmask.dense import rule
from tagmask.dense.features import extract_features
from tagmask.errors import InputError
from tagmask.pipelines import mask_pipeline
from tests.segmenters import BACKGROUND, KINDS, WORDS, made, scores_of


@pytest.fixture(scope="module")
def segmenters(sclip_model: Clip) -> dict[str, tagmask.Segmenter]:
    return {kind: made(sclip_model, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def picture(shapes: list[np.ndarray]) -> np.ndarray:
    """A corner of a shape: 48 x 60 pixels."""
    return shapes[0][60:108, 40:100]


# -- What counts as tags ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tags", [[3, 0], (3, 0), range(3, -1, -3)])
def test_tags_keep_their_order(
    segmenters: dict[str, tagmask.Segmenter], picture: np.ndarray, kind: str, tags: Sequence[int]
) -> None:
    seg = segmenters[kind](picture, tags=tags)
    assert seg.tags == (3, 0)
    assert set(np.unique(seg.labels)) <= {0, 1, 4}
    assert seg.words == ("background", "cat", "dog", "bicycle", "boat")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([1, 1], r"Tags \(1, 1\) repeat a class. Give each class once"),
        ([4], "a tag is 4; give a whole number, from 0 to 3"),
        ([0, -1], "a tag is -1"),
        ([10**30], "a tag is 1000000000000"),
        ([True], "tags hold True; give class numbers"),
    ],
)
def test_tags_that_are_no_class_are_refused(
    segmenters: dict[str, tagmask.Segmenter], picture: np.ndarray, kind: str, tags: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        segmenters[kind](picture, tags=tags)


# What the annotations do not allow never comes through a `Segmenter` here, where they are checked.


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
def test_any_row_of_whole_numbers_is_taken(tags: object) -> None:
    found = _one_list(tags)
    assert found == [3, 0]
    assert all(type(tag) is int for tag in found)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([np.bool_(True)], "tags hold"),
        (np.array([True, False]), "tags hold"),
        (["0"], "tags hold '0'"),
        ([1.0], r"tags hold 1\.0"),
        (np.array([1.0]), "tags hold"),
        ([None], "tags hold None"),
        ([[0]], r"tags hold \[0\]; give class numbers, as in tags=\[0, 5\]"),
        ("0", "tags are '0'; give a list of class numbers"),
        ("cat", "tags are 'cat'"),
        (2, "tags are 2"),
        (np.int64(2), "tags are"),
    ],
)
def test_what_is_no_row_of_whole_numbers_is_refused(tags: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _one_list(tags)


def test_an_array_that_is_one_number_is_refused() -> None:
    with pytest.raises(InputError, match="give a list of class numbers"):
        _one_list(np.array(2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_images_takes_a_list_an_image(
    segmenters: dict[str, tagmask.Segmenter], picture: np.ndarray, kind: str
) -> None:
    segmenter = segmenters[kind]
    images = [picture[: 20 + row] for row in range(10)]  # more than one group
    tags = [[row % 4] for row in range(8)] + [[], [2, 1]]
    found = segmenter(images, tags=tags)
    assert [seg.tags for seg in found] == [tuple(each) for each in tags]
    for seg, image, each in zip(found, images, tags, strict=True):
        assert seg.labels.shape == image.shape[:2]
        assert set(np.unique(seg.labels)) <= {0, *(tag + 1 for tag in each)}
        assert np.mean(seg.labels != segmenter(image, tags=each).labels) < 0.01
    assert segmenter([], tags=[]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_found_where_none_are_given(
    segmenters: dict[str, tagmask.Segmenter], sclip_model: Clip, shapes: list[np.ndarray], kind: str
) -> None:
    images = [image[:90, :110] for image in shapes]
    wanted = [found.chosen for found in tagmask.Tagger(sclip_model, WORDS, background=BACKGROUND)(images)]
    assert len(set(wanted)) > 1
    found = segmenters[kind](images)
    assert [seg.tags for seg in found] == wanted
    given: list[list[int] | None] = [None, [3], None]
    mixed = mask_pipeline(sclip_model, segmenters[kind].recipe)(images, given, 255, False)
    assert [masked.tags for masked in mixed] == [wanted[0], (3,), wanted[2]]
    for masked, seg in ((mixed[0], found[0]), (mixed[2], segmenters[kind](images[2]))):
        assert np.mean(masked.labels != seg.labels) < 0.01


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([[0]], r"tags of 2 images are \[\[0\]\]; give one list an image"),
        ([[0], [1], [2]], "tags of 2 images"),
        ([], "tags of 2 images"),
        ([0, 1], "tags are 0"),
        ("01", "tags of 2 images are '01'"),
        (3, "tags of 2 images are 3"),
        ([[0], "1"], "tags are '1'"),
        ([[0], [True]], "tags hold True"),
    ],
)
def test_other_lists_of_tags_are_refused(tags: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _lists(tags, 2)


@pytest.mark.parametrize("tags", [[[0]], [[0], [4]], [[0], [2, 2]]])
@pytest.mark.parametrize("kind", KINDS)
def test_every_list_is_checked(
    segmenters: dict[str, tagmask.Segmenter], picture: np.ndarray, kind: str, tags: list[list[int]]
) -> None:
    with pytest.raises(InputError, match=r"tags of 2 images|a tag is 4|repeat a class"):
        segmenters[kind]([picture, picture], tags=tags)


# -- Images without tags, recipes without a tagger, masks without a background ---------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refined", [{}, {"crf": "cls-seg"}, {"pamr_steps": 2}])
def test_no_tags_are_all_background(
    sclip_model: Clip, picture: np.ndarray, kind: str, refined: dict[str, object]
) -> None:
    seg = made(sclip_model, kind, **refined)(picture, tags=[], scores=True)
    assert set(np.unique(seg.labels)) == {0}
    assert seg.tags == ()
    assert not scores_of(seg)[1:].any()
    assert seg.shares() == {"background": 1.0}


@pytest.mark.parametrize("refined", [{}, {"crf": "cls-seg"}, {"pamr_steps": 2}])
def test_no_tags_and_no_background_are_nothing(
    sclip_model: Clip, picture: np.ndarray, refined: dict[str, object]
) -> None:
    stuff = tagmask.recipe("cls-seg/coco-stuff").with_names(tuple(WORDS), ())
    for segmenter in (
        made(sclip_model, "dense", background=[], **refined),
        tagmask.Segmenter(sclip_model, recipe=stuff, **refined),
    ):
        assert "background" not in segmenter.words
        seg = segmenter(picture, tags=[], scores=True)
        assert set(np.unique(seg.labels)) == {255}
        assert scores_of(seg).shape == (len(segmenter.words), 48, 60)
        assert not scores_of(seg).any()
        assert seg.shares() == {}
        some = segmenter(picture, tags=[2, 0], scores=True)
        assert set(np.unique(some.labels)) <= {0, 2}
        assert scores_of(some)[[0, 2]].any()
        assert not np.delete(scores_of(some), [0, 2], axis=0).any()


def test_nothing_can_be_any_number(segmenters: dict[str, tagmask.Segmenter], picture: np.ndarray) -> None:
    without = made(segmenters["dense"].clip, "dense", background=[], prob_thd=1.0)
    found = mask_pipeline(without.clip, without.recipe)([picture, picture], [[], [3, 1]], 65535, False)
    assert [set(np.unique(masked.labels)) for masked in found] == [{65535}, {65535}]


def test_clip_es_asks_for_tags(sclip_model: Clip, picture: np.ndarray) -> None:
    segmenter = tagmask.Segmenter(sclip_model, recipe="clip-es/voc2012")
    for image in (picture, [picture]):
        with pytest.raises(InputError, match=r"clip-es/voc2012 masks tags that are given; give them, as in"):
            segmenter(image)
    assert segmenter(picture, tags=[14]).tags == (14,)


def test_one_tag_without_any_rival_is_background(sclip_model: Clip, picture: np.ndarray) -> None:
    seg = made(sclip_model, "cls-seg", words=["cat"], background=[])(picture, scores=True)
    assert seg.tags == (0,)
    assert set(np.unique(seg.labels)) == {0}
    np.testing.assert_array_equal(scores_of(seg)[0], 1)


# -- Images at the edges of sense ------------------------------------------------------------------------


REFINED = ({}, {"pamr_steps": 1, "crf": "deeplab"})


@pytest.fixture(scope="module")
def refiners(sclip_model: Clip) -> list[tagmask.Segmenter]:
    return [made(sclip_model, kind, **refined) for kind in KINDS for refined in REFINED]


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (5, 40), (15, 17)])
def test_odd_sizes_have_results(size: tuple[int, int], refiners: list[tagmask.Segmenter]) -> None:
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


def test_grey_images_are_their_colours_three_times(
    segmenters: dict[str, tagmask.Segmenter], picture: np.ndarray
) -> None:
    grey = PILImage.fromarray(picture).convert("L")
    for segmenter in segmenters.values():
        found = segmenter(grey, scores=True)
        same = segmenter(np.repeat(np.asarray(grey)[..., None], 3, axis=2), scores=True)
        assert found.tags == same.tags
        np.testing.assert_array_equal(found.labels, same.labels)
        np.testing.assert_array_equal(found.scores, same.scores)


def test_one_row_of_patches_is_all_background_as_published(sclip_model: Clip) -> None:
    image = np.random.default_rng(1).integers(0, 256, (14, 160, 3), np.uint8)
    recipe = resolve.mask_recipe("clip-es/voc2012", overrides={"min_patches": 1})
    published = tagmask.Segmenter(sclip_model, recipe=recipe)(image, tags=[0, 7])
    assert set(np.unique(published.labels)) == {0}
    corrected = tagmask.Segmenter(sclip_model, recipe=recipe, as_="corrected")(image, tags=[0, 7])
    assert set(np.unique(corrected.labels)) > {0}


def test_methods_compared_are_as_each_alone(
    variants_model: Clip, shapes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ["clip", "sclip", "resclip", "sc-clip", "gem"]
    texts = {"templates": ("a photo of a {}.",), "short_side": 112, "crop": 112, "stride": 56}
    base = tagmask.Segmenter(variants_model, recipe="sclip/voc20", **texts)
    looks = _count_passes(monkeypatch)
    found = base.compare(shapes[0], chosen, scores=True)
    shared = len(looks)
    assert list(found) == chosen
    for method, seg in found.items():
        alone = tagmask.Segmenter(variants_model, recipe="sclip/voc20", method=method, **texts)
        expected = alone(shapes[0], scores=True)
        np.testing.assert_allclose(seg.scores, expected.scores, rtol=0, atol=1e-5)
    # GEM stretches the position table in another way and so has a pass of its own.
    assert len(looks) - shared == len(chosen) * shared / 2


def _count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    looks: list[int] = []

    def counted(*args: object, **kwargs: object) -> object:
        looks.append(1)
        return extract_features(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(rule, "extract_features", counted)
    return looks


def test_only_methods_of_a_kind_can_be_compared(variants_model: Clip, shapes: list[np.ndarray]) -> None:
    dense = tagmask.Segmenter(variants_model, ["cat"], background=["sky"])
    with pytest.raises(tagmask.TagmaskError, match="'cls-seg' masks tags and has no attention to vary"):
        dense.compare(shapes[0], ["cls-seg"])
    tagged = tagmask.Segmenter(variants_model, ["cat"], background=["sky"], method="cls-seg")
    with pytest.raises(tagmask.TagmaskError, match="masks tags and has no last block to vary"):
        tagged.compare(shapes[0], ["clip"])
