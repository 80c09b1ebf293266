"""What holds of every data set, whatever it is read from."""

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import DATASETS, open_dataset
from tagmask.data.sample import chosen
from tagmask.errors import InputError
from tests.data.layouts import BUILD

# The list of the 4172 images is shipped; the small folder has two of them.
SPLITS = {"coco-stuff27": "val"}


def test_every_data_set_has_a_small_folder_here() -> None:
    assert list(BUILD) == list(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_samples_keep_the_protocol_in_this_process_and_another(name: str, tmp_path: Path) -> None:
    BUILD[name](tmp_path)
    dataset = open_dataset(name, tmp_path, SPLITS.get(name))
    assert dataset.name == name
    assert dataset.classes or dataset.tag_classes
    few = list(islice(dataset.samples, 10))
    assert len({sample.id for sample in few}) == len(few) > 0
    for sample in few[:3]:
        sent = pickle.loads(pickle.dumps(sample))
        image = sent.read_image()
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        np.testing.assert_array_equal(image, sample.read_image())
        if dataset.classes:
            labels = sent.read_mask()
            assert labels.shape == image.shape[:2]
            assert set(np.unique(labels)) <= {*range(len(dataset.classes)), dataset.ignore}
        if dataset.tag_classes:
            assert sample.tags == tuple(sorted(set(sample.tags)))
            assert set(sample.tags) | set(sample.unsure) <= set(range(len(dataset.tag_classes)))
        assert sample.path is None or sample.path.is_file()
        assert sample.mask_path is None or sample.mask_path.is_file()


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"miniature"}))
def test_an_empty_or_absent_folder_is_refused_and_named(name: str, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=str(root)):
            open_dataset(name, root)


def test_unknown_names_and_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'voc2021' is unknown; did you mean voc2012 or voc21"):
        open_dataset("voc2021", tmp_path)
    with pytest.raises(InputError, match="split of ade20k 'test' is unknown; give one of val, train"):
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
    from tagmask.bench.miniature.truth import objects_only
    from tagmask.miniature.trials import unseen_scene

    samples = open_dataset("miniature", Path(), "long").samples
    assert len(samples) == 5000
    scene = unseen_scene(4999)
    np.testing.assert_array_equal(samples[4999].read_image(), scene.image)
    reader = samples[-1].read_mask
    assert reader is not None
    np.testing.assert_array_equal(reader(), objects_only(scene.labels))
    assert [sample.id for sample in samples[7:9]] == ["000007", "000008"]
