"""The contract of every data set, whatever its format."""

import pickle
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import DATASETS, open_dataset
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import ImageError, InputError
from tests.data.layouts import BUILD

SPLITS = {"coco-stuff27": "val"}
"""The default split is a shipped list of 4172 images, of which the small folder has only two."""
NO_FOLDER = {"miniature"}
FEW = 6
"""Samples to check; a drawn data set has many more of the same kind."""

Open = Callable[[str], tuple[Dataset, list[Sample]]]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Open:
    """A data set on its small folder, and its samples; each is cached."""
    known: dict[str, tuple[Dataset, list[Sample]]] = {}

    def open_once(name: str) -> tuple[Dataset, list[Sample]]:
        if name not in known:
            root = tmp_path_factory.mktemp(name)
            BUILD[name](root)
            dataset = open_dataset(name, root, SPLITS.get(name))
            known[name] = dataset, list(islice(dataset.samples, FEW))
        return known[name]

    return open_once


def test_every_data_set_has_a_small_folder_here() -> None:
    assert list(BUILD) == list(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
class TestDataset:
    def test_it_has_a_name_classes_and_samples(self, opened: Open, name: str) -> None:
        dataset, samples = opened(name)
        assert dataset.name == name
        assert dataset.classes or dataset.tag_classes
        for classes in (dataset.classes, dataset.tag_classes):
            assert len(set(classes)) == len(classes)
        assert dataset.ignore not in range(len(dataset.classes))
        assert samples
        assert len(dataset.samples) >= len(samples)

    def test_ids_are_unique_and_files_exist(self, opened: Open, name: str) -> None:
        samples = opened(name)[1]
        ids = [sample.id for sample in samples]
        assert len(set(ids)) == len(ids)
        assert all(isinstance(each, str) and each for each in ids)
        for sample in samples:
            assert (sample.path is None) == (name in NO_FOLDER)
            assert all(path is None or path.is_file() for path in (sample.path, sample.mask_path))

    def test_images_are_rgb_and_the_same_each_time(self, opened: Open, name: str) -> None:
        for sample in opened(name)[1]:
            image = sample.read_image()
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            np.testing.assert_array_equal(sample.read_image(), image)

    def test_masks_have_the_image_s_size_and_known_values(self, opened: Open, name: str) -> None:
        dataset, samples = opened(name)
        readers = [(sample, sample.read_mask) for sample in samples]
        assert any(reader is not None for _, reader in readers) == bool(dataset.classes)
        values: set[int] = set()
        for sample, reader in readers:
            if reader is not None:
                labels = reader()
                assert labels.shape == sample.read_image().shape[:2]
                assert labels.dtype.kind in "iu"
                values |= {int(value) for value in np.unique(labels)}
        assert values <= {*range(len(dataset.classes)), dataset.ignore}
        assert not dataset.classes or values - {dataset.ignore}, "nothing is labelled"

    def test_tags_are_numbers_of_classes_in_order(self, opened: Open, name: str) -> None:
        dataset, samples = opened(name)
        for sample in samples:
            assert (sample.tags is not None) == bool(dataset.tag_classes)
            assert sample.tags is None or sample.tags == tuple(sorted(set(sample.tags)))
            assert {*(sample.tags or ()), *sample.unsure} <= set(range(len(dataset.tag_classes)))
            assert all(type(tag) is int for tag in (*(sample.tags or ()), *sample.unsure))
        assert not dataset.tag_classes or any(sample.tags for sample in samples)

    def test_samples_can_be_sent_to_another_process(self, opened: Open, name: str) -> None:
        for sample in opened(name)[1]:
            sent = pickle.loads(pickle.dumps(sample))
            assert (sent.id, sent.tags, sent.unsure) == (sample.id, sample.tags, sample.unsure)
            np.testing.assert_array_equal(sent.read_image(), sample.read_image())
            assert (sent.read_mask is None) == (sample.read_mask is None)
            if sample.read_mask is not None:
                np.testing.assert_array_equal(sent.read_mask(), sample.read_mask())


@pytest.mark.parametrize("name", sorted(set(DATASETS) - NO_FOLDER))
class TestFolder:
    def test_empty_or_missing_folder_is_refused(self, name: str, tmp_path: Path) -> None:
        for root in (tmp_path, tmp_path / "absent"):
            with pytest.raises(InputError, match=str(root)):
                open_dataset(name, root)

    def test_deleted_image_fails_on_reading(self, name: str, tmp_path: Path) -> None:
        BUILD[name](tmp_path)
        sample = open_dataset(name, tmp_path, SPLITS.get(name)).samples[0]
        assert sample.path is not None
        sample.path.unlink()
        with pytest.raises(ImageError, match=sample.path.name):
            sample.read_image()
