"""Every method through `Tagger`: one result type, and tags that do not depend on the rest of the batch."""

import logging
from pathlib import Path

import numpy as np
import pytest

import tagmask
from tagmask.catalogue import method_names
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.pipelines.adaptation import write_adaptation

WORDS = ["cat", "dog, puppy", "bicycle", "boat"]
LEARNING = ("piaa", "sparc")
SMALL = {"templates": ("a photo of a {}.",), "max_patches": 60, "min_patches": 1}


@pytest.fixture(scope="module")
def images(shapes: list[np.ndarray]) -> list[np.ndarray]:
    """Ten images of three sizes."""
    first = [shape[::2, ::2] for shape in shapes]
    return [
        *first,
        *(np.ascontiguousarray(image[::-1]) for image in first),
        *(255 - image for image in first),
        first[0],
    ]


def make_tagger(clip: Clip, method: str, images: list[np.ndarray], **settings: object) -> tagmask.Tagger:
    tagger = tagmask.Tagger(clip, WORDS, method=method, **SMALL, **settings)
    return tagger.adapt(iter(images)) if method in LEARNING else tagger


@pytest.mark.parametrize("method", method_names("tags"))
def test_list_equals_single_images(tagclip_model: Clip, images: list[np.ndarray], method: str) -> None:
    tagger = make_tagger(tagclip_model, method, images)
    together = tagger(images)
    assert tagger.words == ("cat", "dog", "bicycle", "boat")
    for image, tags in list(zip(images, together, strict=True))[:4]:
        alone = tagger(image)
        np.testing.assert_allclose(tags.scores, alone.scores, rtol=0, atol=1e-4)
        assert (tags.words, tags.scores.shape, tags.scores.dtype) == (tagger.words, (4,), np.float32)
        assert tags.chosen == tuple(np.flatnonzero(tags.scores > tags.threshold))
        assert (tags.thresholds, tags.precision) == (None, "float32")
    scores = np.stack([tags.scores for tags in together])
    assert scores[:9].std(axis=0).min() > 1e-6
    np.testing.assert_allclose(scores[9], scores[0], rtol=0, atol=1e-5)


def test_scores_do_not_depend_on_the_order_of_words(tagclip_model: Clip, images: list[np.ndarray]) -> None:
    for method in ("clip", "clip-softmax", "dpt", "dpt-softmax", "clip-surgery", "piaa"):
        scores = make_tagger(tagclip_model, method, images)(images[0]).scores
        tagger = tagmask.Tagger(tagclip_model, WORDS[::-1], method=method, **SMALL)
        reordered = (tagger.adapt(images) if method == "piaa" else tagger)(images[0]).scores
        np.testing.assert_allclose(reordered[::-1], scores, rtol=1e-3, atol=1e-4)


def test_background_competes_in_the_softmax_and_gives_no_tags(
    tagclip_model: Clip, images: list[np.ndarray]
) -> None:
    def scores(background: list[str]) -> np.ndarray:
        tagger = tagmask.Tagger(tagclip_model, WORDS, method="clip-softmax", background=background, **SMALL)
        return tagger(images[0]).scores

    without, with_background = scores([]), scores(["wall", "grass"])
    assert len(with_background) == 4
    assert (with_background < without).all()
    np.testing.assert_allclose(with_background[1:] / with_background[0], without[1:] / without[0], rtol=1e-4)


def test_class_of_several_names_takes_the_best(tagclip_model: Clip, images: list[np.ndarray]) -> None:
    def scores(words: list[str]) -> np.ndarray:
        return tagmask.Tagger(tagclip_model, words, method="clip", **SMALL)(images[1]).scores

    separate, merged = scores(["cat", "dog", "puppy"]), scores(["cat", "dog, puppy"])
    np.testing.assert_allclose(merged, [separate[0], max(separate[1:])], rtol=0, atol=1e-6)


# -- Adapting to a set of images -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNING)
def test_method_needs_a_set_of_images_first(
    tagclip_model: Clip, images: list[np.ndarray], method: str
) -> None:
    tagger = tagmask.Tagger(tagclip_model, WORDS, method=method, **SMALL)
    with pytest.raises(InputError, match=r"tagger\.adapt\(images\)"):
        tagger(images[0])
    assert tagger.adapt(images).adaptation is not None
    assert tagger.adaptation is None  # the first tagger is unchanged


@pytest.mark.parametrize("method", LEARNING)
def test_adaptation_is_deterministic_and_survives_a_file(
    tagclip_model: Clip, images: list[np.ndarray], method: str, tmp_path: Path
) -> None:
    learned = make_tagger(tagclip_model, method, images).adaptation
    assert learned is not None
    again = make_tagger(tagclip_model, method, images * 1).adaptation
    assert again is not None
    for name, array in learned.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
    write_adaptation(learned, tmp_path / "a.safetensors")
    loaded = tagmask.Tagger(tagclip_model, WORDS, method=method, adapter=tmp_path / "a.safetensors", **SMALL)
    np.testing.assert_array_equal(
        loaded(images[3]).scores, make_tagger(tagclip_model, method, images)(images[3]).scores
    )


