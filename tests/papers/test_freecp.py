"""FreeCP's steps against their formulas, written plainly."""

import numpy as np
import pytest
import torch
from torch import Tensor

from tagmask.dense.boxes import component_boxes_union, contour_boxes
from tagmask.dense.prompts import split_names
from tagmask.papers import freecp
from tests.oracles.components import FOUR, regions

SIDE = 9


def maps(seed: int, k: int = 4) -> Tensor:
    """Smooth random maps, 0..1."""
    noise = torch.rand(k, 1, SIDE + 2, SIDE + 2, generator=torch.manual_seed(seed))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1)[:, 0]
    return (smooth - smooth.min()) / (smooth.max() - smooth.min())


def attention(seed: int) -> Tensor:
    logits = torch.randn(SIDE * SIDE, SIDE * SIDE, generator=torch.manual_seed(seed))
    return torch.softmax(logits, dim=1) * 0.9


def plain_propagation(a: Tensor) -> Tensor:
    t = a.double()
    for _ in range(3):
        t = t / t.sum(dim=0, keepdim=True)
        t = t / t.sum(dim=1, keepdim=True)
    t = (t + t.T) / 2
    return t @ t


def plain_boxes(scores: Tensor, threshold: float) -> list[tuple[int, int, int, int]]:
    """Boxes of all contours by flood fill: of regions, and of holes with the cells around them."""
    level = np.trunc(255 * scores.numpy())
    strong = level > int(threshold * level.max())
    found = []
    for region in regions(strong):
        ys, xs = zip(*region, strict=True)
        found.append((min(xs), min(ys), max(xs) + 1, max(ys) + 1))
    for region in regions(~strong, FOUR):
        ys, xs = zip(*region, strict=True)
        if min(ys) > 0 and min(xs) > 0 and max(ys) < SIDE - 1 and max(xs) < SIDE - 1:
            found.append((min(xs) - 1, min(ys) - 1, max(xs) + 2, max(ys) + 2))
    return sorted((x0, y0, min(x1, SIDE - 1), min(y1, SIDE - 1)) for x0, y0, x1, y1 in found)


def test_propagated_maps() -> None:
    a, m = attention(0), maps(1)
    mask = freecp.box_mask(m)
    spread = (m * mask).flatten(1).double() @ plain_propagation(a).T
    least, most = spread.amin(1, keepdim=True), spread.amax(1, keepdim=True)
    expected = ((spread - least) / (most - least)).view_as(m)
    found = freecp.refine(freecp.propagation(a), m, mask)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    assert 0 < float(mask.float().mean()) < 1


def test_redundancy_is_half_where_both_maps_agree() -> None:
    p = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    r = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(freecp.redundancy(p, r), torch.tensor([0.5, 0.25, 0.0]))
    assert freecp.relative_score(0.25) == pytest.approx(1 / 3)


def test_a_class_takes_its_best_name_and_background_texts_compete() -> None:
    cosines = maps(2, 5) / 50
    names = split_names(["sky, wall", "cat", "dog, puppy"])
    found, first = freecp.probabilities(cosines, names, 100.0, background=True)
    softmax = torch.softmax(100 * cosines, dim=0)
    assert first == 2
    expected = torch.cat([softmax[:3], softmax[3:].amax(dim=0, keepdim=True)])
    torch.testing.assert_close(found, expected)
    without, none = freecp.probabilities(cosines[:3], split_names(["a", "b", "c"]), 100.0, background=False)
    assert none == 0
    torch.testing.assert_close(without, torch.softmax(100 * cosines[:3], dim=0))


@pytest.mark.parametrize("cosines", [torch.full((3, 4, 5), 0.2), torch.full((3, 4, 5), torch.nan)])
def test_flat_windows_have_no_map_and_no_nan(cosines: Tensor) -> None:
    affinity = freecp.propagation(torch.full((20, 20), 0.04))
    for texts in (["a", "b", "c"], ["sky", "a", "b"]):
        background = texts[0] == "sky"
        found = freecp.refine_window(cosines, affinity, split_names(texts), 100.0, background=background)
        assert not found.maps.any()
        assert not found.scores.any()
    one = freecp.refine_window(cosines[:1], affinity, split_names(["a"]), 100.0, background=False)
    assert one.scores.tolist() == [0.0]


def test_boxes_of_contours_and_holes() -> None:
    holes = 0
    for seed in range(60):
        scores = maps(seed, 1)[0] ** 2
        threshold = 0.1 + seed % 5 / 10
        found = contour_boxes(scores, threshold)
        assert sorted(found) == plain_boxes(scores, threshold)
        union, count = component_boxes_union(scores[None], torch.tensor([threshold], dtype=torch.float64))
        holes += len(found) - int(count)
        covered = torch.zeros_like(union[0])
        for x0, y0, x1, y1 in found:
            covered[y0:y1, x0:x1] = True
        assert torch.equal(covered, union[0])
    assert holes > 5


def test_groups_are_transitive() -> None:
    rows = torch.tensor([[1.0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 1, 1, 1, 1], [9, 0, 0, 0, 0, 9]])
    m = rows[:, None]
    assert freecp.overlap(m)[0].tolist() == pytest.approx([1, 0.6, 2 / 6, 1 / 21])
    assert freecp.ambiguity(m, 0.6) == [(0, 1, 2), (3,)]  # at least as much is enough
    assert freecp.ambiguity(m, 0.61) == [(0,), (1,), (2,), (3,)]
    assert freecp.ambiguity(m[:0], 0.6) == []


def test_winners_of_crops() -> None:
    cosines = torch.tensor([[0.1, 0.3, 0.2], [0.4, 0.0, 0.1], [0.2, 0.9, 0.3]])
    assert freecp.choose(cosines) == (0, 1)
    assert freecp.choose(cosines[:0]) == (0, 1, 2)  # no box: all stay


def test_crops_are_resized_boxes() -> None:
    window = torch.rand(3, 64, 96, generator=torch.manual_seed(0))
    crops = freecp.crops_of(window, [(0, 0, 6, 4), (2, 1, 5, 2)], 16)
    assert crops is not None
    expected = torch.nn.functional.interpolate(window[None, :, 16:32, 32:80], (112, 112), mode="bilinear")
    torch.testing.assert_close(crops[1:], expected)
    assert crops.shape == (2, 3, 112, 112)
    assert freecp.crops_of(window, [(0, 0, 6, 4), (3, 3, 3, 4)], 16) is None
