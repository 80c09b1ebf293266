"""The benchmarks of the review page: the policy that plays a person, the large run, the pictures' palette."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.review_pictures import with_palette
from benchmarks.review_policy import Change, best_change, connected_regions, mean_iou
from benchmarks.review_server import truth
from benchmarks.review_speed import FILTERS, gallery
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as PILImage

from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES


def applied(change: Change, mask: np.ndarray, superpixels: np.ndarray, brush: float) -> np.ndarray:
    """The mask after a change, as the page makes it."""
    x, y = change.point
    if change.tool == "b":
        rows, columns = np.indices(mask.shape)
        return np.where((rows - y) ** 2 + (columns - x) ** 2 <= (brush / 2) ** 2, change.label, mask)
    ids = {"s": superpixels, "f": connected_regions(mask), "x": mask}[change.tool]
    return np.where(ids == ids[y, x], change.label, mask)


def test_mean_iou_counts_every_class_that_is_in_either() -> None:
    mask, true = np.array([[0, 0], [2, 1]], np.uint8), np.array([[0, 0], [0, 1]], np.uint8)
    assert mean_iou(mask, true) == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert mean_iou(true, true) == 1


def test_regions_touch_with_their_edges() -> None:
    mask = np.array([[1, 1, 0], [0, 0, 1], [1, 0, 1]], np.uint8)
    ids = connected_regions(mask)
    assert len(np.unique(ids)) == ids.max() + 1 == 5
    assert ids[0, 0] == ids[0, 1] != ids[1, 2] == ids[2, 2]


@settings(deadline=None, max_examples=60)
@given(
    mask=arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 3)),
    true=arrays.arrays(np.uint8, (5, 6), elements=st.integers(0, 3)),
    superpixels=arrays.arrays(np.int64, (5, 6), elements=st.integers(0, 4)),
    tool=st.sampled_from("bsfxv"),
    label=st.integers(0, 3),
)
def test_no_region_gains_more_than_the_change_that_is_chosen(
    mask: np.ndarray, true: np.ndarray, superpixels: np.ndarray, tool: str, label: int
) -> None:
    change = best_change(mask, true, superpixels, tool=tool, label=label, brush=2.0)
    before, most = mean_iou(mask, true), 0.0
    for key, ids in (("s", superpixels), ("f", connected_regions(mask)), ("x", mask)):
        for region in np.unique(ids):
            wanted = int(np.bincount(true[ids == region]).argmax())
            after = np.where(ids == region, wanted, mask).astype(np.uint8)
            actions = 1 + (key != tool) + (wanted != label)
            most = max(most, (mean_iou(after, true) - before) / actions)
    assert (change.gain if change else 0.0) >= most - 1e-9
    if change:
        actions = 1 + (change.tool != tool) + (change.label != label)
        after = applied(change, mask, superpixels, 2.0).astype(np.uint8)
        assert (mean_iou(after, true) - before) / actions == pytest.approx(change.gain)


def test_the_policy_corrects_a_scene() -> None:
    """A blob of a wrong class goes with one fill, an edge with dabs of the brush."""
    true = np.zeros((60, 80), np.uint8)
    true[10:50, 10:40] = 1
    mask = true.copy()
    mask[5:15, 60:75] = 2
    mask[:, 10:20] = 0
    superpixels = np.zeros((60, 80), np.int64)
    first = best_change(mask, true, superpixels, tool="v", label=1, brush=12)
    assert first is not None
    assert (first.label, first.tool) in ((0, "f"), (0, "x"))
    assert mask[first.point[1], first.point[0]] == 2
    mask = applied(first, mask, superpixels, 12).astype(np.uint8)
    tools = ""
    while mean_iou(mask, true) < 0.95 and len(tools) < 20:
        change = best_change(mask, true, superpixels, tool="b", label=1, brush=12)
        assert change is not None
        tools += change.tool
        mask = applied(change, mask, superpixels, 12).astype(np.uint8)
    assert set(tools) == {"b"}
    assert mean_iou(mask, true) >= 0.95
    assert best_change(true, true, superpixels, tool="b", label=1, brush=12) is None


def test_the_truth_has_the_labels_of_a_run() -> None:
    scene = unseen_scene(207)
    labels = truth(scene, ["boat", "umbrella"])
    for label, word in enumerate(("boat", "umbrella"), start=1):
        assert np.array_equal(labels == label, scene.labels == CLASS_NAMES.index(word))
    assert set(np.unique(labels)) == {0, 1, 2}


def test_a_palette_keeps_the_colours_of_areas() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    own = [(255, 105, 30), (135, 135, 0), (210, 60, 120), (254, 254, 254)]
    for i, colour in enumerate(own):
        pixels[10:24, 10 + 30 * i : 24 + 30 * i] = colour
    small = with_palette(PILImage.fromarray(pixels))
    assert small.mode == "P"
    shown = np.asarray(small.convert("RGB")).astype(int)
    for i, colour in enumerate(own):
        assert (shown[10:24, 10 + 30 * i : 24 + 30 * i] == colour).all()
    assert np.abs(shown - pixels).mean() < 25


def test_the_gallery_of_made_up_rows(tmp_path: Path) -> None:
    lines = list(gallery(tmp_path, small=True))
    assert lines[0].startswith("2,000 images, 60 a page")
    found = {cells[1].strip(): cells[2].strip() for line in lines[4:] if (cells := line.split("|"))}
    assert list(found) == list(FILTERS)
    assert (found["first page"], found["failed"]) == ("2,000", "117")
    assert all(int(found[name].replace(",", "")) > 0 for name in ("a word", "accepted", "corrected"))
