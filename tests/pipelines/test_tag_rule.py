import numpy as np
import pytest

from tagmask.pipelines.thresholding import (
    above_relative_threshold,
    choose_tags,
    relative_threshold,
    tag_threshold,
)


def test_threshold_is_per_image_and_strict():
    scores = np.array([[0.0, 0.5, 1.0], [3.0, 2.0, 2.6], [1.0, 1.0, 1.0]], np.float32)
    assert above_relative_threshold(scores, 0.5).tolist() == [
        [False, False, True],
        [True, False, True],
        [False, False, False],
    ]


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_one_image_and_many_agree(tau):
    scores = np.random.default_rng(1).random((50, 7), np.float32)
    for row, threshold, above in zip(
        scores, relative_threshold(scores, tau), above_relative_threshold(scores, tau), strict=True
    ):
        assert tag_threshold(row, tau) == float(threshold)
        assert choose_tags(row, tau) == tuple(np.flatnonzero(above))


def test_threshold_keeps_the_dtype_of_the_scores():
    scores = np.random.default_rng(2).random(9, np.float32)
    assert relative_threshold(scores, 0.1).dtype == np.float32
    low, high = np.float32(scores.min()), np.float32(scores.max())
    assert tag_threshold(scores, 0.1) == float(low + np.float32(0.1) * (high - low))


def test_there_is_always_a_best_tag():
    assert choose_tags(np.full(3, 0.2, np.float32), 0.5) == (0,)
