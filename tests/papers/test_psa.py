"""PSA: pairs, labels and random walk compared with the definitions written out."""

import numpy as np
import pytest
import torch

from tagmask.errors import ShapeError
from tagmask.papers import psa

GRID = (7, 11)


def cells() -> list[tuple[int, int]]:
    return [(y, x) for y in range(GRID[0]) for x in range(GRID[1])]


def is_pair(first: tuple[int, int], second: tuple[int, int]) -> bool:
    (y, x), (v, u) = first, second
    starts = y < GRID[0] - 4 and 4 <= x < GRID[1] - 4
    return starts and (v, u) > (y, x) and (v - y) ** 2 + (u - x) ** 2 < 25


def test_pairs_are_those_of_the_definition() -> None:
    features = torch.randn(1, 3, *GRID)
    affinities = psa.pair_affinities(features)[0]
    wanted = []
    for offset in psa.OFFSETS:
        for y, x in cells():
            other = (y + offset[0], x + offset[1])
            if is_pair((y, x), other):
                difference = features[0, :, y, x] - features[0, :, other[0], other[1]]
                wanted.append(torch.exp(-difference.abs().mean()))
    assert len(psa.OFFSETS) == 34
    assert torch.allclose(affinities.flatten(), torch.stack(wanted))
    assert len(wanted) == sum(is_pair(a, b) for a in cells() for b in cells())


def test_the_walk_is_the_power_of_the_dense_matrix() -> None:
    features, maps = torch.randn(1, 3, *GRID), torch.rand(2, *GRID)
    affinities = psa.pair_affinities(features)[0]
    dense = np.eye(len(cells()))
    for i, a in enumerate(cells()):
        for j, b in enumerate(cells()):
            if is_pair(a, b):
                difference = features[0, :, a[0], a[1]] - features[0, :, b[0], b[1]]
                dense[i, j] = dense[j, i] = float(torch.exp(-difference.abs().mean()))
    transition = dense**8
    transition = np.linalg.matrix_power(transition / transition.sum(axis=0), 64)
    walked = psa.random_walk(maps, affinities).flatten(1).numpy()
    np.testing.assert_allclose(walked, maps.flatten(1).numpy() @ transition, atol=1e-5)
    assert torch.equal(psa.random_walk(maps, affinities, steps=0), maps)


def test_a_grid_without_pairs_stays_as_it_is() -> None:
    for grid in ((4, 20), (9, 8), (1, 1)):
        affinities = psa.pair_affinities(torch.randn(1, 3, *grid))
        maps = torch.rand(2, *grid)
        assert affinities.shape == (1, 34, 0)
        assert torch.equal(psa.random_walk(maps, affinities[0]), maps)


def test_each_known_pair_has_one_label() -> None:
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, 255], (2, *GRID)).astype(np.uint8))
    pairs = psa.pair_labels(labels)
    known = 0
    for b, (i, offset) in ((b, each) for b in range(2) for each in enumerate(psa.OFFSETS)):
        starts = [cell for cell in cells() if is_pair(cell, (cell[0] + offset[0], cell[1] + offset[1]))]
        for s, (y, x) in enumerate(starts):
            one, two = int(labels[b, y, x]), int(labels[b, y + offset[0], x + offset[1]])
            usable = 255 not in (one, two)
            known += usable
            found = tuple(
                bool(kind[b, i, s]) for kind in (pairs.background, pairs.foreground, pairs.negative)
            )
            assert found == (usable and one == two == 0, usable and one == two != 0, usable and one != two)
    assert known > 50


def test_the_loss_without_pairs_of_a_kind_is_finite() -> None:
    labels = psa.pair_labels(torch.zeros(1, *GRID, dtype=torch.uint8))
    terms = psa.affinity_loss(torch.full((1, 34, labels.background.shape[2]), 0.5), labels)
    assert terms["foreground"] == terms["negative"] == 0
    assert terms["background"].item() == pytest.approx(np.log(2), abs=1e-3)
    assert terms["total"].item() == pytest.approx(np.log(2) / 4, abs=1e-3)


def test_cells_are_labelled_where_both_readings_agree() -> None:
    low, high = torch.zeros(2, 8, 32), torch.zeros(2, 8, 32)
    for cell, (a, b) in enumerate(
        (((0.2, 0.8), (0.1, 0.9)), ((0.8, 0.2), (0.3, 0.7)), ((0.9, 0.1), (0.8, 0.2)))
    ):
        for planes, values in ((low, a), (high, b)):
            planes[:, :, 8 * cell : 8 * cell + 8] = torch.tensor(values)[:, None, None]
    assert psa.affinity_labels(low, high).tolist() == [[1, 255, 0, 255]]
    with pytest.raises(ShapeError, match="multiples of 8"):
        psa.affinity_labels(low[:, :7], high[:, :7])


def test_walked_maps_have_the_image_size_and_a_background() -> None:
    maps = torch.zeros(1, 75, 90)
    maps[0, :40, :45] = 1
    same = psa.pair_affinities(torch.zeros(1, 2, 10, 12))[0]
    walked = psa.walked_maps(maps, same)
    assert walked.shape == (2, 75, 90)
    assert walked[0, 20, 40].item() == pytest.approx(0.39, abs=0.05)
    assert walked[1, 20, 40] < 0.9  # equal features spread the class over connected cells ...
    assert walked[1, 70, 60] > 0.02
    assert walked[1, 0, 0] == 1  # ... which a corner is not
