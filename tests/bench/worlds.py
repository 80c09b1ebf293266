"""A small drawn data set, with optional defects, for the tests of benchmark runs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tagmask.data.sample import Dataset, Sample
from tagmask.errors import ImageError
from tagmask.resolve import tag_recipe
from tagmask.settings.presets.own_words import own_masks, own_tags
from tagmask.settings.recipes import MaskRecipe, TagRecipe

WORDS = ("tree", "flower", "fish")


def picture(seed: int) -> np.ndarray:
    """64 x 80 pixels: a background and one bright rectangle."""
    rng = np.random.default_rng(seed)
    image = np.full((64, 80, 3), rng.integers(0, 120, 3), np.uint8)
    top, left = rng.integers(4, 30, 2)
    image[top : top + 28, left : left + 36] = rng.integers(120, 256, 3)
    return image


def truth(seed: int) -> np.ndarray:
    rng = np.random.default_rng(1000 + seed)
    mask = np.zeros((64, 80), np.uint8)
    mask[10:40, 20:60] = rng.integers(1, 1 + len(WORDS))
    mask[:2] = 255
    return mask


def sample(seed: int, **changed: object) -> Sample:
    default = Sample(
        id=f"image-{seed}",
        read_image=lambda: picture(seed),
        tags=tuple(sorted({seed % 3, (seed // 3) % 3})),
        read_mask=lambda: truth(seed),
    )
    return replace(default, **changed)  # type: ignore[arg-type]


def world(count: int = 6, *others: Sample) -> Dataset:
    samples = [*(sample(seed) for seed in range(count)), *others]
    return Dataset(name="drawn", classes=("background", *WORDS), tag_classes=WORDS, samples=samples)


def broken() -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        raise ImageError("bad.jpg is damaged or truncated")

    return read


def mask_recipe(**settings: object) -> MaskRecipe:
    """A mask recipe for the drawn words with fast settings."""
    recipe = own_masks(WORDS, ("sky", "grass"))
    fast: dict[str, object] = {"templates": ("a {}.",), "short_side": 64, "crop": 64, "stride": 64}
    return replace(recipe, **{**fast, **settings})  # type: ignore[arg-type]


def tagging(**settings: object) -> TagRecipe:
    recipe = own_tags(WORDS, ("sky", "grass"))
    fast: dict[str, object] = {"templates": ("a {}.",), "min_patches": 1, "max_patches": 64}
    return tag_recipe(recipe, overrides={**fast, **settings})
