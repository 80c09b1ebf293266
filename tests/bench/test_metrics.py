import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.bench.metrics import ConfusionMatrix
from tagmask.errors import InputError, ShapeError

GOLDEN = Path(__file__).parents[1] / "golden"
LABELS = np.load(GOLDEN / "miou_golden.npz")
MIOU = json.loads((GOLDEN / "miou_golden.json").read_text())


def printed(values):
    return [None if math.isnan(v) else round(100 * v, 2) for v in values]


@pytest.mark.parametrize("name", ["plain", "reduce"])
def test_reference_scores_of_labels(name):
    expected = MIOU[name]
    matrix = ConfusionMatrix(expected["num_classes"])
    for k in range(3):
        matrix.update(LABELS[f"{name}.{k}.pred"], LABELS[f"{name}.{k}.gt_used"])
    assert printed(matrix.iou()) == expected["IoU"]
    assert printed(matrix.accuracy()) == expected["Acc"]
    assert printed([matrix.miou(), matrix.pixel_accuracy(), matrix.mean_accuracy()]) == [
        expected["mIoU"], expected["aAcc"], expected["mAcc"],
    ]  # fmt: skip
    correct = matrix.matrix.diagonal()
    assert correct.tolist() == expected["intersect"]
    assert matrix.matrix.sum(0).tolist() == expected["pred"]
    assert matrix.matrix.sum(1).tolist() == expected["label"]
    assert (matrix.matrix.sum(0) + matrix.matrix.sum(1) - correct).tolist() == expected["union"]


@settings(deadline=None, max_examples=40)
@given(
    truth=arrays(np.uint8, (5, 6), elements=st.sampled_from([0, 1, 2, 3, 255])),
    labels=arrays(np.int64, (5, 6), elements=st.integers(-1, 5)),
)
def test_scores_are_ratios_of_sets(truth, labels):
    matrix = ConfusionMatrix(4)
    matrix.update(labels[:2], truth[:2])
    matrix.update(labels[2:], truth[2:])
    iou, in_truth = [], []
    for c in range(4):
        scored = truth != 255
        predicted, true = set(np.flatnonzero((labels == c) & scored)), set(np.flatnonzero(truth == c))
        iou.append(len(predicted & true) / len(predicted | true) if predicted | true else math.nan)
        in_truth.append(bool(true))
    np.testing.assert_allclose(matrix.iou(), iou)
    known = [v for v in iou if not math.isnan(v)]
    present = [v for v, is_true in zip(iou, in_truth, strict=True) if is_true]
    for got, values in ((matrix.miou(), known), (matrix.miou("truth"), present)):
        np.testing.assert_allclose(got, sum(values) / len(values) if values else math.nan)


def test_averages_differ_by_classes_that_are_only_predicted():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]))
    assert matrix.miou() == pytest.approx((1 + 0.5 + 0) / 3)
    assert matrix.miou(average="truth") == pytest.approx((1 + 0.5) / 2)


def test_invalid_predictions_count_for_no_class():
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
    with pytest.raises(InputError, match="ground truth has labels 0 to 3, with 3 classes"):
        matrix.update(np.array([0, 0]), np.array([0, 3]))
    with pytest.raises(InputError, match="Unknown average 'mean'"):
        inspect.unwrap(ConfusionMatrix.miou)(matrix, "mean")
    with pytest.raises(InputError, match="0 classes"):
        ConfusionMatrix(0)
    # Unwrapped, since the tests' shape checks would raise before the message that users see.
    with pytest.raises(ShapeError, match=r"Labels are \(2,\), the ground truth is \(3,\)"):
        inspect.unwrap(ConfusionMatrix.update)(matrix, np.zeros(2, int), np.zeros(3, int))


def test_counts_of_single_images_add_up_to_the_set():
    rng = np.random.default_rng(3)
    whole, added = ConfusionMatrix(4), ConfusionMatrix(4)
    for _ in range(5):
        labels, truth = rng.integers(0, 6, (7, 9)), rng.choice([0, 1, 2, 3, 255], (7, 9))
        single = ConfusionMatrix(4)
        for matrix in (whole, single):
            matrix.update(labels, truth)
        assert all(pixels > 0 for *_, pixels in single.cells())
        added.add(json.loads(json.dumps(single.cells())))
    assert added.cells() == whole.cells()
    assert sum(cell[2] for cell in whole.cells() if cell[1] == 4) > 0  # invalid predictions are included


def test_count_outside_the_matrix_is_refused():
    for cell in ((4, 0, 1), (0, 5, 1), (0, 0, -1)):
        with pytest.raises(InputError, match="for 4 classes"):
            ConfusionMatrix(4).add([cell])


def test_grouped_counts_are_those_of_grouped_labels():
    rng = np.random.default_rng(4)
    labels, truth = rng.integers(0, 6, (20, 20)), rng.choice([0, 1, 2, 3, 4, 255], (20, 20))
    groups = [1, 0, 0, 2, 1]
    fine, coarse = ConfusionMatrix(5), ConfusionMatrix(3)
    fine.update(labels, truth)
    table = np.full(256, 255)
    table[:5] = groups
    coarse.update(table[labels], table[truth])
    assert fine.grouped(groups, 3).cells() == coarse.cells()
    for wrong, count in (([0, 1], 3), ([0, 0, 0, 0, 3], 3)):
        with pytest.raises(InputError, match="groups for 5 classes"):
            fine.grouped(wrong, count)
