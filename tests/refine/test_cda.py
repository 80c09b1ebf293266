"""CDA's affinity, compared with its formulas element by element in float64."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError, ShapeError
from tagmask.papers.clip_es_settings import ClipEsSettings
from tagmask.refine import cda as module
from tagmask.refine.affinity import balanced
from tagmask.refine.cda import class_distributions, combined, distribution_affinity, divergences


def random_cosines(p: int, q: int, seed: int) -> torch.Tensor:
    return torch.randn(p, q, generator=torch.Generator().manual_seed(seed)) * 0.05 + 0.2


def random_attention(p: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(torch.randn(p, p, generator=generator) * 2, dim=-1) * 0.8


def distribution(cosines: Sequence[float]) -> list[float]:
    low, high = min(cosines), max(cosines)
    weights = [math.exp((c - low) / (high - low)) if high > low else 1.0 for c in cosines]
    return [weight / sum(weights) for weight in weights]


def jensen_shannon(one: Sequence[float], other: Sequence[float]) -> float:
    def kullback_leibler(p: Sequence[float], q: Sequence[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    mean = [(a + b) / 2 for a, b in zip(one, other, strict=True)]
    return (kullback_leibler(one, mean) + kullback_leibler(other, mean)) / 2


def naive(cosines: torch.Tensor, attention: torch.Tensor, tau: float, combination: str) -> np.ndarray:
    """M, from the cosines and the attention."""
    patches = [distribution(row) for row in cosines.double().tolist()]
    s = np.array([[(1 - jensen_shannon(one, other)) / tau for other in patches] for one in patches])
    a = np.array([[math.exp(value - max(row)) for value in row] for row in s.tolist()])
    a /= a.sum(axis=1, keepdims=True)
    t = balanced(attention.double(), rounds=3).spread(torch.eye(len(a)).double(), times=1).numpy()
    m = a @ t if combination == "product" else a * t
    return m / m.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=25)
@given(
    p=st.integers(1, 9),
    q=st.integers(1, 6),
    seed=st.integers(0, 99),
    tau=st.sampled_from([0.001, 0.01, 1.0]),
    times=st.integers(0, 3),
    combination=st.sampled_from(module.COMBINATIONS),
    strip=st.sampled_from([1, 2**22]),
)
def test_maps_are_multiplied_by_powers_of_the_combined_affinity(
    p: int, q: int, seed: int, tau: float, times: int, combination: str, strip: int
) -> None:
    cosines, attention = random_cosines(p, q, seed), random_attention(p, seed)
    maps = torch.rand(2, p, generator=torch.Generator().manual_seed(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STRIP", strip)
        affinity = distribution_affinity(class_distributions(cosines), tau)
    found = combined(affinity, balanced(attention, rounds=3), combination).spread(maps, times=times)
    power = np.linalg.matrix_power(naive(cosines, attention, tau, combination), times)
    np.testing.assert_allclose(found.numpy(), maps.double().numpy() @ power, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("combination", module.COMBINATIONS)
def test_patches_of_one_distribution_share_their_maps(combination: str) -> None:
    cosines = torch.tensor(
        [[0.3, 0.1, 0.2], [0.1, 0.3, 0.1], [0.5, 0.3, 0.4]]
    )  # the first and last are alike
    attention = torch.full((3, 3), 1 / 3)
    affinity = distribution_affinity(class_distributions(cosines), 0.0001)
    found = combined(affinity, balanced(attention), combination).spread(torch.eye(3)[:1], times=1)
    expected = [[0.5, 0.0, 0.5]] if combination == "elementwise" else [[1 / 3] * 3]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=0)


def test_small_divergences_are_exact() -> None:
    one = torch.tensor([[0.25, 0.25, 0.5]])
    other = one + torch.tensor([[1e-4, -1e-4, 0.0]])
    expected = jensen_shannon(one.double().tolist()[0], other.double().tolist()[0])
    assert 1e-9 < expected < 1e-7
    assert divergences(one, other).item() == pytest.approx(expected, rel=1e-2)
    assert divergences(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(
        math.log(2)
    )


@pytest.mark.parametrize("combination", module.COMBINATIONS)
def test_a_patch_without_attention_gives_nothing(combination: str) -> None:
    attention = random_attention(4, 0)
    attention[:, 2] = attention[2] = 0
    affinity = distribution_affinity(class_distributions(random_cosines(4, 3, 0)), 0.01)
    found = combined(affinity, balanced(attention), combination).spread(torch.eye(4), times=2)
    assert found.isfinite().all()
    assert not found[:, 2].any()


def test_maps_of_another_grid_are_refused() -> None:
    affinity = combined(torch.eye(3), balanced(random_attention(3, 0)), "product")
    with pytest.raises(ShapeError, match="maps of 4 patches for an affinity of 3"):
        affinity.spread(torch.zeros(1, 4), times=1)


@pytest.mark.parametrize(
    "wrong",
    [{"affinity": "cosine"}, {"cda_tau": 0.0}, {"cda_steps": -1}, {"cda_combination": "sum"}],
)
def test_invalid_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ClipEsSettings(**wrong)  # type: ignore[arg-type]
