"""Purification after dense methods, and its redundancy score as a tagger."""

from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.pipelines import mask_pipeline
from tagmask.pipelines.head import Head
from tagmask.purification import AMBIGUOUS, BY_TAG, KEPT, REDUNDANT, Purification
from tagmask.runs.describe import segmenter_identity
from tagmask.settings.recipes import MaskRecipe
from tests.dense_methods import DENSE, NEED_A_FILE
from tests.pipelines.conftest import BACKGROUND, SMALL, WORDS, Make
from tests.segmenters import scores_of


def image(h: int, w: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng([seed, h, w])
    blocks = random.integers(0, 200, (h // 20 + 1, w // 20 + 1, 3)).repeat(20, axis=0).repeat(20, axis=1)
    return (blocks[:h, :w] + random.integers(0, 56, (h, w, 3))).astype(np.uint8)


WIDE, HIGH = image(51, 75), image(71, 45)


def decided(seg: tagmask.Segmentation) -> Purification:
    assert seg.purification is not None
    return seg.purification


PLAIN = np.full((48, 64, 3), 128, np.uint8)
CASES = [(method, (), HIGH) for method in DENSE if method not in NEED_A_FILE]
CASES += [(method, BACKGROUND, pixels) for method in ("sclip", "gem", "sc-clip") for pixels in (WIDE, PLAIN)]


def test_every_dense_method_can_be_purified(make: Make) -> None:
    for method, background, pixels in CASES:
        seg = make(method, background=background)(pixels, scores=True, confidence=True)
        scores = scores_of(seg)
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1 + 1e-6
        assert set(seg.dropped) <= set(seg.absent)
        for word in seg.dropped:
            assert not scores[seg.words.index(word)].any()
        best = scores.argmax(axis=0)
        if not background:
            best = np.where(scores.max(axis=0) > 0, best, 255)
        np.testing.assert_array_equal(seg.labels, best)
        assert seg.confidence is not None
        assert 0 <= seg.confidence <= 1 + 1e-6


def test_background_is_what_no_word_claims(make: Make) -> None:
    scores = scores_of(make()(WIDE, scores=True))
    np.testing.assert_allclose(scores[0], 1 - scores[1:].max(axis=0), rtol=0, atol=1e-6)


def test_lists_and_comparisons_equal_single_calls(make: Make) -> None:
    images = [WIDE, HIGH, WIDE[::-1]]
    for pixels, together in zip(images, make()(images, scores=True), strict=True):
        alone = make()(pixels, scores=True)
        np.testing.assert_allclose(scores_of(together), scores_of(alone), rtol=0, atol=5e-5)
        np.testing.assert_allclose(decided(together).scores, decided(alone).scores, rtol=0, atol=1e-5)
    methods = ["sclip", "clearclip", "gem", "sc-clip"]
    for method, compared in make().compare(WIDE, methods, scores=True).items():
        alone = make(method)(WIDE, scores=True)
        np.testing.assert_allclose(scores_of(compared), scores_of(alone), rtol=0, atol=5e-5)


def test_only_given_tags_compete(make: Make) -> None:
    among = make()(WIDE, tags=[2, 0], scores=True)
    alone = make(words=("cat", "boat"))(WIDE, scores=True)
    np.testing.assert_allclose(scores_of(among)[[0, 1, 3]], scores_of(alone), rtol=0, atol=5e-5)
    assert {word: why for word, why in among.dropped.items() if why.reason == "tag"} == {
        "dog": ("tag", None),
        "bicycle": ("tag", None),
    }
    nothing = make(background=())(WIDE, tags=[])
    assert (nothing.labels == 255).all()
    assert list(nothing.dropped) == ["cat", "dog", "boat", "bicycle"]


def test_the_tagger_s_words_compete(make: Make) -> None:
    hard = make(among="tags")(WIDE, scores=True)
    assert hard.tags is not None
    assert 0 < len(hard.tags) < len(WORDS)
    given = make()(WIDE, tags=list(hard.tags), scores=True)
    np.testing.assert_allclose(scores_of(hard), scores_of(given), rtol=0, atol=5e-5)
    (dropped, *_) = (why for why in hard.dropped.values() if why.reason == "tag")
    assert dropped.score is not None


def test_tag_scores_overrule_redundancy_at_both_ends(make: Make) -> None:
    plain = make(redundancy=0.1)(WIDE, scores=True)
    tags = {"purify": "tags", "redundancy": 0.1}
    neither = make(**tags, purify_tag_low=0.0, purify_tag_high=1.5)(WIDE, scores=True)
    np.testing.assert_array_equal(scores_of(neither), scores_of(plain))
    every = decided(make(**tags, purify_tag_low=0.0, purify_tag_high=0.0)(WIDE))
    assert not (every.decisions == REDUNDANT).any()
    assert (decided(plain).decisions == REDUNDANT).any()
    best = make(**tags, purify_tag_low=1.0, purify_tag_high=1.0)(WIDE)
    scores = decided(best).tag_scores
    assert scores is not None
    kept = np.flatnonzero((decided(best).decisions != BY_TAG).all(axis=0)).tolist()
    assert kept == [int(scores.argmax())]
    reasons = {why.reason for why in best.dropped.values()}
    assert reasons == {"tag"}


def test_one_list_of_words_for_the_whole_image(make: Make) -> None:
    pixels = image(90, 200)
    by_window = decided(make(redundancy=0.06)(pixels))
    by_image = decided(make(redundancy=0.06, purify_scope="image")(pixels))
    redundant = by_image.decisions == REDUNDANT
    assert (redundant == redundant[:1]).all()
    assert redundant[0].tolist() == (by_window.scores.max(axis=0) <= 0.06).tolist()
    assert ((by_window.decisions == REDUNDANT) != redundant).any()


def test_redundancy_is_strict(make: Make) -> None:
    found = decided(make(redundancy=0.0)(WIDE))
    greatest = float(found.scores.max())
    assert 0 < greatest <= 0.5
    assert (decided(make(redundancy=greatest)(WIDE)).decisions == REDUNDANT).all()
    assert (decided(make(redundancy=np.nextafter(greatest, 0).item() - 1e-6)(WIDE)).decisions == KEPT).any()


def test_where_every_word_is_dropped(make: Make) -> None:
    none = {"redundancy": 0.5, "background": ()}
    seg = make(**none)(WIDE, scores=True, confidence=True)
    assert (seg.labels == 255).all()
    assert seg.confidence == 1.0
    assert not scores_of(seg).any()
    assert list(seg.dropped) == ["cat", "dog", "boat", "bicycle"]
    published = make(**none, as_="published")(WIDE)
    assert (published.labels == 0).all()
    with_background = make(redundancy=0.5)(WIDE, scores=True, confidence=True)
    assert (with_background.labels == 0).all()
    assert scores_of(with_background)[0].min() == 1.0
    one = make(words=("cat",), background=())(WIDE)
    assert (one.labels == 255).all()


@pytest.mark.parametrize("refiner", [{"pamr_steps": 2}, {"tlp_steps": 5, "tlp_grid": 20}])
@pytest.mark.parametrize("crf", [None, "cls-seg"])
@pytest.mark.parametrize("background", [BACKGROUND, ()])
def test_planes_can_be_refined(
    make: Make, crf: str | None, background: tuple[str, ...], refiner: dict[str, int]
) -> None:
    seg = make(**refiner, crf=crf, background=background)(WIDE, scores=True, confidence=True)
    plain = make(crf=crf, background=background)(WIDE, scores=True)
    assert np.isfinite(scores_of(seg)).all()
    assert scores_of(seg).max() <= 1 + 1e-5
    assert np.abs(scores_of(seg) - scores_of(plain)).max() > 1e-3
    assert list(seg.dropped) == list(plain.dropped)
    assert not set(seg.dropped) & set(seg.pixels())


def test_images_are_labelled_in_strips(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make()(WIDE, scores=True, confidence=True)
    monkeypatch.setattr("tagmask.dense.labels._STRIP", 1)
    strips = make()(WIDE, scores=True, confidence=True)
    np.testing.assert_allclose(scores_of(strips), scores_of(whole), rtol=0, atol=1e-6)
    assert strips.confidence == pytest.approx(whole.confidence)


# -- Ambiguity and descriptions ------------------------------------------------------------------------------

ALIKE = ("cat", "kitten", "boat")
"""With an overlap of 0, all words that are left are one group."""


def test_crops_decide_within_a_group(make: Make) -> None:
    group = {"words": ALIKE, "overlap": 0.0, "redundancy": 0.0}
    seg = make(**group)(WIDE)
    found = decided(seg)
    left = found.groups >= 0
    assert (left.sum(axis=1) > 1).any()
    assert (found.decisions == AMBIGUOUS).any()
    assert ((found.decisions == KEPT).sum(axis=1)[left.any(axis=1)] > 0).all()
    apart = decided(make(**{**group, "overlap": 1.0})(WIDE))
    assert not (apart.decisions == AMBIGUOUS).any()


def test_descriptions_decide_within_a_group(variants_model: Clip, make: Make) -> None:
    settings = {"background": BACKGROUND, "purify": True, **SMALL, "overlap": 0.0, "redundancy": 0.0}
    features = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)

    def winners(given: object) -> np.ndarray:
        segmenter = tagmask.Segmenter(variants_model, ALIKE, descriptions=given, **settings)
        return decided(segmenter(WIDE)).decisions

    assert (winners(features) != winners(-features)).any()
    np.testing.assert_array_equal(winners(torch.from_numpy(features)), winners(features * 3))
    own = decided(make(words=ALIKE, overlap=0.0, redundancy=0.0)(WIDE)).decisions
    np.testing.assert_array_equal(winners([[f"a photo of a {word}."] for word in ALIKE]), own)
    by_name = {word: [f"a photo of a {word}."] for word in reversed(ALIKE)}
    np.testing.assert_array_equal(winners(by_name), own)


def test_descriptions_are_part_of_a_run_s_identity(variants_model: Clip) -> None:
    def fields(**settings: object) -> dict[str, object]:
        segmenter = tagmask.Segmenter(variants_model, ["cat", "dog"], **{**SMALL, "purify": True, **settings})
        return dict(segmenter_identity(segmenter).fields)

    one, other = ([[text], ["b"]] for text in ("a", "c"))
    assert "descriptions" not in fields()
    assert fields(descriptions=one) == fields(descriptions=one)
    assert fields(descriptions=one) != fields(descriptions=other)
    assert fields(descriptions=[["a", "b"], ["c"]]) != fields(descriptions=[["a"], ["b", "c"]])
    rows = np.eye(2, 64, dtype=np.float32)
    assert fields(descriptions=rows) != fields(descriptions=rows[::-1])


def test_long_sentences_are_cut(variants_model: Clip) -> None:
    long = "a cat on a mat " * 40
    given = [[long], ["b"]]
    segmenter = tagmask.Segmenter(variants_model, ["cat", "dog"], purify=True, descriptions=given, **SMALL)
    found = segmenter.descriptions
    assert found is not None
    assert torch.linalg.vector_norm(found.features, dim=-1).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((3, 64), np.float32), r"descriptions has shape \(3, 64\)"),
        (np.ones((2, 5), np.float32), r"descriptions has shape \(2, 5\)"),
        (np.zeros((2, 64), np.float32), "a row that is 0"),
        (np.full((2, 64), np.nan, np.float32), "a row that is 0, NaN or infinite"),
        ([["a"]], "1 classes for 2 words"),
        ([["a"], []], "descriptions of 'dog' is"),
        ([["a"], [" "]], "descriptions of 'dog' has ' '"),
        ([["a"], [3]], "descriptions of 'dog' has 3"),
        ({"cat": ["a"]}, "no 'dog'"),
        ({"cat": ["a"], "dog": ["b"], "cow": ["c"]}, "'cow', which is not a word"),
        ("a cat", "descriptions is 'a cat'"),
    ],
)
def test_unfit_descriptions_are_refused(variants_model: Clip, given: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tagmask.Segmenter(variants_model, ["cat", "dog"], purify=True, descriptions=given, **SMALL)


def test_descriptions_need_purification(variants_model: Clip) -> None:
    for method in ("sclip", "cls-seg"):
        with pytest.raises(InputError, match="descriptions have no effect without purify"):
            tagmask.Segmenter(variants_model, ["cat", "dog"], method=method, descriptions=[["a"], ["b"]])


# -- As a tagger ---------------------------------------------------------------------------------------------


def test_words_that_are_not_redundant_are_tags(variants_model: Clip) -> None:
    def tags(**settings: object) -> tagmask.Tags:
        size = {
            "templates": SMALL["templates"],
            "min_patches": 1,
            "max_patches": 60,
            "crop": 64,
            "stride": 32,
        }
        tagger = tagmask.Tagger(
            variants_model, WORDS, method="freecp", background=BACKGROUND, **size, **settings
        )
        return tagger(image(90, 130))

    every, none = tags(redundancy=0.0), tags(redundancy=0.5)
    assert every.chosen == tuple(np.flatnonzero(every.scores > 0))
    assert (none.chosen, none.threshold) == ((), 1.0)
    assert 0 <= every.scores.min() <= every.scores.max() <= 1
    s = 0.5 * float(every.scores.max())
    between = tags(redundancy=s / (1 + s))
    assert between.threshold == pytest.approx(s)
    assert between.chosen == tuple(np.flatnonzero(every.scores > between.threshold))
    assert len(tags(redundancy=0.0, top=1).chosen) == 1
    limited = tags(redundancy=0.0, min_score=s)
    assert limited.chosen == tuple(np.flatnonzero(every.scores >= s))


def test_a_word_s_score_is_that_of_its_best_window(variants_model: Clip) -> None:
    def scores(pixels: np.ndarray) -> Float[np.ndarray, " f"]:
        size = {"templates": SMALL["templates"], "min_patches": 1, "crop": 64, "stride": 64}
        return tagmask.Tagger(variants_model, WORDS, method="freecp", background=BACKGROUND, **size)(
            pixels
        ).scores

    both = image(64, 128)
    parts = np.stack([scores(both[:, :64]), scores(both[:, 64:])])
    np.testing.assert_allclose(scores(both), parts.max(axis=0), rtol=0, atol=1e-5)
    assert (parts[0] != parts[1]).any()


def test_purification_needs_more_than_frozen_features(variants_model: Clip, make: Make) -> None:
    with pytest.raises(InputError, match="Purification needs the attention of all layers"):
        make().freeze(WIDE)
    settings: dict[str, Any] = {name: value for name, value in SMALL.items() if name != "redundancy"}
    plain = tagmask.Segmenter(variants_model, WORDS, background=BACKGROUND, **settings)
    with pytest.raises(InputError, match="Purification needs the attention of all layers"):
        plain.freeze(WIDE)(purify=True)


def test_a_head_corrects_scores_which_purification_does_not_use(variants_model: Clip, make: Make) -> None:
    recipe = make().recipe
    assert isinstance(recipe, MaskRecipe)
    width = variants_model.geometry.embed
    head = Head(torch.zeros(width, 1), recipe.words, recipe.background, "", {}, 1.0, 1)
    with pytest.raises(InputError, match="A head corrects scores, which purify does not use"):
        mask_pipeline(variants_model, recipe, head=head)


@pytest.mark.parametrize("background", [BACKGROUND, ()])
def test_a_proposed_region_gets_the_plane_with_the_best_mean(make: Make, background: tuple[str, ...]) -> None:
    segmenter = make(background=background, redundancy=0.0)
    plain = segmenter(WIDE, scores=True)
    half = np.zeros((1, *WIDE.shape[:2]), bool)
    half[0, :, :40] = True
    seg = segmenter(WIDE, proposals=half, scores=True)
    means = scores_of(plain)[:, :, :40].mean(axis=(1, 2))
    assert (seg.labels[:, :40] == means.argmax()).all()
    np.testing.assert_array_equal(seg.labels[:, 40:], plain.labels[:, 40:])
    assert len(np.unique(plain.labels[:, :40])) > 1
