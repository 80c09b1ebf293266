"""Real photos in the published layouts, if they are available."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.check import check_dataset
from tagmask.data.lists import shipped_tags

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the sample photos")


def test_tags_of_voc_masks_equal_tagclips_list() -> None:
    listed = shipped_tags("voc2012_val", 20)
    samples = open_dataset("voc2012", DATA).samples
    assert len(samples) == 40
    assert {sample.id: sample.tags for sample in samples} == {
        sample.id: listed[sample.id] for sample in samples
    }


def test_voc_with_and_without_background() -> None:
    for with_background, without in zip(
        *(open_dataset(name, DATA).samples for name in ("voc21", "voc20")), strict=True
    ):
        whole, objects = with_background.read_mask(), without.read_mask()
        assert whole.shape == with_background.read_image().shape[:2]
        scored = (whole > 0) & (whole < 255)
        np.testing.assert_array_equal(objects != 255, scored)
        np.testing.assert_array_equal(objects[scored] + 1, whole[scored])


def test_coco_tags_and_masks_equal_tagclips_list() -> None:
    listed = shipped_tags("coco2017_val", 80)
    samples = open_dataset("coco2017", DATA).samples
    assert len(samples) == 20
    for sample in samples:
        assert sample.tags == listed[sample.id]
        labels = sample.read_mask()
        assert labels.shape == sample.read_image().shape[:2]
        # No listed class is hidden, which no other drawing order achieves.
        assert {int(label) - 1 for label in np.unique(labels)} - {-1} == set(sample.tags)


def test_all_files_are_valid() -> None:
    for name in ("voc2012", "voc21", "voc20", "coco2017"):
        results = {result.what: result.ok for result in check_dataset(name, DATA, read=True)}
        assert [what for what, ok in results.items() if not ok] == ["list", "source"]
