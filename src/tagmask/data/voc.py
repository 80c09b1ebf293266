"""PASCAL VOC 2007 and 2012: the devkit's lists, annotations and palette masks.

VOC2012/                                  (below VOCdevkit/, or given itself)
  JPEGImages/2007_000033.jpg
  Annotations/2007_000033.xml             objects, each perhaps difficult
  ImageSets/Main/val.txt                  lists for tags
  ImageSets/Segmentation/val.txt          lists for masks; trainaug.txt from SBD
  SegmentationClass/2007_000033.png       0 background, 1 to 20, 255 not scored
  SegmentationClassAug/2007_000032.png    the 10,582 masks of trainaug
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias
from xml.etree import ElementTree

import numpy as np

from tagmask.data.folders import missing, on_disk
from tagmask.data.lists import read_ids, shipped_tags
from tagmask.data.pixels import Codes, plain, read_labels, without_zero
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError, TagmaskError
from tagmask.settings.words import read_list

__all__ = ["Difficult", "devkit", "open_voc_masks", "open_voc_tags", "read_objects"]

_LOG = logging.getLogger(__name__)

Difficult: TypeAlias = Literal["present", "left out", "absent"]
"""What a class is whose every object in an image is marked difficult."""

_AUGMENTED = ("trainaug", "train_aug")


def devkit(root: Path, year: str) -> Path:
    """The folder VOC2007, VOC2010 or VOC2012, from itself or a folder above it.

    Raises:
        InputError: it is not there.
    """
    for folder in (root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}", root):
        other = folder.name.startswith("VOC2") and folder.name != f"VOC{year}"
        if (folder / "JPEGImages").is_dir() and not other:
            return folder
    raise missing(f"There is no VOC{year}/JPEGImages in {root}, nor in {root / 'VOCdevkit'}", root)


def open_voc_tags(root: Path, year: str, split: str, difficult: Difficult = "present") -> Dataset:
    """VOC for tagging; VOC 2012's segmentation split with its masks too.

    Tags of 2007 are read from `Annotations` for the ids of `ImageSets/Main`. Those of 2012 are for the ids of
    `ImageSets/Segmentation`, as TagCLIP has it: from `Annotations`, or from the masks where that folder is
    absent. The split `tagclip-test` or `tagclip-val` is TagCLIP's own list, shipped with this package.

    Args:
        root: VOCdevkit, the folder above it, or the year's own folder.
        year: "2007" or "2012".
        split: name of a list.
        difficult: "present" as TagCLIP counts, "left out" of scoring as the devkit does, "absent" as TaI-DPT.

    Raises:
        InputError: no such folder or list, or TagCLIP's list with another rule than its own.
    """
    home = devkit(root, year)
    words = read_list("voc_tag")
    masks = plain(len(words) + 1) if year == "2012" else None
    places = _mask_folder(home, split)
    if split.startswith("tagclip-"):
        if difficult != "present":
            raise InputError(
                f"TagCLIP's list {split} counts difficult objects as present; asked was {difficult!r}. "
                "Take the split without tagclip-, whose tags are read from Annotations."
            )
        listed = shipped_tags(f"voc{year}_{split.removeprefix('tagclip-')}", len(words))
        tags: Mapping[str, Sure] = {id_: (of_image, ()) for id_, of_image in listed.items()}
        masks = masks if places.is_dir() else None
        ids: Sequence[str] = tuple(listed)
    else:
        ids = read_ids(_list(home, "Segmentation" if masks else "Main", split))
        if masks is None or (home / "Annotations").is_dir():
            tags = _from_annotations(home, ids, difficult)
        else:
            _LOG.info("%s has no Annotations: tags are the classes of the masks", home)
            tags = _from_masks(places, ids, masks)
    samples = [_sample(home, id_, places, masks, tags.get(id_)) for id_ in ids]
    classes = ("background", *words) if masks else ()
    return Dataset(f"voc{year}", classes, words, samples)


def open_voc_masks(root: Path, split: str, *, background: bool) -> Dataset:
    """VOC 2012's masks: 21 classes with background, or 20 where background pixels are not scored.

    Args:
        root: VOCdevkit, the folder above it, or VOC2012 itself.
        split: a list of `ImageSets/Segmentation`; trainaug's masks are in `SegmentationClassAug`.
        background: whether the background is a class.

    Raises:
        InputError: no such folder or list.
    """
    home = devkit(root, "2012")
    words = read_list("voc_tag")
    meaning = plain(len(words) + 1) if background else without_zero(len(words))
    places = _mask_folder(home, split)
    samples = [
        _sample(home, id_, places, meaning, None) for id_ in read_ids(_list(home, "Segmentation", split))
    ]
    name, classes = ("voc21", ("background", *words)) if background else ("voc20", words)
    return Dataset(name, classes, (), samples)


Sure: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Classes present, and classes left out of scoring."""


