import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.bench.metrics import (
    F1,
    ConfusionMatrix,
    average_precision,
    f1_of_decisions,
    f1_scores,
    mean_average_precision,
    over_relative_threshold,
    reduce_zero,
)
from tagmask.errors import InputError, ShapeError

GOLDEN = Path(__file__).parents[1] / "golden"
UNITS = np.load(GOLDEN / "units_small.npz")
LABELS = np.load(GOLDEN / "miou_golden.npz")
MIOU = json.loads((GOLDEN / "miou_golden.json").read_text())


def printed(values):
    return [None if math.isnan(v) else round(100 * v, 2) for v in values]


@pytest.mark.parametrize("name", ["plain", "reduce"])
def test_reference_scores_of_labels(name):
    wanted = MIOU[name]
    matrix = ConfusionMatrix(wanted["num_classes"])
    for k in range(3):
        truth = LABELS[f"{name}.{k}.gt_raw"]
        truth = reduce_zero(truth) if wanted["reduce_zero_label"] else truth
        np.testing.assert_array_equal(truth, LABELS[f"{name}.{k}.gt_used"])
        matrix.update(LABELS[f"{name}.{k}.pred"], truth)
    assert printed(matrix.iou()) == wanted["IoU"]
    assert printed(matrix.accuracy()) == wanted["Acc"]
    assert printed([matrix.miou(), matrix.pixel_accuracy(), matrix.mean_accuracy()]) == [
        wanted["mIoU"], wanted["aAcc"], wanted["mAcc"],
    ]  # fmt: skip
    right = matrix.matrix.diagonal()
    assert right.tolist() == wanted["intersect"]
    assert matrix.matrix.sum(0).tolist() == wanted["pred"]
    assert matrix.matrix.sum(1).tolist() == wanted["label"]
    assert (matrix.matrix.sum(0) + matrix.matrix.sum(1) - right).tolist() == wanted["union"]


@settings(deadline=None, max_examples=40)
@given(
    truth=arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 3, 255])),
    labels=arrays(np.int64, (5, 6), elements=st.integers(-1, 5)),
)
def test_scores_are_ratios_of_sets(truth, labels):
    matrix = ConfusionMatrix(4)
    matrix.update(labels[:2], truth[:2])
    matrix.update(labels[2:], truth[2:])
    iou, kept = [], []
    for c in range(4):
        scored = truth != 255
        said, true = set(np.flatnonzero((labels == c) & scored)), set(np.flatnonzero(truth == c))
        iou.append(len(said & true) / len(said | true) if said | true else math.nan)
        kept.append(bool(true))
    np.testing.assert_allclose(matrix.iou(), iou)
    known = [v for v in iou if not math.isnan(v)]
    present = [v for v, keep in zip(iou, kept, strict=True) if keep]
    for got, values in ((matrix.miou(), known), (matrix.miou("truth"), present)):
        np.testing.assert_allclose(got, sum(values) / len(values) if values else math.nan)


def test_the_two_averages_differ_by_classes_that_are_only_predicted():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]))
    assert matrix.miou() == pytest.approx((1 + 0.5 + 0) / 3)
    assert matrix.miou(average="truth") == pytest.approx((1 + 0.5) / 2)


def test_answers_outside_the_classes_are_nobodys():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0, 7, 255, 1], np.uint8), np.array([0, 0, 1, 1], np.uint8))
    assert matrix.iou().tolist() == [0.5, 0.5]
    assert matrix.pixel_accuracy() == 0.5


def test_another_label_can_be_ignored():
    matrix = ConfusionMatrix(2, ignore=0)
    matrix.update(np.array([1, 1]), np.array([0, 1]))
    assert matrix.pixel_accuracy() == 1


def test_nothing_scored_is_nan():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([0]), np.array([255]))
    assert all(math.isnan(v) for v in (matrix.miou(), matrix.pixel_accuracy(), matrix.mean_accuracy()))


def test_counts_do_not_wrap():
    matrix = ConfusionMatrix(256, ignore=-1)
    matrix.update(np.full(300, 255, np.uint8), np.full(300, 255, np.uint8))
    assert matrix.matrix[255, 255] == 300


