"""The experiment about PAMR and the order of methods: its ways of averaging."""

import numpy as np
import torch
from benchmarks.pamr_order import average_regions, refinements

from tagmask.refine.pamr import pamr


def test_regions_have_their_mean() -> None:
    maps = torch.tensor([[[1.0, 3.0], [5.0, 7.0]], [[0.0, 0.0], [4.0, 8.0]]])
    regions = np.array([[0, 0], [7, 0]], np.uint8)
    expected = torch.tensor([[[11 / 3, 11 / 3], [5.0, 11 / 3]], [[8 / 3, 8 / 3], [4.0, 8 / 3]]])
    torch.testing.assert_close(average_regions(maps, regions), expected)


def test_every_refinement_is_what_its_name_says() -> None:
    generator = torch.Generator().manual_seed(0)
    maps, guide = (torch.rand(3, 40, 48, generator=generator) for _ in range(2))
    found = dict(refinements(maps, guide, np.zeros((40, 48), np.uint8), seed=1))
    assert torch.equal(found["no refinement"], maps)
    for rounds, name in ((1, "PAMR, 1 round"), (3, "PAMR, 3 rounds"), (10, "PAMR, 10 rounds")):
        torch.testing.assert_close(found[name], pamr(maps, guide, steps=rounds))
    blur = pamr(maps, torch.ones_like(guide), steps=10)
    torch.testing.assert_close(found["PAMR, 10 rounds, no guide"], blur)
    assert (found["PAMR, 10 rounds, noise in its guide"] - found["PAMR, 10 rounds"]).abs().max() > 1e-3
