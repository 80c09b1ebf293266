"""PASCAL VOC: the difficult rule, the splits, the masks' indices."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tagmask.data.catalogue import open_dataset
from tagmask.data.voc import devkit, read_objects
from tagmask.errors import ImageError, InputError
from tests.data import layouts

DOG, PERSON, CAT, TRAIN = 11, 14, 7, 18


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    layouts.voc2007(tmp_path)
    layouts.voc2012(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("voc2007", ((DOG, PERSON), ()), ((CAT, TRAIN), ())),
        ("voc2007-devkit", ((DOG, PERSON), ()), ((CAT,), (TRAIN,))),
        ("voc2007-sure", ((DOG, PERSON), ()), ((CAT,), ())),
    ],
)
def test_difficult_objects_under_each_rule(voc: Path, name: str, first: object, second: object) -> None:
    samples = open_dataset(name, voc).samples
    assert [(sample.tags, sample.unsure) for sample in samples] == [first, second]


def test_tags_are_unknown_without_a_valid_annotation(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    annotations = voc / "VOCdevkit" / "VOC2007" / "Annotations"
    (annotations / "000001.xml").unlink()
    layouts.annotation(annotations / "000002.xml", ("unicorn", False))
    with caplog.at_level(logging.WARNING):
        samples = open_dataset("voc2007", voc).samples
    assert [sample.tags for sample in samples] == [None, None]
    assert "Tags of 2 of 2 images are unknown" in caplog.text
    assert "000001.xml" in caplog.text
    with pytest.raises(InputError, match="has the unknown class 'unicorn'"):
        read_objects(annotations / "000002.xml")
    (annotations / "000002.xml").write_text("<annotation><object>")
    with pytest.raises(InputError, match=r"000002.xml is unreadable: no element found"):
        read_objects(annotations / "000002.xml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<!DOCTYPE a [<!ENTITY x "dog"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>', "has a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a document type"),
        ("<a>" * 60 + "</a>" * 60, "nested too deeply"),
        ("<a>" * 100_000, "nested too deeply"),
        ("<a>" + "<object/>" * 500_000 + "</a>", "more than 4 MB"),
        ('<?xml version="1.0" encoding="utf-7"?><a/>', "is unreadable"),
        ('<?xml version="1.0" encoding="nothing"?><a/>', "is unreadable"),
        ("<a>\0</a>", "is unreadable"),
    ],
)
def test_hostile_annotations_are_one_error(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "1.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"1\.xml.*{reason}"):
        read_objects(path)


def test_a_pipe_in_place_of_an_annotation_or_a_list_is_refused_at_once(voc: Path) -> None:
    home = voc / "VOCdevkit" / "VOC2007"
    (home / "Annotations" / "000001.xml").unlink()
    os.mkfifo(home / "Annotations" / "000001.xml")
    assert [sample.tags for sample in open_dataset("voc2007", voc).samples] == [None, (CAT, TRAIN)]
    (home / "ImageSets" / "Main" / "test.txt").unlink()
    os.mkfifo(home / "ImageSets" / "Main" / "test.txt")
    with pytest.raises(InputError, match="No list"):
        open_dataset("voc2007", voc)


def test_masks_with_and_without_background(voc: Path) -> None:
    with_background, without = (open_dataset(name, voc) for name in ("voc21", "voc20"))
    assert with_background.classes == ("background", *without.classes)
    np.testing.assert_array_equal(with_background.samples[1].read_mask(), layouts.rows(0, 19, 20, 255))
    np.testing.assert_array_equal(without.samples[1].read_mask(), layouts.rows(255, 18, 19, 255))


def test_tags_of_2012_are_read_from_annotations_or_masks(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = open_dataset("voc2012", voc)
    assert [sample.tags for sample in dataset.samples] == [(0, 2), (18, 19)]
    assert dataset.tag_classes[18] == "train"
    shutil.rmtree(voc / "VOCdevkit" / "VOC2012" / "Annotations")
    with caplog.at_level(logging.INFO):
        samples = open_dataset("voc2012", voc).samples
    assert [sample.tags for sample in samples] == [(0,), (18, 19)]
    assert "tags are read from the masks" in caplog.text


def test_trainaug_has_its_own_folder_and_lists_with_paths(voc: Path) -> None:
    (sample,) = open_dataset("voc21", voc, "trainaug").samples
    assert sample.id == "2007_000042"
    assert sample.mask_path is not None
    assert sample.mask_path.parent.name == "SegmentationClassAug"
    np.testing.assert_array_equal(sample.read_mask(), layouts.rows(0, 19))


def test_shipped_list_needs_only_images(voc: Path) -> None:
    samples = open_dataset("voc2012", voc, "tagclip-val").samples
    assert len(samples) == 1449
    assert samples[0].tags == (0,)
    assert samples[0].read_mask is not None
    with pytest.raises(ImageError, match=r"There is no file .*2007_000061\.jpg"):
        samples[2].read_image()
    assert len(open_dataset("voc2007", voc, "tagclip-test").samples) == 4952
    with pytest.raises(
        InputError, match=r"Unknown TagCLIP list 'voc2012_train'\. Did you mean voc2012_val\? Give one of"
    ):
        open_dataset("voc2012", voc, "tagclip-train")
    with pytest.raises(InputError, match="counts difficult objects as present, not as 'left out'"):
        open_dataset("voc2007-devkit", voc, "tagclip-test")


def test_own_list_is_a_split(voc: Path) -> None:
    home = voc / "VOCdevkit" / "VOC2012"
    layouts.text(home / "ImageSets" / "Segmentation" / "mine.txt", "2007_000042")
    assert [sample.id for sample in open_dataset("voc20", home, "mine").samples] == ["2007_000042"]
    with pytest.raises(InputError, match=r"No list .*Segmentation/yours\.txt"):
        open_dataset("voc20", home, "yours")


def test_devkit_is_found_from_parent_folders_for_its_year_only(voc: Path) -> None:
    home = voc / "VOCdevkit" / "VOC2012"
    assert devkit(voc, "2012") == devkit(voc / "VOCdevkit", "2012") == devkit(home, "2012") == home
    with pytest.raises(InputError, match="No VOC2007/JPEGImages in"):
        devkit(home, "2007")
