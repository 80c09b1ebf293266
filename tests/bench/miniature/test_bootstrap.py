"""Bootstrap samples of scenes, and the ranking check."""

import numpy as np
import pytest

from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.bootstrap import bootstrap_interval, bootstrap_samples, mean_ap, miou, verdict
from tagmask.bench.miniature.ranking import orders
from tagmask.bench.tag_metrics import mean_average_precision


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_first_row_is_the_score_of_all_scenes(rng: np.random.Generator) -> None:
    matrix = ConfusionMatrix(4)
    counts = []
    for _ in range(12):
        truth, predicted = rng.integers(0, 4, (2, 9, 9))
        matrix.update(predicted, truth)
        single = ConfusionMatrix(4)
        single.update(predicted, truth)
        counts.append(single.matrix)
    values = miou(np.stack(counts), bootstrap_samples(12))
    assert values[0] == pytest.approx(100 * matrix.miou())
    scores = rng.random((12, 3)).astype(np.float32)
    labels = rng.random((12, 3)) < 0.4
    expected = 100 * mean_average_precision(scores.astype(np.float64), labels)
    assert mean_ap(scores, labels, bootstrap_samples(12))[0] == pytest.approx(expected)


def test_sample_is_the_score_of_its_scenes(rng: np.random.Generator) -> None:
    drawn = bootstrap_samples(8, count=5)
    assert (drawn[0] == 1).all()
    assert (drawn.sum(axis=1) == 8).all()
    counts = rng.integers(0, 50, (8, 3, 3))
    scores = rng.random((8, 2)).astype(np.float32)
    labels = rng.random((8, 2)) < 0.5
    for row in range(1, 6):
        scenes = np.repeat(np.arange(8), drawn[row])
        whole = bootstrap_samples(8, count=1)[:1]
        assert miou(counts, drawn)[row] == pytest.approx(miou(counts[scenes], whole)[0])
        expected = np.mean([stepwise(scores[scenes, c], labels[scenes, c]) for c in (0, 1)])
        assert mean_ap(scores, labels, drawn)[row] == pytest.approx(100 * expected)


def stepwise(scores: np.ndarray, labels: np.ndarray) -> float:
    """Average precision, one step at each distinct score."""
    total = 0.0
    for threshold in np.unique(scores):
        taken, step = scores >= threshold, scores == threshold
        total += labels[step].sum() * labels[taken].mean()
    return float(total / labels.sum())


def test_class_in_no_scene_or_prediction_is_left_out() -> None:
    counts = np.zeros((2, 3, 3), np.int64)
    counts[:, 0, 0] = 5
    counts[:, 1, 0] = 5
    assert miou(counts, bootstrap_samples(2, count=0)).tolist() == [25.0]


def test_more_scenes_give_smaller_errors(rng: np.random.Generator) -> None:
    counts = rng.integers(0, 50, (400, 3, 3))
    few, many = (bootstrap_interval(miou(counts[:n], bootstrap_samples(n))) for n in (20, 400))
    assert many < few / 2


def test_verdicts() -> None:
    low, high = np.full(101, 10.0), np.full(101, 11.0)
    mixed = np.where(np.arange(101) % 2, 9.0, 12.0)
    assert (verdict(high, low), verdict(low, high), verdict(mixed, low)) == ("yes", "no", "open")


def test_orders_name_misranked_rows() -> None:
    flat = [np.full(101, value) for value in (20.0, 30.0, 25.0, 5.0)]
    labels = ["plain", "better", "best", "other"]
    assert orders(labels, [50.0, 60.0, 70.0, None], flat) == ["yes", "no: over best", "no: under better", ""]
    unsure = [np.where(np.arange(101) % 2, 19.0, 31.0), *flat[1:]]
    assert orders(labels, [50.0, 60.0, None, None], unsure) == ["open: better", "open: plain", "", ""]
