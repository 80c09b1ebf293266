"""Data sets by name and split; what holds of every one of them is in `tests/contracts/test_datasets.py`."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.sample import chosen
from tagmask.errors import InputError
from tests.data.layouts import BUILD


def test_unknown_names_and_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'voc2021' is unknown; did you mean voc2012 or voc21"):
        open_dataset("voc2021", tmp_path)
    with pytest.raises(InputError, match=r"Unknown split of ade20k 'test'. Give one of val, train"):
        open_dataset("ade20k", tmp_path, "test")


def test_chosen_keeps_the_order_asked_for_and_names_strangers(tmp_path: Path) -> None:
    BUILD["voc21"](tmp_path)
    dataset = open_dataset("voc21", tmp_path)
    some = chosen(dataset, ["2007_000042", "2007_000033"])
    assert [sample.id for sample in some.samples] == ["2007_000042", "2007_000033"]
    with pytest.raises(
        InputError, match=r"1 of 2 ids are not in the list of voc21 \(2 images\), such as 'cat'"
    ):
        chosen(dataset, ["2007_000042", "cat"])


def test_scenes_of_the_miniature_world_are_what_was_drawn() -> None:
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
