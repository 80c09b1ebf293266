import math
from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.refine.lattice import Lattice


def lattice_filter(features, values):
    """The permutohedral lattice with a dictionary of corners, one point at a time."""
    d = len(features[0])
    k = d + 1
    simplices = []

    def blurred(grid):
        for axis in range(k):
            step = [1 - k * (i == axis) for i in range(k)]
            grid = {
                corner: value
                + 0.5 * grid.get(tuple(np.add(corner, step)), 0.0)
                + 0.5 * grid.get(tuple(np.subtract(corner, step)), 0.0)
                for corner, value in grid.items()
            }
        return grid

    for point in features:
        scaled = [f * math.sqrt(2 / 3) * k / math.sqrt((i + 1) * (i + 2)) for i, f in enumerate(point)]
        position = [sum(scaled[j:]) - (j * scaled[j - 1] if j else 0) for j in range(k)]
        zero = [round(p / k) * k for p in position]
        # Back onto the plane of sum 0: correct the entries with the largest rounding errors, one by one.
        while sum(zero) != 0:
            sign = 1 if sum(zero) > 0 else -1
            worst = max(range(k), key=lambda i: sign * (zero[i] - position[i]))
            zero[worst] -= sign * k
        gaps = sorted(range(k), key=lambda i: position[i] - zero[i])  # smallest first
        gap = [position[i] - zero[i] for i in gaps]
        shares = [1 - (gap[-1] - gap[0]) / k] + [(b - a) / k for a, b in pairwise(gap)]
        corner, simplex = list(zero), []
        for share, axis in zip(shares, gaps, strict=True):
            simplex.append((tuple(corner), share))
            corner = [c + 1 - k * (i == axis) for i, c in enumerate(corner)]
        simplices.append(simplex)

    def filtered(values):
        grid = {corner: 0.0 for simplex in simplices for corner, _ in simplex}
        for simplex, value in zip(simplices, values, strict=True):
            for corner, share in simplex:
                grid[corner] = grid[corner] + share * value
        grid = blurred(grid)
        return [sum(share * grid[corner] for corner, share in simplex) for simplex in simplices]

    norms = [math.sqrt(row) for row in filtered([1.0] * len(features))]
    scaled = [v / norm for v, norm in zip(values, norms, strict=True)]
    return [v / norm for v, norm in zip(filtered(scaled), norms, strict=True)]


@settings(deadline=None, max_examples=15)
@given(d=st.integers(1, 5), n=st.integers(1, 40), spread=st.sampled_from([0.1, 1.0, 6.0]))
def test_lattice_equals_the_naive_version(d, n, spread):
    random = np.random.default_rng(n)
    features = (random.normal(size=(n, d)) * spread).astype(np.float32)
    values = random.random(n).astype(np.float32)
    expected = torch.tensor(lattice_filter(features.tolist(), values.tolist()))
    result = Lattice(features)(torch.tensor(values)[:, None])[:, 0]
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-5)


def test_lattice_approximates_the_gaussian():
    x = np.linspace(0, 12, 300, dtype=np.float32)[:, None]
    kernel = np.exp(-0.5 * (x - x.T) ** 2)
    kernel /= np.sqrt(np.outer(kernel.sum(0), kernel.sum(0)))
    values = (x[:, 0] > 5).astype(np.float32)
    result = Lattice(x)(torch.tensor(values)[:, None])[:, 0]
    torch.testing.assert_close(result, torch.tensor(kernel @ values), rtol=0, atol=0.03)
