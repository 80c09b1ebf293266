"""The methods that score every pixel, and small settings for their tests."""

import numpy as np

import tagmask

TAGS_FIRST = {"cls-seg", "clip-es"}
"""These mask tags one by one; `tests/pipelines/test_masks.py` tests them."""

DENSE = [
    name for name, line in tagmask.methods().items() if line.startswith("masks:") and name not in TAGS_FIRST
]

NEED_A_FILE = {"sclip-learned"}

WORDS = ("cat", "dog", "boat", "bicycle")

SMALL = {"background": [], "templates": ("a photo of a {}.",), "short_side": 96, "crop": 96, "stride": 60}
"""Windows of 36 patches. With 31 or fewer, two patches can have the same outlier factor, and rounding decides
which one a method repairs."""


def image(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Coarse blocks of colour with noise, so that no two patches have the same outlier factor."""
    random = np.random.default_rng([seed, h, w])
    blocks = random.integers(0, 200, (h // 20 + 1, w // 20 + 1, 3)).repeat(20, axis=0).repeat(20, axis=1)
    return (blocks[:h, :w] + random.integers(0, 56, (h, w, 3))).astype(np.uint8)


WIDE = image(51, 75)

HIGH = image(71, 45)
