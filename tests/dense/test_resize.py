import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tagmask.dense import resize as module
from tagmask.dense.resize import resize_cv2_linear, short_side_size
from tagmask.errors import InputError
from tests.oracles import resize as oracle

GOLDEN = Path(__file__).parents[1] / "golden"
side = st.integers(1, 14)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_equals_the_reference_image():
    reference = np.load(GOLDEN / "units_small.npz")
    image = np.asarray(Image.open(GOLDEN / "sclip_img_a.png").convert("RGB"))
    resized = resize_cv2_linear(image, short_side_size(image.shape[:2], 336))
    np.testing.assert_array_equal(resized[-64:, -64:], reference["resize/corner"])
    assert hashlib.sha256(resized.tobytes()).hexdigest() == str(reference["resize/sha256"])


@settings(deadline=None, max_examples=40)
@given(source=st.tuples(side, side), target=st.tuples(side, side))
@example(source=(6, 8), target=(3, 4))  # exactly half: block means
@example(source=(6, 8), target=(3, 8))  # half of one side only: interpolated
@example(source=(6, 8), target=(6, 4))
@example(source=(9, 9), target=(3, 3))
@example(source=(12, 12), target=(3, 3))
@example(source=(1, 5), target=(9, 11))
@example(source=(5, 1), target=(9, 11))
@example(source=(1, 1), target=(4, 3))
def test_equals_the_formula(source, target):
    image = noise(*source)
    np.testing.assert_array_equal(resize_cv2_linear(image, target), oracle.resize(image, target))


@pytest.mark.parametrize("target", [(40, 50), (10, 15), (20, 30)])
def test_strip_size_does_not_change_the_result(monkeypatch, target):
    image = noise(40, 60)
    expected = resize_cv2_linear(image, target)
    for values in (1, 3 * target[1] * 7):
        monkeypatch.setattr(module, "_STRIP", values)
        np.testing.assert_array_equal(resize_cv2_linear(image, target), expected)


def test_same_size_is_the_same_image():
    image = noise(13, 17)
    np.testing.assert_array_equal(resize_cv2_linear(image, (13, 17)), image)


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [
        ((375, 500), 336, (336, 448)),
        ((500, 333), 336, (505, 336)),
        ((1024, 2048), 560, (560, 1120)),
        ((480, 640), 448, (448, 597)),
        ((100, 1000), 336, (205, 2048)),  # the long side decides
        ((1, 4000), 336, (1, 2048)),  # never 0
        ((90, 120), 336, (336, 448)),
    ],
)
def test_short_side(size, short, expected):
    assert short_side_size(size, short) == expected


def test_halves_round_up():
    assert short_side_size((2, 5), 1) == (1, 3)


def test_empty_sizes_are_refused():
    with pytest.raises(InputError, match=r"\(0, 5\)"):
        resize_cv2_linear(noise(4, 4), (0, 5))
    with pytest.raises(InputError, match=r"\(0, 4\)"):
        resize_cv2_linear(noise(0, 4), (5, 5))
    with pytest.raises(InputError, match="short side 0"):
        short_side_size((4, 4), 0)
