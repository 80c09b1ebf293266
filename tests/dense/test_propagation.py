"""TLP of cosine maps equals TLP of the full-size maps, which are never formed."""

import numpy as np
import pytest
import torch

from tagmask.dense.cosine_maps import CosineMaps, stitch
from tagmask.dense.labels import label_pixels
from tagmask.dense.prompts import split_names
from tagmask.dense.propagation import propagate_maps
from tagmask.dense.sliding import SlidingSettings
from tagmask.dense.windows import plan_windows, resize_matrix, stitch_matrices
from tagmask.refine.tlp import tlp

NAMES = 5


def windowed(size: tuple[int, int], *, nan_window: bool = False) -> CosineMaps:
    """Random cosines of overlapping windows of 4 x 4 cells on an image of 96 x 80."""
    generator = torch.Generator().manual_seed(1)
    plan = plan_windows((96, 80), 64, 32)
    maps = 0.3 * torch.randn(len(plan), NAMES, 4, 4, generator=generator)
    if nan_window:
        maps[0] = torch.nan
    down, across = stitch_matrices(plan, (4, 4), (96, 80), size)
    return stitch(maps, plan, down, across, torch.randn(3, 96, 80, generator=generator))


def texts() -> torch.Tensor:
    return torch.randn(NAMES, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", [(150, 131), (40, 30), (9, 200), (1, 1)])
def test_equals_the_propagation_of_full_size_maps(size: tuple[int, int]) -> None:
    maps = windowed(size)
    guide = resize_matrix(96, size[0]) @ maps.pixels @ resize_matrix(80, size[1]).T
    # Few steps: the more there are, the more rounding differs.
    expected = tlp(maps.rows(0, size[0]), guide, texts(), grid=20, steps=8, scale=3.0, text="full")
    settings = SlidingSettings(tlp_steps=8, tlp_grid=20, tlp_scale=3.0, tlp_text="full")
    refined = propagate_maps(maps, texts(), settings)
    assert refined.size == size
    torch.testing.assert_close(refined.rows(0, size[0]), expected, rtol=0, atol=2e-5)


def test_memory_does_not_grow_with_the_image() -> None:
    small, large = (
        propagate_maps(windowed(size), texts(), SlidingSettings(tlp_steps=1))
        for size in ((200, 200), (4000, 200))
    )
    assert small.cosines.shape == (NAMES, 100, 100)
    assert large.cosines.shape == (NAMES, 80, 100)
    strips = [large.rows(top, top + 500) for top in range(0, 4000, 500)]
    torch.testing.assert_close(torch.cat(strips, dim=1), large.rows(0, 4000))


def test_nan_stays_in_its_window() -> None:
    maps = windowed((96, 80), nan_window=True)
    refined = propagate_maps(maps, texts(), SlidingSettings(tlp_steps=25, tlp_grid=24))
    hidden = maps.rows(0, 96).isnan()
    assert 0 < hidden.float().mean() < 1
    assert torch.equal(refined.rows(0, 96).isnan(), hidden)


def test_labels_are_those_of_the_refined_maps() -> None:
    maps, names = windowed((60, 70)), split_names([f"name {i}" for i in range(NAMES)])
    settings = SlidingSettings(tlp_steps=25, tlp_grid=20)
    refined = propagate_maps(maps, texts(), settings)
    labels = label_pixels(refined, names, settings, background=False, ignore_index=255).labels
    np.testing.assert_array_equal(labels, refined.rows(0, 60).max(dim=0).indices)
    plain = label_pixels(maps, names, settings, background=False, ignore_index=255).labels
    assert (plain != labels).any()
