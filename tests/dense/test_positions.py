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
