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
def test_every_rule_gives_a_row_a_token(name: str, grid: tuple[int, int]) -> None:
    table = POSITIONS[name](TABLE, grid)
    assert table.shape == (1 + grid[0] * grid[1], 8)
    torch.testing.assert_close(table[0], TABLE[0], rtol=0, atol=2e-3)  # one rule rounds to float16


@pytest.mark.parametrize("name", POSITIONS)
def test_the_stored_grid_is_left_alone(name: str) -> None:
    assert torch.equal(POSITIONS[name](TABLE, (14, 14)), TABLE)


def test_as_coded_the_count_decides_and_corrected_the_shape() -> None:
    assert torch.equal(bicubic_nudged(TABLE, (7, 28)), TABLE)
    assert not torch.equal(bicubic_nudged_by_shape(TABLE, (7, 28)), TABLE)
    assert torch.equal(bicubic_nudged(TABLE, (21, 28)), bicubic_nudged_by_shape(TABLE, (21, 28)))


def test_the_nudge_is_not_a_resize_to_the_grid() -> None:
    image = TABLE[1:].T.reshape(1, 8, 14, 14)
    sized = F.interpolate(image, size=(21, 28), mode="bicubic", align_corners=False)[0].flatten(1).T
    assert (bicubic_nudged(TABLE, (21, 28))[1:] - sized).abs().max() > 1e-3


def test_a_stretched_table_is_rounded() -> None:
    assert not torch.equal(TABLE, TABLE.half().float())
    stretched = bilinear_half(TABLE, (10, 12))
    assert torch.equal(stretched, stretched.half().float())


def test_the_stored_grid_is_rounded_where_the_rule_says_always() -> None:
    assert torch.equal(bilinear_half_always(TABLE, (14, 14)), TABLE.half().float())
    assert torch.equal(bilinear_half_always(TABLE, (10, 12)), bilinear_half(TABLE, (10, 12)))


# -- Every rule entry by entry -------------------------------------------------------------------------------


def _triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def _cubic(a: float):
    def weight(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0

    return weight


def _taps(i: int, side: int, scale: float, kernel, reach: int) -> dict[int, float]:
    """Interpolation: output i's weight of each source, the outermost standing for what lies beyond."""
    at = (i + 0.5) * scale - 0.5
    taps: dict[int, float] = {}
    for j in range(math.floor(at) - reach + 1, math.floor(at) + reach + 1):
        source = min(max(j, 0), side - 1)
        taps[source] = taps.get(source, 0.0) + kernel(at - j)
    return taps


def _smooth_taps(i: int, side: int, scale: float) -> dict[int, float]:
    """Antialiased: the kernel as wide as an output cell where that is larger; only what is there counts."""
    wide = max(scale, 1.0)
    at = (i + 0.5) * scale
    first, last = max(int(at - 2 * wide + 0.5), 0), min(int(at + 2 * wide + 0.5), side)
    weights = {j: _cubic(-0.5)((j + 0.5 - at) / wide) for j in range(first, last)}
    return {j: weight / sum(weights.values()) for j, weight in weights.items()}


def _stretched(name: str, grid: tuple[int, int]) -> torch.Tensor:
    """The rule's table for a grid other than the stored one, cell by cell: rows are rows."""
    side = 14
    axes = []
    for length in grid:
        if name.startswith("bicubic-nudged"):
            taps = [_taps(i, side, side / (length + 0.1), _cubic(-0.75), 2) for i in range(length)]
        elif name == "bicubic-smooth":
            taps = [_smooth_taps(i, side, side / length) for i in range(length)]
        else:
            taps = [_taps(i, side, side / length, _triangle, 1) for i in range(length)]
        axes.append(taps)
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
def test_rows_of_the_grid_come_from_rows_of_the_table(name: str, grid: tuple[int, int]) -> None:
    found, wanted = POSITIONS[name](TABLE, grid), _stretched(name, grid)
    # Rounding to float16 can turn the last bit of two numbers that are equal but for float32's.
    tolerance = 2e-3 if name.endswith("-half") else 2e-5
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)
