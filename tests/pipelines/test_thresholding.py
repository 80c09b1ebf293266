"""Learned thresholds compared with an exhaustive search, and the tags they choose."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import ShapeError
from tagmask.pipelines.thresholding import best_thresholds, choose, thresholds_of_image


def f1(scores: list[float], present: list[bool], threshold: float) -> float:
    correct = sum(s > threshold and p for s, p in zip(scores, present, strict=True))
    chosen, positive = sum(s > threshold for s in scores), sum(present)
    return 2 * correct / (chosen + positive) if chosen + positive else 0.0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=9))
def test_no_other_threshold_has_a_greater_f1(rows: list[tuple[int, bool]]) -> None:
    scores, present = [s / 8 for s, _ in rows], [p for _, p in rows]
    [found] = best_thresholds(np.float32([scores]).T, np.array([present]).T)
    if all(present) or not any(present):
        assert found is None
        return
    assert found is not None
    distinct = sorted(set(scores))
    thresholds = [(a + b) / 2 for a, b in pairwise(distinct)] + [distinct[0] - 1]
    best = max(f1(scores, present, threshold) for threshold in thresholds)
    assert f1(scores, present, found) == pytest.approx(best, abs=1e-12)
    assert found not in scores  # half way, never on a score
    widths = {
        threshold: min(s for s in scores if s > threshold) - max(s for s in scores if s < threshold)
        for threshold in thresholds
        if threshold > distinct[0] and f1(scores, present, threshold) > best - 1e-12
    }
    if widths and found > distinct[0]:
        assert widths[found] == max(widths.values())
        assert found == max(threshold for threshold, width in widths.items() if width == widths[found])


def test_neighbouring_float32_scores_are_separated() -> None:
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    [found] = best_thresholds(np.array([[high], [low]]), np.array([[1], [0]]))
    assert found is not None
    assert (high > np.float32(found), low > np.float32(found)) == (True, False)


def test_scores_and_truth_of_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"scores have shape \(2, 3\), the truth \(2, 2\)"):
        best_thresholds(np.zeros((2, 3), np.float32), np.zeros((2, 2)))


SCORES = np.float32([0.1, 0.7, 0.5, -0.2])


def test_words_without_a_threshold_use_the_relative_one() -> None:
    np.testing.assert_allclose(thresholds_of_image(SCORES, 0.5), [0.25] * 4, atol=1e-7)
    np.testing.assert_allclose(
        thresholds_of_image(SCORES, 0.5, (0.05, None, 0.6, -0.3)), [0.05, 0.25, 0.6, -0.3], atol=1e-7
    )
    assert choose(SCORES, 0.5, (0.05, None, 0.6, -0.3)) == (0, 1, 3)


def test_thresholds_allow_no_tags_and_the_relative_rule_does_not() -> None:
    assert choose(SCORES, 0.5, (0.9, 0.9, 0.9, 0.9)) == ()
    assert choose(np.float32([0.4, 0.4]), 0.5) == (0,)
    assert choose(np.float32([-3.0, -4.0]), 0.5) == (0,)  # scores may be below 0
    assert choose(SCORES, 0.5, (None,) * 4) == choose(SCORES, 0.5) == (1, 2)


def test_min_score_and_top_apply_with_thresholds_too() -> None:
    low = (-1.0,) * 4
    assert choose(SCORES, 0.5, low, min_score=0.3) == (1, 2)
    assert choose(SCORES, 0.5, low, top=1) == (1,)
    assert choose(SCORES, 0.5, min_score=0.6) == (1,)
