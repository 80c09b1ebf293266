"""The contract of every dense method, whatever its last block does."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.variants.learned import query_projection, write_projection
from tests.dense_methods import DENSE, HIGH, NEED_A_FILE, SMALL, TAGS_FIRST, WIDE, WORDS, image
from tests.segmenters import scores_of

ORDERED = {"resclip", "resclip-sfr", "resclip-clearclip", "resclip-sclip"}
"""The order of words matters by definition: a pixel whose first score is below `temp_thd` counts as name 0,
and of names that are equally frequent in a patch the first one wins."""


TOLERANCE = 5e-5
"""Of probabilities: logits are 40 times cosine similarities that differ by at most 5e-6."""

Make = Callable[..., tagmask.Segmenter]


@pytest.fixture(scope="module")
def make(variants_model: Clip, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Build a segmenter by its method, on a random CLIP of 12 layers; each is cached."""
    file: Path = tmp_path_factory.mktemp("learned") / "projection.safetensors"
    write_projection(file, query_projection(variants_model.vision))

    @cache
    def build(method: str, words: tuple[str, ...] = WORDS, **settings: object) -> tagmask.Segmenter:
        extra = {"projection": str(file)} if method in NEED_A_FILE else {}
        return tagmask.Segmenter(variants_model, words, method=method, **{**SMALL, **extra, **settings})

    return build


def assert_same(
    first: tagmask.Segmentation, second: tagmask.Segmentation, tolerance: float = TOLERANCE
) -> None:
    np.testing.assert_allclose(scores_of(first), scores_of(second), rtol=0, atol=tolerance)


def test_there_are_methods() -> None:
    assert len(DENSE) > 30
    assert {"clip", "maskclip", "sclip", *ORDERED, *NEED_A_FILE} <= set(DENSE)


@pytest.mark.parametrize("method", DENSE)
class TestDense:
    def test_masks_have_the_image_s_size_and_scores_are_probabilities(self, make: Make, method: str) -> None:
        whole = make(method, crop=None)  # a grid that is not square
        for pixels, segmenter in ((WIDE, make(method)), (HIGH, make(method)), (WIDE, whole), (HIGH, whole)):
            found = segmenter(pixels, scores=True)
            scores = scores_of(found)
            assert found.words == WORDS
            assert (found.labels.shape, found.labels.dtype) == (pixels.shape[:2], np.uint8)
            assert (scores.shape, scores.dtype) == ((len(WORDS), *pixels.shape[:2]), np.float32)
            assert np.isfinite(scores).all()
            assert scores.min() >= 0
            np.testing.assert_allclose(scores.sum(axis=0), 1, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(found.labels, scores.argmax(axis=0))
            assert scores.std(axis=(1, 2)).max() > 1e-4, "all maps are constant"

    def test_list_equals_single_images(self, make: Make, method: str) -> None:
        # Two sizes whose windows have the same size and share batches.
        segmenter, images = make(method), [WIDE, HIGH, WIDE[::-1]]
        for pixels, together in zip(images, segmenter(images, scores=True), strict=True):
            assert_same(together, segmenter(pixels, scores=True))

    def test_calls_are_independent(self, make: Make, method: str) -> None:
        segmenter = make(method)
        first = segmenter(WIDE, scores=True)
        segmenter(HIGH)
        assert_same(segmenter(WIDE, scores=True), first, tolerance=1e-6)

    def test_a_window_of_one_patch_is_enough(self, make: Make, method: str) -> None:
        segmenter = make(method, short_side=16, crop=16, stride=16)
        for pixels in (image(16, 33), image(1, 1), np.zeros((20, 16, 3), np.uint8)):
            found = segmenter(pixels, scores=True)
            assert found.labels.shape == pixels.shape[:2]
            assert np.isfinite(scores_of(found)).all()

    def test_plain_images_have_finite_scores(self, make: Make, method: str) -> None:
        # All patches are equal: zero deviation, no outliers.
        assert np.isfinite(scores_of(make(method)(np.full((48, 64, 3), 128, np.uint8), scores=True))).all()


@pytest.mark.parametrize("method", [method for method in DENSE if method not in ORDERED])
def test_scores_follow_the_order_of_words(make: Make, method: str) -> None:
    order = [2, 0, 3, 1]
    reordered = make(method, tuple(WORDS[i] for i in order))
    for pixels in (WIDE, HIGH):
        expected = scores_of(make(method)(pixels, scores=True))[order]
        found = scores_of(reordered(pixels, scores=True))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_compare_equals_each_method_alone(make: Make) -> None:
    methods = [method for method in DENSE if method not in NEED_A_FILE]
    compared = make("clip").compare(WIDE, methods, scores=True)
    assert list(compared) == methods
    for method in methods:
        assert_same(compared[method], make(method)(WIDE, scores=True))


@pytest.mark.parametrize("method", sorted(TAGS_FIRST))
def test_methods_that_mask_tags_cannot_be_compared(make: Make, method: str) -> None:
    with pytest.raises(InputError, match=method):
        make("clip").compare(WIDE, [method])
