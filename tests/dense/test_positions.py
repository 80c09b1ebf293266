import math

import pytest
import torch
from torch.nn import functional as F

from tagmask.dense.positions import (
    POSITIONS,
    bicubic_nudged,
    bicubic_nudged_by_shape,
    bilinear_half,
    bilinear_half_always,
)

TABLE = torch.randn(1 + 14 * 14, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("grid", [(14, 14), (1, 1), (21, 28), (13, 40), (7, 28)])
def test_every_rule_gives_one_row_per_token(name: str, grid: tuple[int, int]) -> None:
    table = POSITIONS[name](TABLE, grid)
    assert table.shape == (1 + grid[0] * grid[1], 8)
    torch.testing.assert_close(table[0], TABLE[0], rtol=0, atol=2e-3)  # one rule rounds to float16


@pytest.mark.parametrize("name", POSITIONS)
def test_stored_grid_is_unchanged(name: str) -> None:
    assert torch.equal(POSITIONS[name](TABLE, (14, 14)), TABLE)


def test_patch_count_decides_as_coded_and_shape_as_corrected() -> None:
    assert torch.equal(bicubic_nudged(TABLE, (7, 28)), TABLE)
    assert not torch.equal(bicubic_nudged_by_shape(TABLE, (7, 28)), TABLE)
    assert torch.equal(bicubic_nudged(TABLE, (21, 28)), bicubic_nudged_by_shape(TABLE, (21, 28)))


def test_nudged_interpolation_is_not_a_resize_to_the_grid() -> None:
    image = TABLE[1:].T.reshape(1, 8, 14, 14)
    sized = F.interpolate(image, size=(21, 28), mode="bicubic", align_corners=False)[0].flatten(1).T
    assert (bicubic_nudged(TABLE, (21, 28))[1:] - sized).abs().max() > 1e-3


def test_interpolated_table_is_rounded() -> None:
    assert not torch.equal(TABLE, TABLE.half().float())
    stretched = bilinear_half(TABLE, (10, 12))
    assert torch.equal(stretched, stretched.half().float())


def test_bilinear_half_always_rounds_the_stored_grid() -> None:
    assert torch.equal(bilinear_half_always(TABLE, (14, 14)), TABLE.half().float())
    assert torch.equal(bilinear_half_always(TABLE, (10, 12)), bilinear_half(TABLE, (10, 12)))


# -- Naive interpolation, entry by entry ---------------------------------------------------------------------


def _triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def _cubic(a: float):
    def weight(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    return weight


def _weights(i: int, side: int, scale: float, kernel, radius: int) -> dict[int, float]:
    """Interpolation weight of each source sample for output i; borders are replicated."""
    position = (i + 0.5) * scale - 0.5
    weights: dict[int, float] = {}
    for j in range(math.floor(position) - radius + 1, math.floor(position) + radius + 1):
        source = min(max(j, 0), side - 1)
        weights[source] = weights.get(source, 0.0) + kernel(position - j)
    return weights


def _antialiased_weights(i: int, side: int, scale: float) -> dict[int, float]:
    """Antialiased: the kernel widens to an output cell when downsampling; samples outside are excluded."""
    width = max(scale, 1.0)
    position = (i + 0.5) * scale
    first, last = max(int(position - 2 * width + 0.5), 0), min(int(position + 2 * width + 0.5), side)
    weights = {j: _cubic(-0.5)((j + 0.5 - position) / width) for j in range(first, last)}
    return {j: weight / sum(weights.values()) for j, weight in weights.items()}


def _interpolated(name: str, grid: tuple[int, int]) -> torch.Tensor:
    """The rule's table for a grid other than the stored one, cell by cell."""
    side = 14
    axes = []
    for length in grid:
        if name.startswith("bicubic-nudged"):
            weights = [_weights(i, side, side / (length + 0.1), _cubic(-0.75), 2) for i in range(length)]
        elif name == "bicubic-smooth":
            weights = [_antialiased_weights(i, side, side / length) for i in range(length)]
        else:
            weights = [_weights(i, side, side / length, _triangle, 1) for i in range(length)]
        axes.append(weights)
    rows = [TABLE[0].double()]
    for down in axes[0]:
        for across in axes[1]:
            cell = torch.zeros(TABLE.shape[1], dtype=torch.float64)
            for i, part in down.items():
                for j, share in across.items():
                    cell += part * share * TABLE[1 + i * side + j].double()
            rows.append(cell)
    table = torch.stack(rows).float()
    return table.half().float() if name.endswith("-half") else table


@pytest.mark.parametrize("name", POSITIONS)
@pytest.mark.parametrize("grid", [(5, 9), (9, 5), (14, 3), (3, 20), (17, 14)])
def test_every_rule_equals_the_formula(name: str, grid: tuple[int, int]) -> None:
    actual, expected = POSITIONS[name](TABLE, grid), _interpolated(name, grid)
    # Numbers that differ in float32's last bit can round to different float16 numbers.
    tolerance = 2e-3 if name.endswith("-half") else 2e-5
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
