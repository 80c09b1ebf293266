"""Converters: the converted masks read like the originals."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagmask.data import converters
from tagmask.data.catalogue import open_dataset
from tagmask.data.converters import CONVERTERS, _scene_tags, jobs_of
from tagmask.data.prepare import convert
from tagmask.errors import ImageError, InputError
from tagmask.masks import read_index_png
from tests.data import layouts


def prepared(name: str, root: Path) -> list[Path]:
    done = list(convert(jobs_of(name, root)))
    assert [(job.made, job.error) for job in done] == [(True, None)] * len(done)
    return [job.target for job in done]


@pytest.mark.parametrize(
    ("name", "build"), [("coco-object", layouts.coco_stuff), ("coco-stuff", layouts.coco_stuff)]
)
def test_converted_masks_equal_the_raw_masks(
    name: str, build: Callable[[Path], None], tmp_path: Path
) -> None:
    build(tmp_path)
    before = [sample.read_mask() for sample in open_dataset(name, tmp_path).samples]
    targets = prepared(name, tmp_path)
    samples = open_dataset(name, tmp_path).samples
    assert [sample.mask_path for sample in samples] == targets
    for sample, labels in zip(samples, before, strict=True):
        np.testing.assert_array_equal(sample.read_mask(), labels)


def test_coarse_masks_are_written_next_to_the_raw_masks(tmp_path: Path) -> None:
    layouts.coco_stuff(tmp_path)
    first, _ = prepared("coco-stuff27", tmp_path)
    assert first.name == "000000000139_coarse27.png"
    np.testing.assert_array_equal(read_index_png(first), layouts.rows(9, 8, 17, 255))
    # Another converter must not read the converted masks as raw masks.
    assert len(jobs_of("coco-object", tmp_path)) == 2


def test_instances_become_81_classes(tmp_path: Path) -> None:
    layouts.coco(tmp_path)
    targets = prepared("coco2017", tmp_path)
    assert targets[0] == tmp_path / "semantic81" / "val2017" / "000000000139.png"
    for target, sample in zip(targets, open_dataset("coco2017", tmp_path).samples, strict=True):
        np.testing.assert_array_equal(read_index_png(target), sample.read_mask())


def test_cityscapes_ids_become_train_ids(tmp_path: Path) -> None:
    layouts.cityscapes(tmp_path)
    before = [sample.read_mask() for sample in open_dataset("cityscapes", tmp_path).samples]
    assert all(
        target.name.endswith("_gtFine_labelTrainIds.png") for target in prepared("cityscapes", tmp_path)
    )
    for sample, labels in zip(open_dataset("cityscapes", tmp_path).samples, before, strict=True):
        np.testing.assert_array_equal(sample.read_mask(), labels)


def test_context_labels_are_mapped_by_name_and_labelled_images_listed(tmp_path: Path) -> None:
    layouts.context(tmp_path)
    with pytest.raises(InputError, match="`tagmask data prepare context` writes it"):
        open_dataset("context60", tmp_path)
    prepared("context", tmp_path)
    dataset = open_dataset("context60", tmp_path)
    assert [sample.id for sample in dataset.samples] == ["2008_000002", "2008_000003"]
    # Label 1 is wood, 59 aeroplane, 60 accordion, which is not one of the 59 classes.
    np.testing.assert_array_equal(dataset.samples[0].read_mask(), layouts.rows(0, 59, 0))
    np.testing.assert_array_equal(dataset.samples[1].read_mask(), layouts.rows(1, 0))
    names = tmp_path / "VOCdevkit" / "VOC2010" / "labels.txt"
    names.write_text(names.read_text().replace("wood", "timber"))
    with pytest.raises(InputError, match=r"labels\.txt lacks wood\. Give the labels\.txt of the 459 labels"):
        jobs_of("context", tmp_path)


def test_unknown_label_fails_its_file_only(tmp_path: Path) -> None:
    layouts.context(tmp_path)
    home = tmp_path / "VOCdevkit" / "VOC2010"
    layouts.matlab(home / "trainval" / "2008_000002.mat", LabelMap=layouts.rows(1, 61))
    done = list(convert(jobs_of("context", tmp_path)))
    assert [job.made for job in done] == [True, False, True]
    assert done[1].error is not None
    assert "2008_000002.mat has the unknown label 61." in done[1].error


@pytest.mark.parametrize("value", [2.0**40, -1.0, np.nan, np.inf, 1.5])
def test_labels_that_are_none_fail_their_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    layouts.context(tmp_path)
    read = converters.read_array
    changed = np.array([[0.0, value]])
    monkeypatch.setattr(
        converters, "read_array", lambda path, name: changed if "02.mat" in path.name else read(path, name)
    )
    done = list(convert(jobs_of("context", tmp_path)))
    assert [job.made for job in done] == [True, False, True]
    assert "2008_000002.mat has the unknown label" in str(done[1].error)


@pytest.mark.parametrize("shape", [(0, 0), (4,), (1, 2, 3)])
def test_arrays_that_are_no_masks_fail_their_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    layouts.context(tmp_path)
    monkeypatch.setattr(converters, "read_array", lambda path, name: np.zeros(shape, np.uint8))
    *_, last = convert(jobs_of("context", tmp_path))
    assert "has the shape" in str(last.error)


@pytest.mark.parametrize("number", ["999999999999", "-5", "9" * 5000])
def test_label_numbers_of_a_list_are_bounded(tmp_path: Path, number: str) -> None:
    layouts.context(tmp_path)
    names = tmp_path / "VOCdevkit" / "VOC2010" / "labels.txt"
    names.write_text(names.read_text() + f"{number}: nothing\n")
    with pytest.raises(InputError, match=r"labels\.txt has a line that is not 'NUMBER: NAME'"):
        jobs_of("context", tmp_path)


def test_lists_cannot_name_files_to_write_outside_of_the_folder(tmp_path: Path) -> None:
    layouts.coco_stuff10k(tmp_path)
    layouts.text(tmp_path / "imageLists" / "test.txt", "../../outside")
    with pytest.raises(InputError, match=r"test\.txt has '\.\./\.\./outside'"):
        jobs_of("coco-stuff10k", tmp_path)


def test_10k_release_is_converted_to_the_toolboxes_form(tmp_path: Path) -> None:
    layouts.coco_stuff10k(tmp_path)
    (target,) = prepared("coco-stuff10k", tmp_path)
    np.testing.assert_array_equal(read_index_png(target), layouts.rows(0, 1, 12, 171))
    (sample,) = open_dataset("coco-stuff10k", tmp_path).samples
    np.testing.assert_array_equal(sample.read_mask(), layouts.rows(255, 0, 11, 170))


def test_drawn_scenes_are_written_as_a_folder(tmp_path: Path) -> None:
    jobs = jobs_of("miniature", tmp_path)
    assert len(jobs) == 602
    few = [job for job in jobs if job.target.name != "tags.txt" and not "000002" <= job.target.stem < "1"]
    layouts.text(tmp_path / "two.txt", "000000", "000001")
    assert all(done.made for done in convert(few))
    layouts.text(tmp_path / "tags.txt", *_scene_tags(["000000", "000001"]).decode().splitlines())
    drawn, written = open_dataset("miniature", tmp_path), open_dataset("folder", tmp_path, "two")
    assert written.classes == drawn.classes
    assert written.tag_classes == drawn.tag_classes
    for expected, sample in zip(drawn.samples[:2], written.samples, strict=True):
        assert sample.tags == expected.tags
        np.testing.assert_array_equal(sample.read_image(), expected.read_image())
        np.testing.assert_array_equal(sample.read_mask(), expected.read_mask())


@pytest.mark.parametrize("name", sorted(set(CONVERTERS) - {"miniature"}))
def test_folders_without_what_a_converter_needs_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, ImageError), match=str(tmp_path)):
        jobs_of(name, tmp_path)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"Unknown data set to prepare 'voc21'\. Did you mean .* Give one of coco-object, coco-stuff",
    ):
        jobs_of("voc21", tmp_path)
    with pytest.raises(InputError, match="Unknown split of context 'test'"):
        jobs_of("context", tmp_path, "test")


@pytest.mark.parametrize("value", [-1.0, -61.0, 1e18, 2.0**63])
def test_labels_out_of_range_fail_their_file_only(tmp_path: Path, value: float) -> None:
    layouts.context(tmp_path)
    path = tmp_path / "VOCdevkit" / "VOC2010" / "trainval" / "2008_000002.mat"
    layouts.matlab(path, LabelMap=np.array([[1]]))
    body = path.read_bytes()
    packed = zlib.decompress(body[136:])
    values = struct.pack("<II", 9, 8) + struct.pack("<d", value)  # instead of one uint16, padded to 8 bytes
    whole = packed[8:-16] + values
    again = zlib.compress(struct.pack("<II", 14, len(whole)) + whole)
    path.write_bytes(body[:128] + struct.pack("<II", 15, len(again)) + again)
    done = list(convert(jobs_of("context", tmp_path)))
    assert [job.made for job in done] == [True, False, True]
    assert done[1].error is not None
    assert f"2008_000002.mat has the unknown label {int(value)}." in done[1].error
