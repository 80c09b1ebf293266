"""Segmenters that purify."""

from collections.abc import Callable
from functools import cache

import pytest

import tagmask
from tagmask.clip.load import Clip

WORDS = ("cat", "dog, puppy", "boat", "bicycle")
SMALL = {"templates": ("a photo of a {}.",), "short_side": 112, "crop": 96, "stride": 64, "redundancy": 0.02}
BACKGROUND = ("sky", "wall")

Make = Callable[..., tagmask.Segmenter]


@pytest.fixture(scope="module")
def make(variants_model: Clip) -> Make:
    """Build a segmenter that purifies, on a random CLIP of 12 layers; each is cached."""

    @cache
    def build(method: str = "sclip", words: tuple[str, ...] = WORDS, **settings: object) -> tagmask.Segmenter:
        given = {"background": BACKGROUND, "purify": True, **SMALL, "method": method, **settings}
        return tagmask.Segmenter(variants_model, words, **given)

    return build
