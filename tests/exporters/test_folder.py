"""Folders that tagmask's own commands read."""

from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.check import check_dataset
from tagmask.errors import InputError
from tagmask.runs.reader import Run
from tagmask.runtime.folders import find_images
from tagmask.weak.seeds import from_masks
from tests.exporters.made_runs import WORDS, masks, write_photos, write_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    return write_run(folder / "run", write_photos(folder / "photos", masks()), masks())


def test_data_check_and_the_reader_find_all(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        out = run.export("folder", tmp_path)
    assert all(result.ok for result in check_dataset("folder", out, read=True))
    dataset = open_dataset("folder", out)
    assert dataset.classes == WORDS
    samples = {sample.id: sample for sample in dataset.samples}
    for name, labels in masks().items():
        np.testing.assert_array_equal(samples[name.rpartition(".")[0]].read_mask(), labels)


def test_training_takes_the_masks(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        out = run.export("folder", tmp_path)
    images = find_images([out / "images"])
    source = from_masks(images, out / "masks", WORDS)
    for image in images:
        np.testing.assert_array_equal(source.make(image), masks()[str(image.name)])


def test_each_split_is_such_a_folder(run_folder: Path, tmp_path: Path) -> None:
    with Run(run_folder) as run:
        out = run.export("folder", tmp_path, splits={"train": 0.5, "val": 0.5})
    datasets = [open_dataset("folder", out / split) for split in ("train", "val")]
    ids = [sample.id for dataset in datasets for sample in dataset.samples]
    assert sorted(ids) == sorted(name.rpartition(".")[0] for name in masks())


def test_another_ignore_index_becomes_the_one_that_is_read(tmp_path: Path) -> None:
    words = ("background", *(f"word {number}" for number in range(1, 255)))
    labels = np.array([[0, 1], [254, 1000]], np.uint16)
    photos = write_photos(tmp_path / "photos", {"a.png": labels})
    run_folder = write_run(tmp_path / "run", photos, {"a.png": labels}, words, ignore=1000)
    with Run(run_folder) as run:
        out = run.export("folder", tmp_path / "out")
    (sample,) = open_dataset("folder", out).samples
    np.testing.assert_array_equal(sample.read_mask(), [[0, 1], [254, 255]])


def test_words_of_several_lines_are_refused(tmp_path: Path) -> None:
    labels = {"a.png": np.ones((2, 2), np.uint8)}
    photos = write_photos(tmp_path / "photos", labels)
    run_folder = write_run(tmp_path / "run", photos, labels, ("background", "a\nb"))
    with Run(run_folder) as run, pytest.raises(InputError, match=r"'a\\nb' cannot stand in classes\.txt"):
        run.export("folder", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