def test_bad_labels_are_refused():
    matrix = ConfusionMatrix(3)
    with pytest.raises(InputError, match="truth holds labels 0 to 3 for 3 classes"):
        matrix.update(np.array([0, 0]), np.array([0, 3]))
    with pytest.raises(InputError, match='average "mean"'):
        inspect.unwrap(ConfusionMatrix.miou)(matrix, "mean")
    with pytest.raises(InputError, match="0 classes"):
        ConfusionMatrix(0)
    # Unwrapped: the tests' own shape check would answer before the message that users see.
    with pytest.raises(ShapeError, match=r"labels of \(2,\) for truth of \(3,\)"):
        inspect.unwrap(ConfusionMatrix.update)(matrix, np.zeros(2, int), np.zeros(3, int))


def test_reduce_zero_keeps_the_type():
    truth = np.array([[0, 1], [254, 255]], np.uint8)
    assert reduce_zero(truth).dtype == np.uint8
    assert reduce_zero(truth).tolist() == [[255, 0], [253, 255]]
    assert reduce_zero(truth.astype(np.int32)).tolist() == [[255, 0], [253, 255]]


def test_reference_average_precision():
    scores, truth = UNITS["ap/pred"], UNITS["ap/label"]
    got = average_precision(scores, truth)
    np.testing.assert_allclose(got, UNITS["ap/ap"], rtol=0, atol=1e-7)
    assert got[13] == 0
    assert not truth[:, 13].any()
    assert mean_average_precision(scores, truth) == pytest.approx(float(UNITS["ap/map"]), abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(
    scores=arrays(np.float32, (9, 2), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    truth=arrays(np.bool_, (9, 2)),
)
def test_average_precision_is_the_walk_down_the_ranks(scores, truth):
    for c, got in enumerate(average_precision(scores, truth)):
        ranked = sorted(range(9), key=lambda i: (-scores[i, c], i))
        found, precisions = 0, []
        for rank, image in enumerate(ranked, 1):
            if truth[image, c]:
                found += 1
                precisions.append(found / rank)
        assert got == pytest.approx(sum(precisions) / len(precisions) if precisions else 0.0)


def test_reference_f1():
    got = f1_scores(UNITS["ap/pred"], UNITS["ap/label"], tau=0.5)
    for ours, name in zip(got, ("overall", "category", "sample"), strict=True):
        np.testing.assert_allclose(ours, UNITS[f"f1/{name}"], rtol=0, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(chosen=arrays(np.bool_, (4, 3)), truth=arrays(np.bool_, (4, 3)))
def test_f1_counts_by_hand(chosen, truth):
    def f1(groups):
        def mean(rows):
            return sum(rows) / len(rows)

        hits = [sum(a and b for a, b in group) for group in groups]
        said, true = ([sum(pair[i] for pair in group) for group in groups] for i in (0, 1))
        p = mean([h / s if s else 0 for h, s in zip(hits, said, strict=True)])
        r = mean([h / t if t else 0 for h, t in zip(hits, true, strict=True)])
        return F1(2 * p * r / (p + r) if p + r else 0.0, p, r)

    cells = [[(int(chosen[i, c]), int(truth[i, c])) for c in range(3)] for i in range(4)]
    pooled = [[pair for row in cells for pair in row]]
    for got, groups in zip(
        f1_of_decisions(chosen, truth), (pooled, list(zip(*cells, strict=True)), cells), strict=True
    ):
        np.testing.assert_allclose(got, f1(groups))


def test_relative_threshold_is_per_image_and_strict():
    scores = np.array([[0.0, 0.5, 1.0], [3.0, 2.0, 2.6], [1.0, 1.0, 1.0]], np.float32)
    assert over_relative_threshold(scores, 0.5).tolist() == [
        [False, False, True],
        [True, False, True],
        [False, False, False],
    ]


def test_scores_and_truth_must_agree():
    for function in (average_precision, f1_of_decisions):
        with pytest.raises(ShapeError, match="images, classes"):
            inspect.unwrap(function)(np.zeros((2, 3), bool), np.zeros((3, 2)))
