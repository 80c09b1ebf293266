import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tagmask.errors import InputError, ShapeError
from tagmask.refine import pamr as module
from tagmask.refine.pamr import halo, pamr
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


@pytest.mark.parametrize(("steps", "dilations"), [(1, (3,)), (3, (1, 4)), (4, (2, 3))])
def test_strips_with_a_halo_equal_the_whole(steps, dilations):
    maps, guide = scene(2, 60, 11)
    options = {"steps": steps, "dilations": dilations}
    whole, margin = pamr(maps, guide, **options), halo(steps, dilations)
    largest_error = 0.0
    for top in range(0, 60, 15):
        for missing in (0, 1):
            first, last = max(top - margin + missing, 0), min(top + 15 + margin - missing, 60)
            strip = pamr(maps[:, first:last], guide[:, first:last], **options)[
                :, top - first : top - first + 15
            ]
            error = (strip - whole[:, top : top + 15]).abs().max().item()
            if missing:
                largest_error = max(largest_error, error)
            else:
                assert error <= 1e-6
    assert largest_error > 1e-5, "a smaller halo would suffice"


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


@pytest.mark.parametrize("function", [halo, lambda steps, d: pamr(*scene(1, 4, 4), steps=steps, dilations=d)])
@pytest.mark.parametrize(("steps", "dilations"), [(-1, (8,)), (3, ()), (3, (0, 2))])
def test_invalid_settings_are_refused(function, steps, dilations):
    with pytest.raises(InputError, match="Got"):
        function(steps, dilations)
