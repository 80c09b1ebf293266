"""Superpixels: regions of one colour that follow edges."""

import numpy as np
import pytest

from tagmask.regions.superpixels import superpixels


def test_regions_follow_edges() -> None:
    """No region holds pixels of both sides of a strong edge, wherever it lies."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 20, (90, 120, 3), dtype=np.uint8)
    y, x = np.mgrid[:90, :120]
    inside = (y - 40) ** 2 + (x - 57) ** 2 < 25**2
    image[inside] += 200
    regions = superpixels(image, 100)
    shares = np.bincount(regions.ravel(), inside.ravel()) / np.maximum(np.bincount(regions.ravel()), 1)
    assert ((shares == 0) | (shares == 1) | (np.bincount(regions.ravel()) == 0)).all()
    assert 60 < len(np.unique(regions)) < 140


def test_a_flat_image_is_cut_into_equal_squares() -> None:
    regions = superpixels(np.full((60, 80, 3), 9, np.uint8), 48)
    assert set(np.bincount(regions.ravel()).tolist()) == {100}


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 2), (1200, 37)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    regions = superpixels(image)
    assert regions.shape == size
    assert regions.max() < 2**24


def test_large_images_are_assigned_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(2).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    whole = superpixels(image, 50)
    monkeypatch.setattr("tagmask.regions.superpixels._STRIP", 50 * 7)
    assert np.array_equal(superpixels(image, 50), whole)


def test_pixels_join_regions_of_neighbouring_cells() -> None:
    """An edge a quarter into a row of cells: what lies above it belongs to the regions of the row before."""
    image = np.zeros((80, 80, 3), np.uint8)
    image[:25] = 220
    regions = superpixels(image, 16)
    assert not set(np.unique(regions[:25])) & set(np.unique(regions[25:]))
