import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError, ShapeError
from tagmask.refine import pamr as module
from tagmask.refine.pamr import held_numbers, pamr, pamr_strips
from tests.oracles import pamr as oracle


def scene(q, h, w, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(q, h, w, generator=generator, dtype=dtype) * 2 - 1
    guide = torch.randn(3, h, w, generator=generator, dtype=dtype)
    guide[:, h // 2 :, w // 2 :] = 0.25  # a flat region: standard deviation 0
    return maps, guide


def expected(maps, guide, steps, dilations):
    return torch.tensor(oracle.pamr(maps.tolist(), guide.tolist(), steps, dilations), dtype=maps.dtype)


@settings(deadline=None, max_examples=15)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    steps=st.integers(1, 3),
    dilations=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
)
def test_equals_the_formula(size, steps, dilations):
    maps, guide = scene(2, *size)
    refined = pamr(maps, guide, steps=steps, dilations=dilations)
    torch.testing.assert_close(refined, expected(maps, guide, steps, dilations), rtol=0, atol=2e-6)


def test_default_dilations_exceed_a_small_image():
    maps, guide = scene(1, 12, 20, dtype=torch.float64)
    torch.testing.assert_close(
        pamr(maps, guide, steps=2), expected(maps, guide, 2, (8, 16)), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_chunk_size_does_not_change_the_result(monkeypatch, channels):
    maps, guide = scene(7, 20, 15)
    reference = pamr(maps, guide, steps=3, dilations=(2, 3))
    monkeypatch.setattr(module, "_CHANNELS", channels)
    monkeypatch.setattr(module, "_STRIP", 40)
    torch.testing.assert_close(pamr(maps, guide, steps=3, dilations=(2, 3)), reference, rtol=0, atol=1e-6)


def in_strips(maps, guide, **options):
    shape = tuple(maps.shape)
    strips = list(pamr_strips(lambda a, b: maps[:, a:b], lambda a, b: guide[:, a:b], shape, **options))
    assert [top for top, _, _ in strips] == [0, *(bottom for _, bottom, _ in strips[:-1])]
    assert strips[-1][1] == shape[1]
    return torch.cat([strip for _, _, strip in strips], dim=1)


@pytest.mark.parametrize("height", [1, 7, 16, 17, 32, 33, 60, 100])
@pytest.mark.parametrize(("steps", "dilations"), [(1, (3,)), (3, (1, 4)), (10, (8, 16)), (4, (20,))])
def test_strips_equal_the_whole(height, steps, dilations):
    maps, guide = scene(2, height, 11)
    whole = pamr(maps, guide, steps=steps, dilations=dilations)
    strips = in_strips(maps, guide, steps=steps, dilations=dilations)
    # The same sums in the same order; only the weights' rounding may depend on the size of a strip.
    torch.testing.assert_close(strips, whole, rtol=0, atol=1e-6)


def test_strips_equal_the_whole_at_full_size():
    maps, guide = scene(35, 375, 500)  # more maps than are refined at a time
    torch.testing.assert_close(in_strips(maps, guide), pamr(maps, guide), rtol=0, atol=1e-6)


def test_strips_read_their_input_once_and_hold_three_per_step(monkeypatch):
    maps, guide = scene(3, 400, 20)
    read, rings = [], []

    class Ring(module._Ring):
        def __init__(self, *given):
            super().__init__(*given)
            rings.append(self)

    def rows(top, bottom):
        read.append((top, bottom))
        return maps[:, top:bottom]

    monkeypatch.setattr(module, "_Ring", Ring)
    strips = pamr_strips(rows, lambda a, b: guide[:, a:b], (3, 400, 20), steps=4)
    next(strips)
    assert read == [(top, top + 16) for top in range(0, 80, 16)]  # the first strip needs one more per step
    assert len(list(strips)) == 400 / 16 - 1
    assert read == [(top, top + 16) for top in range(0, 400, 16)]
    held = sum(table.numel() for ring in rings for table in ring.tables)
    assert held == 3 * held_numbers(20, 4, (8, 16)) == 3 * 4 * 3 * 16 * 20


def test_scores_do_not_cross_edges_of_the_guide():
    guide = torch.zeros(3, 24, 24)
    guide[:, :, 12:] = 5
    maps = torch.zeros(1, 24, 24)
    maps[:, :, 12:] = 1
    refined = pamr(maps, guide, steps=5, dilations=(1, 2))
    torch.testing.assert_close(refined, maps, rtol=0, atol=0.02)


def test_range_is_kept():
    maps, guide = scene(2, 30, 30)
    refined = pamr(maps, guide)
    assert maps.min() <= refined.min() < refined.max() <= maps.max()
    assert refined.std() < maps.std()


def test_zero_steps_return_the_maps():
    maps, guide = scene(2, 4, 5)
    assert pamr(maps, guide, steps=0) is maps


def test_half_precision_maps_are_computed_in_float32():
    maps, guide = scene(2, 10, 12)
    refined = pamr(maps.half(), guide, steps=4, dilations=(1, 2))
    reference = pamr(maps.half().float(), guide, steps=4, dilations=(1, 2))
    assert refined.dtype == torch.float16
    torch.testing.assert_close(refined, reference.half(), rtol=0, atol=0)


def test_sizes_must_agree():
    maps, _ = scene(2, 4, 5)
    # Unwrapped: in tests, jaxtyping would raise before the error that users see.
    with pytest.raises(ShapeError, match=r"maps of \(4, 5\) and a guide of \(5, 4\)"):
        inspect.unwrap(pamr)(maps, torch.zeros(3, 5, 4))


@pytest.mark.parametrize("function", [pamr, in_strips])
@pytest.mark.parametrize(("steps", "dilations"), [(-1, (8,)), (3, ()), (3, (0, 2))])
def test_invalid_settings_are_refused(function, steps, dilations):
    with pytest.raises(InputError, match="Got"):
        function(*scene(1, 4, 4), steps=steps, dilations=dilations)


def test_strips_need_a_step():
    with pytest.raises(InputError, match="Got 0 steps"):
        in_strips(*scene(1, 4, 4), steps=0)
