"""Data sets by name and split; properties of all are tested in `tests/contracts/test_datasets.py`."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.errors import InputError


def test_unknown_names_and_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown data set 'voc2021'\. Did you mean voc2012 or voc21"):
        open_dataset("voc2021", tmp_path)
    with pytest.raises(InputError, match=r"Unknown split of ade20k 'test'. Give one of val, train"):
        open_dataset("ade20k", tmp_path, "test")


def test_miniature_samples_are_the_drawn_scenes() -> None:
    from tagmask.bench.miniature.ground_truth import objects_only
    from tagmask.miniature.evaluation_scenes import unseen_scene

    samples = open_dataset("miniature", Path(), "long").samples
    assert len(samples) == 5000
    scene = unseen_scene(4999)
    np.testing.assert_array_equal(samples[4999].read_image(), scene.image)
    reader = samples[-1].read_mask
    assert reader is not None
    np.testing.assert_array_equal(reader(), objects_only(scene.labels))
    assert [sample.id for sample in samples[7:9]] == ["000007", "000008"]
