"""Scores equal those of scikit-learn and torchmetrics where the definitions agree (make parity-metrics).

Definitions differ if a class is in no image or never predicted, and for F1 per class and per sample: here it
is the F1 of the mean precision and recall, as in the papers, there the mean of the F1 scores.
"""

import numpy as np
import pytest
import torch

from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.tag_metrics import average_precision, f1_of_decisions, mean_average_precision

pytestmark = pytest.mark.metrics_parity

RNG = np.random.default_rng(20)
SCORES = RNG.random((300, 12)).astype(np.float32)
TIED = np.round(SCORES * 16) / 16
TRUTH = RNG.random((300, 12)) < 0.2
LABELS = RNG.integers(0, 9, (4, 60, 70))
MASKS = RNG.choice([*range(9), 255], (4, 60, 70))


@pytest.mark.parametrize("scores", [SCORES, TIED], ids=["distinct", "tied"])
def test_average_precision(scores: np.ndarray) -> None:
    from sklearn.metrics import average_precision_score
    from torchmetrics.classification import MultilabelAveragePrecision

    ours = average_precision(scores, TRUTH, "steps")
    np.testing.assert_allclose(ours, average_precision_score(TRUTH, scores, average=None), rtol=0, atol=1e-9)
    inputs = torch.from_numpy(scores), torch.from_numpy(TRUTH).long()
    theirs = MultilabelAveragePrecision(12, average=None)(*inputs)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-6)
    mean = float(MultilabelAveragePrecision(12, average="macro")(*inputs))
    assert mean_average_precision(scores, TRUTH, "steps") == pytest.approx(mean, abs=1e-6)


def test_rules_agree_on_distinct_scores() -> None:
    from sklearn.metrics import average_precision_score

    theirs = average_precision_score(TRUTH, SCORES, average=None)
    np.testing.assert_allclose(average_precision(SCORES, TRUTH, "ranks"), theirs, rtol=0, atol=1e-9)


def test_precision_and_recall() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    chosen = SCORES > 0.7
    ours = f1_of_decisions(chosen, TRUTH)
    for got, average in zip(ours, ("micro", "macro", "samples"), strict=True):
        precision, recall, f1, _ = precision_recall_fscore_support(
            TRUTH, chosen, average=average, zero_division=0
        )
        assert (got.precision, got.recall) == (pytest.approx(precision), pytest.approx(recall))
        if average == "micro":
            assert got.f1 == pytest.approx(f1)


def test_intersection_over_union() -> None:
    from sklearn.metrics import confusion_matrix, jaccard_score
    from torchmetrics.classification import MulticlassJaccardIndex

    matrix = ConfusionMatrix(9)
    for labels, truth in zip(LABELS, MASKS, strict=True):
        matrix.update(labels, truth)
    scored = MASKS != 255
    np.testing.assert_array_equal(matrix.matrix, confusion_matrix(MASKS[scored], LABELS[scored]))
    np.testing.assert_allclose(
        matrix.iou(), jaccard_score(MASKS[scored], LABELS[scored], average=None), rtol=1e-12
    )
    inputs = torch.from_numpy(LABELS), torch.from_numpy(MASKS)
    theirs = MulticlassJaccardIndex(9, ignore_index=255, average=None)(*inputs)
    np.testing.assert_allclose(matrix.iou(), theirs.numpy(), rtol=0, atol=1e-6)
    mean = float(MulticlassJaccardIndex(9, ignore_index=255, average="macro")(*inputs))
    assert matrix.miou() == pytest.approx(mean, abs=1e-6)
