"""Images of many sizes."""

import numpy as np

from tests.golden import make_images


def _gradient(seed: int, h: int, w: int) -> np.ndarray:
    """Waves whose direction depends on the seed, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    planes = [np.sin(a * y + b * x + c) for a, b, c in rng.uniform(-9, 9, (3, 3))]
    noise = rng.uniform(-0.2, 0.2, (h, w, 3))
    return np.uint8(np.clip(127 + 110 * (np.stack(planes, -1) + noise), 0, 255))


IMAGES = {
    "landscape": make_images.make(*make_images.SPECS[0][1:]),
    "portrait": make_images.make(*make_images.SPECS[1][1:]),
    "square": make_images.make(*make_images.SPECS[2][1:]),
    "tiny": _gradient(1, 30, 41),
    "wide": _gradient(2, 120, 700),
    "strip": _gradient(5, 60, 240),
    "ribbon": _gradient(3, 40, 500),
    "noise": np.random.default_rng(4).integers(0, 256, (97, 141, 3), dtype=np.uint8),
}
