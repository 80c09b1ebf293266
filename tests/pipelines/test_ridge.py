"""The ridge regression against its formula, and the penalty against leaving images out one by one."""

import math

import pytest
import torch

from tagmask.pipelines.ridge import (
    DEFAULT_PENALTY,
    PENALTIES,
    NormalEquations,
    PatchRows,
    mean_iou,
    validate,
)


def some_rows(seed: int, patches: int = 40, width: int = 6, classes: int = 3) -> PatchRows:
    """Patches whose true class depends linearly on their feature, and scores that know nothing."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.nn.functional.normalize(torch.randn(patches, width, generator=generator), dim=1)
    truth = torch.nn.functional.one_hot(features[:, :classes].argmax(dim=1), classes).float()
    scores = torch.full((patches, classes), 1 / classes)
    scores[:, 0] += 0.01
    return PatchRows(features, scores, truth, torch.rand(patches, generator=generator))


def equations_of(rows: list[PatchRows]) -> NormalEquations:
    equations = NormalEquations(6, 3)
    for each in rows:
        equations.add(each)
    return equations


def test_the_solution_is_the_minimum() -> None:
    rows = [some_rows(seed) for seed in range(3)]
    penalty = 2.0
    solved = equations_of(rows).solve(penalty)
    features, weights = torch.cat([r.features for r in rows]), torch.cat([r.weights for r in rows])
    # The same as unweighted least squares on rows times sqrt(w), and sqrt(penalty) times the identity below.
    left = torch.cat([features * weights.sqrt()[:, None], math.sqrt(penalty) * torch.eye(6)])
    right = torch.cat([torch.cat([r.residuals for r in rows]) * weights.sqrt()[:, None], torch.zeros(6, 3)])
    assert torch.allclose(solved, torch.linalg.lstsq(left, right).solution, atol=1e-5)


def test_the_penalty_is_that_of_leaving_out_each_image() -> None:
    rows = [some_rows(seed) for seed in range(4)]
    found = validate(equations_of(rows), rows)
    quality = []
    for penalty in PENALTIES:
        counts = torch.zeros(3, 3, dtype=torch.float64)
        for i, row in enumerate(rows):
            matrix = equations_of(rows[:i] + rows[i + 1 :]).solve(penalty)
            best = (row.scores + row.features @ matrix).argmax(dim=1)
            for c in range(3):
                counts[:, c] += (row.truth * row.weights[:, None])[best == c].sum(dim=0).double()
        quality.append(mean_iou(counts))
    assert found.after == pytest.approx(max(quality))
    assert quality[PENALTIES.index(found.penalty)] == max(quality)
    assert found.images == 4
    assert found.before < 0.2 < 0.7 < found.after


def test_no_correction_where_none_helps() -> None:
    rows = [some_rows(seed) for seed in range(4)]
    perfect = [PatchRows(r.features, r.truth, r.truth, r.weights) for r in rows]
    found = validate(equations_of(perfect), perfect)
    assert math.isinf(found.penalty)
    assert found.before == found.after == 1
    assert not equations_of(rows).solve(math.inf).any()


def test_too_small_a_gain_is_no_gain() -> None:
    rows = [some_rows(seed) for seed in range(4)]
    found = validate(equations_of(rows), rows)
    gain = found.after - found.before
    assert validate(equations_of(rows), rows, gain - 1e-6) == found
    refused = validate(equations_of(rows), rows, gain + 1e-6)
    assert math.isinf(refused.penalty)
    assert refused.after == refused.before == found.before


def test_one_image_has_the_default_penalty() -> None:
    rows = [some_rows(0)]
    found = validate(equations_of(rows), rows)
    assert found.penalty == DEFAULT_PENALTY
    assert math.isnan(found.after)
