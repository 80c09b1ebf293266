"""Heatmaps: colours, size and escaping of names."""

import numpy as np
import pytest

from tagmask.errors import ShapeError
from tagmask.report.heatmap import heatmap_strip
from tests.report.pages import decoded

IMAGE = np.full((60, 90, 3), 200, np.uint8)


def test_high_scores_are_warm() -> None:
    scores = np.zeros((60, 90), np.float32)
    scores[:, :45] = 1
    (heatmap,) = decoded(heatmap_strip(IMAGE, [("car", scores)]))
    assert heatmap.shape == (60, 90, 3)
    assert (heatmap[:, :40, 0] > heatmap[:, :40, 2] + 60).all()
    assert (heatmap[:, 50:, 2] > heatmap[:, 50:, 0] + 30).all()


def test_large_images_are_reduced_and_names_escaped() -> None:
    large = np.zeros((700, 1000, 3), np.uint8)
    html = heatmap_strip(large, [("<car>", np.zeros((700, 1000), np.float32)), ("b", np.ones((700, 1000)))])
    assert max(decoded(html)[0].shape) <= 160
    assert "&lt;car&gt;" in html
    assert "<car>" not in html
    assert heatmap_strip(large, []) == ""


def test_map_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"map of car has size \(3, 4\)"):
        heatmap_strip(IMAGE, [("car", np.zeros((3, 4), np.float32))])
