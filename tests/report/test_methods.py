"""The comparison of mask methods in one picture."""

import numpy as np
import pytest

import tagmask
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.report.contact_sheet import resize_longest
from tagmask.report.methods import method_grid

WORDS = ["apple", "car", "boat"]


def test_each_cell_is_the_overlay_of_its_method() -> None:
    clip = tagmask.load("miniature", device="cpu")
    images = [unseen_scene(35).image[:, 100:300]]  # an apple
    sheet = np.asarray(method_grid(clip, images, WORDS, ["sclip", "maskclip"]))
    # From the bottom: margin, gap, cells.
    height, width = resize_longest(images[0], 280).shape[:2]
    lefts = [20 + i * (width + 10) for i in range(3)]
    for image in images:
        top = sheet.shape[0] - 30 - height
        cells = [sheet[top : top + height, left : left + width] for left in lefts]
        np.testing.assert_array_equal(cells[0], resize_longest(image, 280))
        for cell, method in zip(cells[1:], ("sclip", "maskclip"), strict=True):
            labels = tagmask.Segmenter(clip, WORDS, method=method)(image).labels
            rows, columns = (
                (2 * np.arange(n) + 1) * whole // (2 * n)
                for n, whole in zip((height, width), labels.shape, strict=True)
            )
            labelled = (labels > 0)[np.ix_(rows, columns)]
            tinted = (cell != cells[0]).any(axis=2)
            assert labelled.any()
            assert tinted[labelled].mean() > 0.95
            assert tinted[~labelled].mean() < 0.1  # names and lines extend slightly beyond the region


def test_unknown_methods_are_refused(sclip_model: Clip, shapes: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="clop"):
        method_grid(sclip_model, shapes[:1], WORDS, ["clop"])
