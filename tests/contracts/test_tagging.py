"""The contract of every tagging method."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import tagmask
from tagmask.catalogue import method_names
from tagmask.clip.load import Clip

TAGGING = method_names("tags")
ADAPTED = {"piaa", "sparc"}
"""Methods that need `adapt` before they tag a single image."""
COMPARING = {"sparc"}
"""Methods that, without `adapt`, compare the images of the list they tag."""
SENTENCES = tuple(
    f"a photo of a {first} and a {second}."
    for first, second in (("cat", "dog"), ("boat", "cat"), ("dog", "bicycle"))
)
BY_ORDER: dict[str, dict[str, object]] = {"sparc": {"compounds": SENTENCES}}
"""SPARC pairs each word with the next ones of the list; with given compounds the order does not matter."""

WORDS = ("cat", "dog", "boat", "bicycle")
SMALL = {"templates": ("a photo of a {}.",), "max_patches": 36, "min_patches": 1}
ORDER = [2, 0, 3, 1]

Make = Callable[..., tagmask.Tagger]


@pytest.fixture(scope="module")
def images(shapes: list[np.ndarray]) -> list[np.ndarray]:
    """Crops of the shapes: high, wide, square, odd-sized, and high again to share a batch."""
    crops = [
        shapes[0][:90, 30:81],
        shapes[1][40:96, 20:150],
        shapes[2][::3, ::3],
        255 - shapes[0][5:66, 9:100],
    ]
    return [np.ascontiguousarray(crop) for crop in (*crops, crops[0][::-1])]


@pytest.fixture(scope="module")
def make(tagclip_model: Clip, images: list[np.ndarray]) -> Make:
    """Build a tagger by its method, on a random CLIP of 12 layers, adapted if needed; each is cached."""

    @cache
    def build(method: str, words: tuple[str, ...] = WORDS, **settings: object) -> tagmask.Tagger:
        tagger = tagmask.Tagger(tagclip_model, words, method=method, **SMALL, **settings)
        return tagger.adapt(iter(images)) if method in ADAPTED else tagger

    return build


def test_there_are_methods() -> None:
    assert len(TAGGING) >= 8
    assert {"clip", "tagclip", *ADAPTED} <= set(TAGGING)


@pytest.mark.parametrize("method", TAGGING)
class TestTagging:
    def test_every_word_has_a_score_and_the_best_are_tags(
        self, make: Make, images: list[np.ndarray], method: str
    ) -> None:
        for tags in make(method)(images):
            assert tags.words == WORDS
            assert (tags.scores.shape, tags.scores.dtype) == ((len(WORDS),), np.float32)
            assert np.isfinite(tags.scores).all()
            assert all(type(tag) is int for tag in tags.chosen)
            assert tags.chosen == tuple(np.flatnonzero(tags.scores > tags.threshold))

    def test_list_equals_single_images(self, make: Make, images: list[np.ndarray], method: str) -> None:
        tagger = make(method)
        together = np.stack([tags.scores for tags in tagger(images)])
        alone = np.stack([tagger(image).scores for image in images])
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)
        assert together.std(axis=0).min() > 1e-5, "scores do not depend on the image"

    def test_calls_are_independent(self, make: Make, images: list[np.ndarray], method: str) -> None:
        tagger = make(method)
        first = tagger(images[0]).scores
        tagger(images[1])
        np.testing.assert_allclose(tagger(images[0]).scores, first, rtol=0, atol=1e-6)

    def test_scores_follow_the_order_of_words(
        self, make: Make, images: list[np.ndarray], method: str
    ) -> None:
        settings = BY_ORDER.get(method, {})
        reordered = make(method, tuple(WORDS[i] for i in ORDER), **settings)(images)
        for tags, other in zip(make(method, **settings)(images), reordered, strict=True):
            np.testing.assert_allclose(other.scores, tags.scores[ORDER], rtol=0, atol=2e-5)

    def test_plain_images_have_finite_scores(self, make: Make, method: str) -> None:
        plain = [np.full((40, 50, 3), value, np.uint8) for value in (0, 128)]
        assert all(np.isfinite(tags.scores).all() for tags in make(method)(plain))


@pytest.mark.parametrize("method", sorted(COMPARING))
def test_comparing_method_adapts_to_the_list(
    tagclip_model: Clip, make: Make, images: list[np.ndarray], method: str
) -> None:
    tagger = tagmask.Tagger(tagclip_model, WORDS, method=method, **SMALL)
    for tags, adapted in zip(tagger(images), make(method)(images), strict=True):
        np.testing.assert_allclose(tags.scores, adapted.scores, rtol=0, atol=1e-5)
    two = np.stack([tags.scores for tags in tagger(images[:2])])
    all_five = np.stack([tags.scores for tags in tagger(images)[:2]])
    assert np.abs(two - all_five).max() > 1e-3