def read_objects(path: Path, difficult: Difficult = "present") -> Sure:
    """Classes of an annotation file's objects: those present, and those left out of scoring; both ascend.

    A class with one object that is not difficult is present, whatever its others are.

    Raises:
        InputError: a file that is absent, no annotation, or names a class that VOC does not have.
    """
    words = {word: number for number, word in enumerate(read_list("voc_tag"))}
    try:
        objects = list(ElementTree.parse(path).getroot().iter("object"))
    except (OSError, ElementTree.ParseError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The annotation {path} cannot be read: {reason}. Fetch it again.") from error
    sure: set[int] = set()
    doubtful: set[int] = set()
    for thing in objects:
        name = (thing.findtext("name") or "").strip()
        if name not in words:
            raise InputError(f"The annotation {path} names {name!r}, which is none of VOC's 20 classes.")
        marked = (thing.findtext("difficult") or "0").strip() == "1"
        (doubtful if marked else sure).add(words[name])
    if difficult == "present":
        sure |= doubtful
    left_out = doubtful - sure if difficult == "left out" else set()
    return tuple(sorted(sure)), tuple(sorted(left_out))


def _from_annotations(home: Path, ids: Iterable[str], difficult: Difficult) -> dict[str, Sure]:
    return _those_read(
        {i: home / "Annotations" / f"{i}.xml" for i in ids}, lambda p: read_objects(p, difficult)
    )


def _from_masks(folder: Path, ids: Iterable[str], meaning: Codes) -> dict[str, Sure]:
    def classes(path: Path) -> Sure:
        return tuple(int(c) - 1 for c in np.unique(read_labels(path, None, meaning)) if 0 < c < 255), ()

    return _those_read({id_: folder / f"{id_}.png" for id_ in ids}, classes)


def _those_read(files: Mapping[str, Path], read: Callable[[Path], Sure]) -> dict[str, Sure]:
    """Tags of the images whose file can be read; the others' are not known, which is said once."""
    found: dict[str, Sure] = {}
    faults = []
    for id_, path in files.items():
        try:
            found[id_] = read(path)
        except TagmaskError as error:
            faults.append(str(error))
    if faults:
        _LOG.warning("tags of %d of %d images are not known: %s", len(faults), len(files), faults[0])
    return found


def _sample(home: Path, id_: str, masks: Path, meaning: Codes | None, tags: Sure | None) -> Sample:
    image = home / "JPEGImages" / f"{id_}.jpg"
    mask = masks / f"{id_}.png" if meaning else None
    present, unsure = tags or (None, ())
    return on_disk(id_, image, mask, meaning, present, unsure)


def _mask_folder(home: Path, split: str) -> Path:
    return home / ("SegmentationClassAug" if split in _AUGMENTED else "SegmentationClass")


def _list(home: Path, kind: str, split: str) -> Path:
    names = _AUGMENTED if split in _AUGMENTED else (split,)
    places = [home / "ImageSets" / kind / f"{name}.txt" for name in names]
    for place in places:
        if place.is_file():
            return place
    raise missing(f"There is no list {' or '.join(map(str, places))}", home)