def test_sparc_adapts_to_the_list_it_tags(tagclip_model: Clip, images: list[np.ndarray]) -> None:
    tagger = tagmask.Tagger(tagclip_model, WORDS, method="sparc", **SMALL)
    for tags, other in zip(tagger(images), tagger.adapt(images)(images), strict=True):
        np.testing.assert_allclose(tags.scores, other.scores, rtol=0, atol=1e-5)
    singles = np.stack(
        [
            tags.scores
            for tags in tagmask.Tagger(tagclip_model, WORDS, method="sparc", compounds=(), **SMALL)(images)
        ]
    )
    np.testing.assert_allclose(singles.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(singles.std(axis=0, ddof=1), 1, atol=1e-5)


def test_adapter_of_other_method_words_or_weights_is_refused(
    tagclip_model: Clip, sclip_model: Clip, images: list[np.ndarray]
) -> None:
    learned = make_tagger(tagclip_model, "piaa", images).adaptation
    for clip, words, method, message in (
        (tagclip_model, WORDS, "sparc", "by another method"),
        (tagclip_model, WORDS[:3], "piaa", "for other words"),
        (sclip_model, WORDS, "piaa", "with other weights"),
        (tagclip_model, WORDS, "dpt", "dpt cannot use an adapter of piaa"),
    ):
        with pytest.raises(InputError, match=message):
            tagmask.Tagger(clip, words, method=method, adapter=learned, **SMALL)
    with pytest.raises(InputError, match="dpt scores each image on its own and cannot adapt"):
        tagmask.Tagger(tagclip_model, WORDS, method="dpt").adapt(images)
    with pytest.raises(InputError, match="piaa contrasts words with each other"):
        tagmask.Tagger(tagclip_model, ["cat"], method="piaa")


def test_words_without_patches_give_a_warning(
    tagclip_model: Clip, images: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    few = {**SMALL, "max_patches": 6}
    tagger = tagmask.Tagger(tagclip_model, [*WORDS, "cow", "hat", "sheep", "car"], method="piaa", **few)
    with caplog.at_level(logging.WARNING, "tagmask"):
        tagger.adapt(images[:1])
    assert "No patch matches" in caplog.text
    assert "known by its text alone" in caplog.text
    assert "The refinement kept no patch of" in caplog.text


# -- A few labelled images -----------------------------------------------------------------------------------


def test_calibration_learns_a_threshold_per_word(tagclip_model: Clip, images: list[np.ndarray]) -> None:
    tagger = make_tagger(tagclip_model, "dpt", images)
    scores = np.stack([tags.scores for tags in tagger(images)])
    middle = np.sort(scores[:9], axis=0)[3:5].mean(axis=0)
    truth = [np.flatnonzero(row > middle).tolist() for row in scores]  # so that a threshold can separate them
    truth = [[c for c in row if c != 2] for row in truth]  # the third word is in none
    learned = tagger.calibrate(images, truth)
    assert learned.recipe.thresholds[2] is None
    assert tagger.recipe.thresholds == ()
    for c in (0, 1, 3):
        assert learned.recipe.thresholds[c] == pytest.approx(middle[c], abs=1e-4)
    for tags, expected in zip(learned(images), truth, strict=True):
        assert [c for c in tags.chosen if c != 2] == expected
        assert tags.thresholds is not None
        assert tags.thresholds[2] == pytest.approx(tags.threshold, abs=1e-6)
    from_results = tagger.calibrate(images, truth, tagged=tagger(images))
    assert from_results.recipe == learned.recipe


def test_invalid_labels_are_refused(tagclip_model: Clip, images: list[np.ndarray]) -> None:
    tagger = make_tagger(tagclip_model, "clip", images)
    with pytest.raises(InputError, match="Got 2 images and 1 lists of tags"):
        tagger.calibrate(images[:2], [[0]])
    with pytest.raises(InputError, match="4"):
        tagger.calibrate(images[:1], [[4]])


# -- The bundled model ---------------------------------------------------------------------------------------


def test_every_method_runs_on_the_miniature(caplog: pytest.LogCaptureFixture) -> None:
    from tagmask.miniature.evaluation_scenes import unseen_scene

    clip = tagmask.load("miniature")
    scenes = [unseen_scene(seed).image for seed in range(3)]
    for method in method_names("tags"):
        found = tagmask.Tagger(clip, ["cat", "fish", "car"], method=method)
        found = found.adapt(scenes) if method in LEARNING else found
        chosen = [bool(tags.chosen) for tags in found(scenes)]
        assert any(chosen) if method == "freecp" else all(chosen)  # freecp's threshold is not relative
    assert set(method_names("tags")) <= set(tagmask.methods())
