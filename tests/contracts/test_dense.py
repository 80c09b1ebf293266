"""What every method that compares words with pixels promises, whatever its last block does."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.variants.learned import query_projection, write_projection
from tests.segmenters import scores_of

TAGS_FIRST = {"cls-seg", "clip-es"}
"""These mask tags, one by one, and have a tester of their own (`tests/pipelines/test_masks.py`)."""
DENSE = [
    name for name, line in tagmask.methods().items() if line.startswith("masks:") and name not in TAGS_FIRST
]
NEED_A_FILE = {"sclip-learned"}
ORDERED = {"resclip", "resclip-sfr", "resclip-clearclip", "resclip-sclip"}
"""A pixel whose first guess is under `temp_thd` counts as name 0, and of names that are equally frequent in a
patch the first one wins: which name comes first matters by definition."""

WORDS = ("cat", "dog", "boat", "bicycle")
SMALL = {"background": [], "templates": ("a photo of a {}.",), "short_side": 96, "crop": 96, "stride": 60}
"""Windows of 36 patches: of 31 and fewer, two that are each other's farthest are equally odd, and the last
bits decide which one a method mends."""

TOLERANCE = 5e-5
"""Of probabilities; 40 times cosines that differ by 5e-6 at most."""

Make = Callable[..., tagmask.Segmenter]


def image(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Coarse blocks of colour under noise: no two patches are equally odd."""
    random = np.random.default_rng([seed, h, w])
    blocks = random.integers(0, 200, (h // 20 + 1, w // 20 + 1, 3)).repeat(20, axis=0).repeat(20, axis=1)
    return (blocks[:h, :w] + random.integers(0, 56, (h, w, 3))).astype(np.uint8)


WIDE, HIGH = image(51, 75), image(71, 45)


@pytest.fixture(scope="module")
def make(variants_model: Clip, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A segmenter by its method, on a random CLIP of 12 layers; each is made once."""
    file: Path = tmp_path_factory.mktemp("learned") / "projection.safetensors"
    write_projection(file, query_projection(variants_model.vision))

    @cache
    def made(method: str, words: tuple[str, ...] = WORDS, **settings: object) -> tagmask.Segmenter:
        own = {"projection": str(file)} if method in NEED_A_FILE else {}
        return tagmask.Segmenter(variants_model, words, method=method, **{**SMALL, **own, **settings})

    return made


def same(one: tagmask.Segmentation, other: tagmask.Segmentation, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(scores_of(one), scores_of(other), rtol=0, atol=tolerance)


def test_there_are_methods() -> None:
    assert len(DENSE) > 30
    assert {"clip", "maskclip", "sclip", *ORDERED, *NEED_A_FILE} <= set(DENSE)


@pytest.mark.parametrize("method", DENSE)
class TestDense:
    def test_masks_have_the_image_s_size_and_scores_are_probabilities(self, make: Make, method: str) -> None:
        whole = make(method, crop=None)  # a grid that is no square
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
            assert scores.std(axis=(1, 2)).max() > 1e-4, "a map that is the same everywhere says nothing"

    def test_images_together_are_as_each_alone(self, make: Make, method: str) -> None:
        # Two sizes, whose windows are alike and share batches.
        segmenter, images = make(method), [WIDE, HIGH, WIDE[::-1]]
        for pixels, together in zip(images, segmenter(images, scores=True), strict=True):
            same(together, segmenter(pixels, scores=True))

    def test_nothing_is_kept_from_call_to_call(self, make: Make, method: str) -> None:
        segmenter = make(method)
        first = segmenter(WIDE, scores=True)
        segmenter(HIGH)
        same(segmenter(WIDE, scores=True), first, tolerance=1e-6)

    def test_a_window_of_one_patch_is_enough(self, make: Make, method: str) -> None:
        segmenter = make(method, short_side=16, crop=16, stride=16)
        for pixels in (image(16, 33), image(1, 1), np.zeros((20, 16, 3), np.uint8)):
            found = segmenter(pixels, scores=True)
            assert found.labels.shape == pixels.shape[:2]
            assert np.isfinite(scores_of(found)).all()

    def test_plain_images_have_numbers(self, make: Make, method: str) -> None:
        # All patches alike: no spread to divide by, no patch odder than another.
        assert np.isfinite(scores_of(make(method)(np.full((48, 64, 3), 128, np.uint8), scores=True))).all()


@pytest.mark.parametrize("method", [method for method in DENSE if method not in ORDERED])
def test_the_order_of_words_is_that_of_scores(make: Make, method: str) -> None:
    order = [2, 0, 3, 1]
    turned = make(method, tuple(WORDS[i] for i in order))
    for pixels in (WIDE, HIGH):
        expected = scores_of(make(method)(pixels, scores=True))[order]
        found = scores_of(turned(pixels, scores=True))
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_methods_compared_are_as_each_alone(make: Make) -> None:
    methods = [method for method in DENSE if method not in NEED_A_FILE]
    compared = make("clip").compare(WIDE, methods, scores=True)
    assert list(compared) == methods
    for method in methods:
        same(compared[method], make(method)(WIDE, scores=True))


@pytest.mark.parametrize("method", sorted(TAGS_FIRST))
def test_methods_that_mask_tags_have_nothing_to_compare(make: Make, method: str) -> None:
    with pytest.raises(InputError, match=method):
        make("clip").compare(WIDE, [method])
