import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError, ShapeError
from tagmask.refine.affinity import balanced


def random_attention(p, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(torch.randn(p, p, generator=generator) * 2, dim=-1) * 0.8


def oracle(attention, rounds):
    """Element by element, the whole matrix each time; symmetric; float64."""
    t = [[float(value) for value in row] for row in attention]
    p = len(t)
    for _ in range(rounds):
        sums = [sum(t[i][j] for i in range(p)) for j in range(p)]
        t = [[t[i][j] / sums[j] for j in range(p)] for i in range(p)]
        sums = [sum(t[i][j] for j in range(p)) for i in range(p)]
        t = [[t[i][j] / sums[i] for j in range(p)] for i in range(p)]
    return np.array([[(t[i][j] + t[j][i]) / 2 for j in range(p)] for i in range(p)])


@settings(deadline=None, max_examples=20)
@given(p=st.integers(1, 12), rounds=st.integers(0, 4), seed=st.integers(0, 9))
def test_balanced_equals_the_naive_version(p, rounds, seed):
    attention = random_attention(p, seed)
    result = balanced(attention, rounds=rounds).spread(torch.eye(p), times=1)
    np.testing.assert_allclose(result.numpy(), oracle(attention, rounds), rtol=2e-6, atol=1e-8)


@settings(deadline=None, max_examples=20)
@given(p=st.integers(1, 12), k=st.integers(0, 3), times=st.integers(0, 3))
def test_spread_applies_a_power_of_the_matrix(p, k, times):
    attention = random_attention(p)
    maps = torch.rand(k, p, generator=torch.Generator().manual_seed(1))
    power = np.linalg.matrix_power(oracle(attention, 3), times)
    result = balanced(attention).spread(maps, times=times)
    np.testing.assert_allclose(result.numpy(), (power @ maps.numpy().T).T, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("p", [300, 1200])
def test_equals_the_squared_matrix_at_real_sizes(p):
    attention = random_attention(p)
    maps = torch.rand(3, p, generator=torch.Generator().manual_seed(1))
    t = attention.double()
    for _ in range(3):
        t = t / t.sum(dim=0)
        t = t / t.sum(dim=1, keepdim=True)
    t = (t + t.T) / 2
    expected = maps.double() @ (t @ t)
    torch.testing.assert_close(balanced(attention).spread(maps).double(), expected, rtol=3e-6, atol=0)


def test_order_is_columns_rows_mean():
    attention = torch.tensor([[1.0, 3.0], [1.0, 1.0]])
    # Columns: 1/2 3/4 / 1/2 1/4; rows: 2/5 3/5 / 2/3 1/3; then the mean of 3/5 and 2/3.
    result = balanced(attention, rounds=1).spread(torch.eye(2), times=1)
    torch.testing.assert_close(result, torch.tensor([[0.4, 19 / 30], [19 / 30, 1 / 3]]))


def test_patch_without_attention_has_no_affinity():
    attention = random_attention(5)
    attention[:, 2] = 0
    attention[2] = 0
    others = [0, 1, 3, 4]
    result = balanced(attention).spread(torch.eye(5), times=2)
    assert not result[2].any()
    assert not result[:, 2].any()
    smaller = balanced(attention[others][:, others]).spread(torch.eye(4), times=2)
    torch.testing.assert_close(result[others][:, others], smaller)


@pytest.mark.parametrize("fill", [0.0, 1e-38, 1e-30])
def test_tiny_attention_gives_finite_maps(fill):
    result = balanced(torch.full((3, 3), fill)).spread(torch.ones(1, 3))
    assert result.isfinite().all()


def test_inputs_are_not_modified():
    attention = random_attention(6)
    before, maps = attention.clone(), torch.rand(2, 6)
    maps_before = maps.clone()
    balanced(attention).spread(maps)
    assert torch.equal(attention, before)
    assert torch.equal(maps, maps_before)


def test_strided_view_equals_a_copy():
    whole = random_attention(7)
    maps = torch.rand(2, 6)
    torch.testing.assert_close(
        balanced(whole[1:, 1:]).spread(maps), balanced(whole[1:, 1:].contiguous()).spread(maps)
    )


def test_invalid_arguments_are_refused():
    affinity = balanced(random_attention(4))
    with pytest.raises(ShapeError, match="maps of 5 patches for an affinity of 4"):
        affinity.spread(torch.rand(1, 5))
    with pytest.raises(InputError, match="-1 times"):
        affinity.spread(torch.rand(1, 4), times=-1)
    with pytest.raises(InputError, match="-1 rounds"):
        balanced(random_attention(4), rounds=-1)
