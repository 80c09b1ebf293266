import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tagmask.errors import InputError, ShapeError
from tagmask.refine import tlp as module
from tagmask.refine.tlp import TlpSettings, check_tlp, mean_of_rows, pooling_steps, propagate, tlp
from tests.oracles import tlp as oracle


def scene(names: int, h: int, w: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = 0.3 * torch.randn(names, h, w, generator=generator)
    guide = torch.randn(3, h, w, generator=generator)
    guide[:, : h // 2, : w // 2] = 0.5  # a flat region
    return maps, guide, torch.randn(names, 6, generator=generator)


def expected(inputs: list[Tensor], steps: int, **options: object) -> Tensor:
    return torch.from_numpy(oracle.propagate(*(each.numpy() for each in inputs), steps, **options))


@settings(deadline=None, max_examples=20)
@given(
    names=st.integers(1, 4),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    steps=st.integers(0, 25),
    scale=st.sampled_from([1.0, 8.0, 40.0]),
    text=st.sampled_from(["diagonal", "full"]),
)
def test_equals_the_formula(names: int, size: tuple[int, int], steps: int, scale: float, text: str) -> None:
    # In float64: in float32, rounding shows on small grids, where the steps come close to the solution.
    inputs = [each.double() for each in scene(names, *size)]
    refined = propagate(*inputs, steps=steps, scale=scale, text=text)
    torch.testing.assert_close(refined, expected(inputs, steps, scale=scale, text=text), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("scale", "text"), [(1.0, "full"), (40.0, "diagonal")])
def test_scale_and_text_decide(scale: float, text: str) -> None:
    inputs = scene(3, 7, 7)
    assert (propagate(*inputs, scale=scale, text=text) - propagate(*inputs)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("size", "grid", "steps"),
    [
        ((375, 500), 80, (5, 6)),
        ((120, 200), 80, (2, 2)),  # 1.5 and 2.5: both to even
        ((119, 280), 80, (1, 4)),  # 3.5 to 4
        ((1, 5000), 80, (1, 62)),
        ((1024, 2048), 224, (5, 9)),
        ((40, 120), 1, (40, 120)),
    ],
)
def test_cells_are_rounded_half_to_even(size: tuple[int, int], grid: int, steps: tuple[int, int]) -> None:
    assert pooling_steps(size, grid) == steps


def test_whole_cells_are_averaged_and_the_rest_is_stretched() -> None:
    maps, guide, texts = scene(3, 17, 23)
    arrays = [oracle.pooled(each.double().numpy(), 6) for each in (maps, guide)]  # cells of 3 x 4
    cells = torch.from_numpy(oracle.propagate(*arrays, texts.double().numpy(), 5)).float()
    assert cells.shape == (3, 5, 5)
    stretched = F.interpolate(cells[None], (17, 23), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(tlp(maps, guide, texts, grid=6, steps=5), stretched, rtol=0, atol=5e-6)


def test_pooling_the_matrix_of_a_resize_pools_its_result() -> None:
    matrix = torch.randn(17, 6)
    pooled = mean_of_rows(matrix, 5) @ torch.eye(6)
    torch.testing.assert_close(pooled, F.avg_pool1d(matrix.T[None], 5)[0].T)


def test_small_images_are_not_pooled() -> None:
    inputs = scene(2, 11, 9)
    torch.testing.assert_close(tlp(*inputs, grid=80), propagate(*inputs), rtol=0, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("names", [1, 3])
def test_narrow_and_flat_images_have_finite_results(size: tuple[int, int], names: int) -> None:
    maps, guide, texts = scene(names, *size)
    for colours in (guide, torch.zeros_like(guide)):
        assert tlp(maps, colours, texts, grid=3).isfinite().all()
    flat = torch.full_like(maps, 0.25)
    torch.testing.assert_close(tlp(flat, guide, torch.zeros_like(texts)), flat)


def test_scores_follow_the_edges_of_the_image() -> None:
    guide = torch.zeros(3, 20, 20)
    guide[:, :, 10:] = 5
    maps = torch.zeros(2, 20, 20)
    maps[0, 8, 3] = 1  # a little evidence on each side of the edge
    maps[1, 12, 16] = 1
    refined = tlp(maps, guide, torch.eye(2), steps=200)
    winner = refined.argmax(dim=0)
    assert (winner[:, :10] == 0).all()
    assert (winner[:, 10:] == 1).all()


def test_more_steps_are_another_result() -> None:
    inputs = scene(4, 30, 30)
    assert (propagate(*inputs, steps=25) - propagate(*inputs, steps=5)).abs().max() > 1e-3


def test_sizes_must_agree() -> None:
    with pytest.raises(ShapeError, match=r"Got maps of \(4, 5\) and a guide of \(4, 6\)"):
        inspect.unwrap(tlp)(torch.zeros(1, 4, 5), torch.zeros(3, 4, 6), torch.ones(1, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tlp_steps": -1}, "tlp_steps is -1. Give a whole number, 0 or more"),
        ({"tlp_grid": 0}, "tlp_grid is 0. Give a whole number, 1 or more"),
        ({"tlp_scale": -1.0}, "tlp_scale is -1.0. Give a number, 0 or more"),
        ({"tlp_text": "none"}, "tlp_text"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_tlp(TlpSettings(**wrong))


def test_half_precision_maps_are_refined_in_float32() -> None:
    maps, guide, texts = scene(2, 12, 12)
    refined = tlp(maps.half(), guide, texts.half())
    assert refined.dtype == torch.float32
    np.testing.assert_allclose(refined, tlp(maps, guide, texts), rtol=0, atol=2e-3)


@pytest.mark.parametrize("text", ["diagonal", "full"])
def test_blocks_of_names_do_not_change_the_result(text, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    cells, colours = (torch.rand(n, 12, 15, generator=generator) for n in (11, 3))
    names = torch.randn(11, 8, generator=generator)
    whole = propagate(cells, colours, names, steps=8, scale=3.0, text=text)
    monkeypatch.setattr(module, "_CACHED", 1)
    monkeypatch.setattr(module, "_LEAST_NAMES", 3)
    # Only the sums over all names are rounded differently.
    torch.testing.assert_close(
        propagate(cells, colours, names, steps=8, scale=3.0, text=text), whole, rtol=0, atol=1e-5
    )
