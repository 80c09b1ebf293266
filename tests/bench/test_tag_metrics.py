import inspect
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tagmask.bench.tag_metrics import (
    AP_RULES,
    F1,
    average_precision,
    f1_of_decisions,
    mean_average_precision,
)
from tagmask.errors import InputError, ShapeError
from tagmask.pipelines.thresholding import above_relative_threshold

GOLDEN = Path(__file__).parents[1] / "golden"
UNITS = np.load(GOLDEN / "units_small.npz")
PACK = np.load(GOLDEN / "tag_metrics.npz")


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
def test_average_precision_by_ranks(scores, truth):
    for c, got in enumerate(average_precision(scores, truth)):
        ranked = sorted(range(9), key=lambda i: (-scores[i, c], i))
        found, precisions = 0, []
        for rank, image in enumerate(ranked, 1):
            if truth[image, c]:
                found += 1
                precisions.append(found / rank)
        assert got == pytest.approx(sum(precisions) / len(precisions) if precisions else 0.0)


def test_reference_f1():
    got = f1_of_decisions(above_relative_threshold(UNITS["ap/pred"], 0.5), UNITS["ap/label"])
    for ours, name in zip(got, ("overall", "category", "sample"), strict=True):
        np.testing.assert_allclose(ours, UNITS[f"f1/{name}"], rtol=0, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(chosen=arrays(np.bool_, (4, 3)), truth=arrays(np.bool_, (4, 3)))
def test_f1_counts_by_hand(chosen, truth):
    def f1(groups):
        def mean(rows):
            return sum(rows) / len(rows)

        hits = [sum(a and b for a, b in group) for group in groups]
        chosen_counts, true_counts = ([sum(pair[i] for pair in group) for group in groups] for i in (0, 1))
        p = mean([h / s if s else 0 for h, s in zip(hits, chosen_counts, strict=True)])
        r = mean([h / t if t else 0 for h, t in zip(hits, true_counts, strict=True)])
        return F1(2 * p * r / (p + r) if p + r else 0.0, p, r)

    cells = [[(int(chosen[i, c]), int(truth[i, c])) for c in range(3)] for i in range(4)]
    pooled = [[pair for row in cells for pair in row]]
    for got, groups in zip(
        f1_of_decisions(chosen, truth), (pooled, list(zip(*cells, strict=True)), cells), strict=True
    ):
        np.testing.assert_allclose(got, f1(groups))


def test_scores_and_truth_must_agree():
    for function in (average_precision, f1_of_decisions):
        with pytest.raises(ShapeError, match="images, classes"):
            inspect.unwrap(function)(np.zeros((2, 3), bool), np.zeros((3, 2)))


# -- The other definitions -----------------------------------------------------------------------------------

RECORDED = {
    ("base", "ranks"): ("ap_tagclip", 1),
    ("base", "area"): ("ap_voc2010", 1),
    ("base", "steps"): ("ap_sklearn", 1),
    ("tied", "steps"): ("ap_torchmetrics_x100", 100),
}


@pytest.mark.parametrize(("case", "rule"), RECORDED)
def test_recorded_average_precision(case, rule):
    scores = PACK["in/scores" if case == "base" else "in/scores_tied"]
    name, scale = RECORDED[case, rule]
    got = scale * average_precision(scores, PACK["in/labels"], rule)
    np.testing.assert_allclose(got, PACK[f"{case}/{name}"], rtol=0, atol=1e-7 * scale)


@settings(deadline=None, max_examples=40)
@given(
    scores=arrays(np.float32, (9, 1), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    truth=arrays(np.bool_, (9, 1)),
)
def test_each_rule_is_its_definition(scores, truth):
    total = int(truth.sum())
    ranked = sorted(range(9), key=lambda i: (-scores[i, 0], i))
    hits = [bool(truth[i, 0]) for i in ranked]
    curve = []  # (recall, precision) after each rank
    for rank in range(1, 10):
        found = sum(hits[:rank])
        curve.append((found / total if total else 0.0, found / rank))
    expected = {"eleven": 0.0, "area": 0.0, "steps": 0.0}
    if total:
        for tenth in range(11):
            reached = [p for n, (_, p) in enumerate(curve, 1) if 10 * sum(hits[:n]) >= tenth * total]
            expected["eleven"] += max(reached, default=0.0) / 11
        before = 0.0
        for i, (recall, _) in enumerate(curve):
            expected["area"] += (recall - before) * max(p for _, p in curve[i:])
            before = recall
        before = 0.0
        for threshold in sorted(set(scores[:, 0].tolist()), reverse=True):
            taken = scores[:, 0] >= threshold
            recall = float((truth[:, 0] & taken).sum() / total)
            expected["steps"] += (recall - before) * float(truth[taken, 0].mean())
            before = recall
    for rule, value in expected.items():
        assert average_precision(scores, truth, rule)[0] == pytest.approx(value), rule


def test_unsure_images_are_left_out():
    rng = np.random.default_rng(0)
    scores, truth = rng.random((30, 2)), rng.random((30, 2)) < 0.4
    unsure = np.zeros((30, 2), bool)
    unsure[::4, 0] = True
    for rule in AP_RULES:
        got = average_precision(scores, truth, rule, unsure)
        scored = ~unsure[:, 0]
        assert got[0] == average_precision(scores[scored], truth[scored], rule)[0]
        assert got[1] == average_precision(scores, truth, rule)[1]
    chosen = scores > 0.5
    got = f1_of_decisions(chosen, truth, unsure).overall
    sure = ~unsure
    assert got.precision == pytest.approx(truth[sure & chosen].mean())
    assert got.recall == pytest.approx(chosen[sure & truth].mean())


def test_classes_in_no_image_count_as_zero_or_are_left_out():
    scores, truth = np.array([[0.9, 0.1], [0.2, 0.3]]), np.array([[1, 0], [0, 0]])
    assert mean_average_precision(scores, truth) == 0.5
    assert mean_average_precision(scores, truth, absent="left out") == 1.0
    assert math.isnan(mean_average_precision(scores, np.zeros((2, 2)), absent="left out"))


@pytest.mark.parametrize(("mode", "place"), [("overall", 0), ("category", 1), ("sample", 2)])
def test_recorded_f1(mode, place):
    scores, truth = PACK["in/scores"], PACK["in/labels"]
    third = -np.sort(-scores, axis=1)[:, 2:3]
    decisions = {
        "top3": scores >= third,
        "abs05": scores > 0.5,
        "rel05": above_relative_threshold(scores, 0.5),
    }
    for name, chosen in decisions.items():
        np.testing.assert_allclose(
            f1_of_decisions(chosen, truth)[place], PACK[f"f1/{mode}/{name}"], atol=1e-7
        )


def test_unknown_rules_are_refused():
    with pytest.raises(InputError, match="Unknown rule 'voc'"):
        average_precision(np.zeros((1, 1)), np.zeros((1, 1)), "voc")
