"""The public contract: what goes in, what comes out."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import ImageError, InputError, ShapeError
from tagmask.papers import tagclip


@pytest.fixture(scope="module")
def tagger(tagclip_model: Clip) -> tagmask.Tagger:
    return tagmask.Tagger(tagclip_model, words=["cat", "dog, puppy", "bicycle"])


@pytest.fixture(scope="module")
def segmenter(sclip_model: Clip) -> tagmask.Segmenter:
    return tagmask.Segmenter(sclip_model, words=["cat", "dog, puppy", "bicycle"])


def test_importing_tagmask_does_not_import_torch() -> None:
    code = "import sys, tagmask; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names() -> None:
    assert set(tagmask.__all__) == {
        "Clip",
        "Run",
        "Segmentation",
        "Segmenter",
        "Student",
        "Tagger",
        "Tags",
        "TagmaskError",
        "load",
        "methods",
        "recipe",
        "recipes",
        "register_dataset",
        "register_method",
    }
    for name in tagmask.__all__:
        assert getattr(tagmask, name).__doc__
    assert dir(tagmask) == sorted(tagmask.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'segmenters'"):
        _ = tagmask.segmenters  # type: ignore[attr-defined]


def test_methods_have_descriptions() -> None:
    found = tagmask.methods()
    assert {"clip", "maskclip", "sclip", "naclip", "sc-clip", "cls-seg", "tagclip"} <= found.keys()
    assert all("(" in line and "\n" not in line for line in found.values())


def test_tags(tagger: tagmask.Tagger, shapes: list[np.ndarray]) -> None:
    tags = tagger(shapes[0])
    assert tags.words == ("cat", "dog", "bicycle")
    assert (tags.scores.shape, tags.scores.dtype) == ((3,), np.float32)
    assert tags.chosen
    assert all(type(c) is int for c in tags.chosen)
    assert set(tags.chosen) == set(np.flatnonzero(tags.scores > tags.threshold))
    assert tags.precision == "float32"
    assert tags.names[0] == tags.words[int(tags.scores.argmax())]


def test_each_step_can_be_switched_off(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    recorded = np.load(Path(__file__).parent / "golden" / "tagclip_voc_img0.npz")

    def scores(**steps: bool) -> np.ndarray:
        return tagmask.Tagger(tagclip_model, recipe="tagclip/voc2012", **steps)(shapes[0]).scores

    coarse = recorded["img0/P_coarse"][:, :20].max(axis=0)
    np.testing.assert_allclose(scores(dmar=False, cwr=False), coarse, rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores(cwr=False), recorded["img0/P_local"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores(), recorded["img0/P_final"], rtol=0, atol=1e-5)
    assert np.abs(scores(dmar=False) - coarse).max() > 1e-3  # crops of coarse candidates: not recorded


def test_a_second_name_can_only_raise_a_class_s_score(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    options = {"dmar": False, "cwr": False, "background": ["wall"]}
    both = tagmask.Tagger(tagclip_model, ["cat", "dog", "puppy"], **options)(shapes[1])
    merged = tagmask.Tagger(tagclip_model, ["cat", "dog, puppy"], **options)(shapes[1])
    np.testing.assert_allclose(merged.scores[0], both.scores[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(merged.scores[1], both.scores[1:].max(), rtol=0, atol=1e-6)


def test_min_score_and_top_limit_the_tags(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    many = tagmask.Tagger(tagclip_model, recipe="tagclip/voc2012")(shapes[0])
    assert len(many.chosen) > 1
    best = int(many.scores.argmax())
    assert tagmask.Tagger(tagclip_model, recipe="tagclip/voc2012", top=1)(shapes[0]).chosen == (best,)
    assert tagmask.Tagger(tagclip_model, recipe="tagclip/voc2012", min_score=0.999)(shapes[0]).chosen == ()


def test_one_word_is_always_the_tag(tagclip_model: Clip, shapes: list[np.ndarray]) -> None:
    assert tagmask.Tagger(tagclip_model, ["cat"])(shapes[0]).names == ("cat",)


def test_masks(segmenter: tagmask.Segmenter, shapes: list[np.ndarray]) -> None:
    seg = segmenter(shapes[1])
    assert seg.words == ("background", "cat", "dog", "bicycle")
    assert (seg.labels.shape, seg.labels.dtype) == ((320, 200), np.uint8)
    assert seg.labels.max() < 4
    assert seg.scores is None
    assert (seg.precision, seg.tags) == ("float32", None)
    assert sum(seg.shares().values()) == pytest.approx(1)


def test_scores_on_request(segmenter: tagmask.Segmenter, shapes: list[np.ndarray]) -> None:
    seg = segmenter(shapes[1], scores=True)
    assert seg.scores is not None
    assert (seg.scores.shape, seg.scores.dtype) == ((4, 320, 200), np.float32)
    best = seg.scores.argmax(axis=0)
    best[seg.scores.max(axis=0) < segmenter.recipe.prob_thd] = 0
    np.testing.assert_array_equal(best, seg.labels)


def test_a_high_threshold_leaves_background(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    with_background = tagmask.Segmenter(sclip_model, ["cat", "dog"], prob_thd=1.0)(shapes[2])
    assert set(np.unique(with_background.labels)) == {0}
    without = tagmask.Segmenter(sclip_model, ["cat", "dog"], background=[], prob_thd=1.0)(shapes[2])
    assert set(np.unique(without.labels)) == {255}
    assert without.words == ("cat", "dog")
    assert without.shares() == {}


def test_no_background_labels_every_pixel(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    seg = tagmask.Segmenter(sclip_model, ["cat", "dog"], background=[])(shapes[2])
    assert set(np.unique(seg.labels)) <= {0, 1}


def test_recipes_name_label_zero_background(sclip_model: Clip) -> None:
    assert tagmask.Segmenter(sclip_model, recipe="sclip/voc21").words[:3] == (
        "background",
        "aeroplane",
        "bicycle",
    )
    assert tagmask.Segmenter(sclip_model, recipe="sclip/context60").words[0] == "background"
    assert tagmask.Segmenter(sclip_model, recipe="sclip/voc20").words[0] == "aeroplane"


def test_more_than_255_classes_need_16_bits(
    sclip_model: Clip, shapes: list[np.ndarray], tmp_path: Path
) -> None:
    words = [f"thing {i}" for i in range(300)]
    seg = tagmask.Segmenter(sclip_model, words, background=[], templates=("{}",))(shapes[2])
    assert seg.labels.dtype == np.uint16
    seg.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(np.array(PILImage.open(tmp_path / "mask.png")), seg.labels)


def test_save_and_overlay(segmenter: tagmask.Segmenter, shapes: list[np.ndarray], tmp_path: Path) -> None:
    seg = segmenter(shapes[0])
    seg.save(tmp_path / "mask.png")
    with PILImage.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.array(mask), seg.labels)
    drawn = seg.overlay(shapes[0])
    assert (drawn.mode, drawn.size) == ("RGB", (333, 250))
    inside = seg.labels == 0
    for axis, shift in ((0, 9), (0, -9), (1, 9), (1, -9)):  # well away from outlines and the words on them
        inside &= np.roll(seg.labels, shift, axis) == 0
    same = (np.asarray(drawn) == shapes[0]).all(axis=2)
    assert inside.any()
    assert same[inside].mean() > 0.9
    assert not same[seg.labels > 0].any() or same[seg.labels > 0].mean() < 0.1
    with pytest.raises(ShapeError, match="Give the image that was masked"):
        seg.overlay(shapes[1])


def test_every_image_source_gives_the_same_result(
    tagger: tagmask.Tagger, segmenter: tagmask.Segmenter, shapes: list[np.ndarray], tmp_path: Path
) -> None:
    image = PILImage.fromarray(shapes[2])
    image.save(tmp_path / "a.png")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    sources = [shapes[2], image, tmp_path / "a.png", str(tmp_path / "a.png"), buffer.getvalue()]
    for source in sources[1:]:
        np.testing.assert_array_equal(tagger(source).scores, tagger(shapes[2]).scores)
        np.testing.assert_array_equal(segmenter(source).labels, segmenter(shapes[2]).labels)


def test_lists_in_lists_out_equal_one_at_a_time(
    tagger: tagmask.Tagger, segmenter: tagmask.Segmenter, shapes: list[np.ndarray]
) -> None:
    images = [*shapes, shapes[0][:40, :60], *shapes, shapes[1][:100], shapes[2][:, :90]]
    for together, image in zip(tagger(images), images, strict=True):
        np.testing.assert_allclose(together.scores, tagger(image).scores, rtol=0, atol=1e-6)
    for found, image in zip(segmenter(tuple(images), scores=True), images, strict=True):
        alone = segmenter(image, scores=True)
        assert found.scores is not None
        assert alone.scores is not None
        np.testing.assert_allclose(found.scores, alone.scores, rtol=0, atol=1e-5)
        assert np.mean(found.labels != alone.labels) < 1e-3
    assert tagger([]) == []
    assert segmenter([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (16, 16), (15, 17), (5, 400)])
def test_extreme_sizes_have_results(
    size: tuple[int, int], tagger: tagmask.Tagger, segmenter: tagmask.Segmenter
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert np.isfinite(tagger(image).scores).all()
    assert segmenter(image).labels.shape == size


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_plain_image_has_finite_scores(
    value: int, tagger: tagmask.Tagger, segmenter: tagmask.Segmenter
) -> None:
    image = np.full((60, 80, 3), value, np.uint8)
    assert np.isfinite(tagger(image).scores).all()
    assert len(tagger(image).chosen) >= 1
    seg = segmenter(image, scores=True)
    assert seg.scores is not None
    assert np.isfinite(seg.scores).all()


def test_strip_size_does_not_change_results(
    sclip_model: Clip, shapes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    for recipe in ("sclip/voc21", "sclip+pamr/voc21"):
        segmenter = tagmask.Segmenter(sclip_model, recipe=recipe)
        whole = segmenter(shapes[1], scores=True)
        with monkeypatch.context() as patch:
            patch.setattr("tagmask.dense.labels._STRIP", 1)
            patch.setattr("tagmask.dense.labels._WHOLE", 0)
            strips = segmenter(shapes[1], scores=True)
        assert whole.scores is not None
        assert strips.scores is not None
        np.testing.assert_allclose(strips.scores, whole.scores, rtol=0, atol=1e-5)
        assert np.mean(strips.labels != whole.labels) < 1e-3


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((375, 500), {}, (384, 512)),
        ((3000, 4000), {"max_patches": 1200}, (480, 640)),
        ((4000, 3000), {"max_patches": 1200}, (640, 480)),
        ((50, 50), {"min_patches": 196}, (224, 224)),
        ((1, 3000), {"max_patches": 100}, (16, 1600)),
        ((1, 1), {}, (16, 16)),
    ],
)
def test_images_are_brought_within_the_limits(
    size: tuple[int, int], limits: dict[str, int], expected: tuple[int, int], tagclip_model: Clip
) -> None:
    image = np.zeros((*size, 3), np.uint8)
    pixels = tagclip.preprocess_bicubic(tagclip_model, image, tagclip.TagclipSettings(**limits))
    assert tuple(pixels.shape) == (3, *expected)


def test_area_threshold_does_not_depend_on_the_order_of_words(
    sclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    words = ["cat", "dog", "cow", "boat"]
    options = {"background": [], "area_thd": 0.3}
    found = [
        tagmask.Segmenter(sclip_model, order, **options)(shapes[1])
        for order in (words, words[::-1], [*words[2:], *words[:2]])
    ]
    plain = tagmask.Segmenter(sclip_model, words, background=[])(shapes[1])
    assert len(found[0].shares()) < len(plain.shares())
    for seg in found[1:]:
        renamed = np.array([words.index(word) for word in seg.words])[seg.labels]
        np.testing.assert_array_equal(renamed, found[0].labels)


def test_background_is_exempt_from_the_area_threshold(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    seg = tagmask.Segmenter(sclip_model, ["cat", "dog"], area_thd=1.0)(shapes[0])
    assert set(np.unique(seg.labels)) == {0}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precisions_stay_close(
    precision: str, tagclip_weights: Path, tagclip_model: Clip, shapes: list[np.ndarray]
) -> None:
    low = tagmask.load(tagclip_weights, device="cpu", precision=precision)
    exact = tagmask.Tagger(tagclip_model, recipe="tagclip/voc2012")(shapes[1])
    rough = tagmask.Tagger(low, recipe="tagclip/voc2012")(shapes[1])
    assert rough.precision == precision
    assert 0 < np.abs(rough.scores - exact.scores).max() < 0.05
    masks = [tagmask.Segmenter(clip, recipe="sclip/voc20")(shapes[1]) for clip in (tagclip_model, low)]
    assert masks[1].precision == precision
    assert np.mean(masks[0].labels != masks[1].labels) < 0.1


def test_windows_smaller_than_a_patch_are_refused(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    with pytest.raises(
        InputError, match=r"Crop is 15 pixels, but a patch of these weights has 16\. Use a crop of at least"
    ):
        tagmask.Segmenter(sclip_model, ["cat"], crop=15, stride=15)
    assert tagmask.Segmenter(sclip_model, ["cat"], crop=16, stride=16)(shapes[2]).labels.shape == (224, 224)
    assert tagmask.Segmenter(sclip_model, ["cat"], crop=None)(shapes[1]).labels.shape == (320, 200)


def test_an_image_that_cannot_be_read_is_an_image_error(segmenter: tagmask.Segmenter) -> None:
    with pytest.raises(ImageError):
        segmenter("nowhere.jpg")
    with pytest.raises(tagmask.TagmaskError):
        segmenter(b"not an image")


def test_setting_of_the_other_kind_is_refused(sclip_model: Clip) -> None:
    with pytest.raises(InputError, match="Unknown setting prob_thd of tagclip"):
        tagmask.Tagger(sclip_model, ["cat"], prob_thd=0.1)


def test_objects_have_short_descriptions(tagger: tagmask.Tagger, segmenter: tagmask.Segmenter) -> None:
    assert repr(tagger) == "Tagger(tagclip: cat, dog, bicycle)"
    assert repr(segmenter) == "Segmenter(sclip: background, cat, dog, bicycle)"
    assert repr(segmenter.clip).startswith("Clip('")
    assert len(repr(segmenter.clip)) < 400
    long = tagmask.Segmenter(segmenter.clip, recipe="sclip/coco-stuff")
    assert repr(long).endswith(" and 165 more)")


def test_the_command_lines_names_are_accepted(segmenter: tagmask.Segmenter) -> None:
    clip, words = segmenter.clip, ["cat", "hat"]
    by_option = tagmask.Segmenter(clip, words, threshold=0.3, refine="pamr").recipe
    assert by_option == tagmask.Segmenter(clip, words, prob_thd=0.3, pamr_steps=10).recipe
    with pytest.raises(InputError, match="threshold and prob_thd are one setting"):
        tagmask.Segmenter(clip, words, threshold=0.3, prob_thd=0.3)


def test_the_command_lines_names_replace_earlier_settings(
    segmenter: tagmask.Segmenter, shapes: list[np.ndarray]
) -> None:
    frozen = tagmask.Segmenter(segmenter.clip, ["cat", "hat"], threshold=0.9).freeze(shapes[0])
    expected = tagmask.Segmenter(segmenter.clip, ["cat", "hat"], prob_thd=0.0)(shapes[0])
    np.testing.assert_array_equal(frozen(prob_thd=0.0).labels, expected.labels)
