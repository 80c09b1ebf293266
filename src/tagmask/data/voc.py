"""PASCAL VOC 2007 and 2012: the devkit's lists, annotations and palette masks.

VOC2012/                                  (itself, or inside VOCdevkit/)
  JPEGImages/2007_000033.jpg
  Annotations/2007_000033.xml             objects, some marked difficult
  ImageSets/Main/val.txt                  lists for tags
  ImageSets/Segmentation/val.txt          lists for masks; trainaug.txt from SBD; test.txt has no masks
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
from tagmask.reading import read_regular
from tagmask.settings.words import read_list

__all__ = ["Difficult", "devkit", "open_voc_masks", "open_voc_tags", "read_objects"]

_LOG = logging.getLogger(__name__)

Difficult: TypeAlias = Literal["present", "left out", "absent"]
"""How to count a class of which all objects in an image are marked difficult."""

_AUGMENTED = ("trainaug", "train_aug")

_LARGEST, _DEEPEST = 4_000_000, 50
"""Largest annotation, in bytes, and most elements in one another."""


def devkit(root: Path, year: str) -> Path:
    """Find the folder VOC2007, VOC2010 or VOC2012: `root` itself or inside it.

    Raises:
        InputError: there is no such folder.
    """
    for folder in (root / f"VOC{year}", root / "VOCdevkit" / f"VOC{year}", root):
        other_year = folder.name.startswith("VOC2") and folder.name != f"VOC{year}"
        if (folder / "JPEGImages").is_dir() and not other_year:
            return folder
    raise missing(f"No VOC{year}/JPEGImages in {root} or {root / 'VOCdevkit'}", root)


def open_voc_tags(root: Path, year: str, split: str, difficult: Difficult = "present") -> Dataset:
    """Open VOC for tagging; VOC 2012's segmentation split also with its masks.

    Tags of 2007 are read from `Annotations` for the ids of `ImageSets/Main`. Those of 2012 are for the ids of
    `ImageSets/Segmentation`, as in TagCLIP: from `Annotations`, or from the masks if that folder is missing.
    The split `tagclip-test` or `tagclip-val` is TagCLIP's own list, shipped with this package. The labels of
    2012's test split are not published: its samples have neither tags nor masks.

    Args:
        root: VOCdevkit, its parent folder, or the year's folder.
        year: "2007" or "2012".
        split: name of a list.
        difficult: "present" as TagCLIP counts, "left out" of scoring as the devkit does, "absent" as TaI-DPT.

    Raises:
        InputError: a missing folder or list, or TagCLIP's list with another rule than "present".
    """
    home = devkit(root, year)
    words = read_list("voc_tag")
    masks = plain(len(words) + 1) if year == "2012" else None
    mask_folder = _mask_folder(home, split)
    if split.startswith("tagclip-"):
        if difficult != "present":
            raise InputError(
                f"TagCLIP's list {split} counts difficult objects as present, not as {difficult!r}. "
                f"Give the split {split.removeprefix('tagclip-')!r}; its tags are read from Annotations."
            )
        listed = shipped_tags(f"voc{year}_{split.removeprefix('tagclip-')}", len(words))
        tags: Mapping[str, LabelSets] = {id_: (of_image, ()) for id_, of_image in listed.items()}
        masks = masks if mask_folder.is_dir() else None
        ids: Sequence[str] = tuple(listed)
    elif year == "2012" and split == "test":
        ids = read_ids(_list(home, "Segmentation", split))
        samples = [_sample(home, id_, mask_folder, None, None) for id_ in ids]
        return Dataset(f"voc{year}", ("background", *words), (), samples, labelled=False)
    else:
        ids = read_ids(_list(home, "Segmentation" if masks else "Main", split))
        if masks is None or (home / "Annotations").is_dir():
            tags = _from_annotations(home, ids, difficult)
        else:
            _LOG.info("%s has no folder Annotations: tags are read from the masks", home)
            tags = _from_masks(mask_folder, ids, masks)
    samples = [_sample(home, id_, mask_folder, masks, tags.get(id_)) for id_ in ids]
    classes = ("background", *words) if masks else ()
    return Dataset(f"voc{year}", classes, words, samples)


def open_voc_masks(root: Path, split: str, *, background: bool) -> Dataset:
    """Open VOC 2012's masks: 21 classes with background, or 20 with background pixels not scored.

    Args:
        root: VOCdevkit, its parent folder, or VOC2012 itself.
        split: a list of `ImageSets/Segmentation`; trainaug's masks are in `SegmentationClassAug`.
        background: whether the background is class 0.

    Raises:
        InputError: a missing folder or list.
    """
    home = devkit(root, "2012")
    words = read_list("voc_tag")
    meaning = plain(len(words) + 1) if background else without_zero(len(words))
    mask_folder = _mask_folder(home, split)
    samples = [
        _sample(home, id_, mask_folder, meaning, None) for id_ in read_ids(_list(home, "Segmentation", split))
    ]
    name, classes = ("voc21", ("background", *words)) if background else ("voc20", words)
    return Dataset(name, classes, (), samples)


LabelSets: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""Classes present, and classes left out of scoring."""


def read_objects(path: Path, difficult: Difficult = "present") -> LabelSets:
    """Read the classes of an annotation file: those present, and those left out of scoring; both ascend.

    A class with at least one object that is not difficult is present.

    Raises:
        InputError: the file is missing or invalid, or names an unknown class.
    """
    words = {word: number for number, word in enumerate(read_list("voc_tag"))}
    try:
        objects = _parsed(read_regular(path, _LARGEST)).iter("object")
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The annotation {path} is unreadable: {reason}. Download it again.") from error
    certain: set[int] = set()
    uncertain: set[int] = set()
    for thing in objects:
        name = (thing.findtext("name") or "").strip()
        if name not in words:
            raise InputError(
                f"The annotation {path} has the unknown class {name[:80]!r}. Give one of VOC's 20 classes."
            )
        marked = (thing.findtext("difficult") or "0").strip() == "1"
        (uncertain if marked else certain).add(words[name])
    if difficult == "present":
        certain |= uncertain
    left_out = uncertain - certain if difficult == "left out" else set()
    return tuple(sorted(certain)), tuple(sorted(left_out))


class _PlainTree(ElementTree.TreeBuilder):
    """Builds elements, without what makes a small file large or slow."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        """Refuse a document type before its entities are read."""
        raise ValueError("it has a document type, which annotations do not need")

    def start(self, tag: str, attributes: dict[str, str]) -> ElementTree.Element:
        """Open an element."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        """Close an element."""
        self._depth -= 1
        return super().end(tag)


def _parsed(data: bytes) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_PlainTree())
    parser.feed(data)
    root: ElementTree.Element = parser.close()
    return root


def _from_annotations(home: Path, ids: Iterable[str], difficult: Difficult) -> dict[str, LabelSets]:
    return _read_all(
        {i: home / "Annotations" / f"{i}.xml" for i in ids}, lambda p: read_objects(p, difficult)
    )


def _from_masks(folder: Path, ids: Iterable[str], meaning: Codes) -> dict[str, LabelSets]:
    def classes(path: Path) -> LabelSets:
        return tuple(int(c) - 1 for c in np.unique(read_labels(path, None, meaning)) if 0 < c < 255), ()

    return _read_all({id_: folder / f"{id_}.png" for id_ in ids}, classes)


def _read_all(files: Mapping[str, Path], read: Callable[[Path], LabelSets]) -> dict[str, LabelSets]:
    """Return the tags of all readable files; one warning counts the others, whose tags are unknown."""
    labels: dict[str, LabelSets] = {}
    errors = []
    for id_, path in files.items():
        try:
            labels[id_] = read(path)
        except TagmaskError as error:
            errors.append(str(error))
    if errors:
        _LOG.warning("Tags of %d of %d images are unknown: %s", len(errors), len(files), errors[0])
    return labels


def _sample(home: Path, id_: str, masks: Path, meaning: Codes | None, tags: LabelSets | None) -> Sample:
    image = home / "JPEGImages" / f"{id_}.jpg"
    mask = masks / f"{id_}.png" if meaning else None
    present, unsure = tags or (None, ())
    return on_disk(id_, image, mask, meaning, present, unsure)


def _mask_folder(home: Path, split: str) -> Path:
    return home / ("SegmentationClassAug" if split in _AUGMENTED else "SegmentationClass")


def _list(home: Path, kind: str, split: str) -> Path:
    names = _AUGMENTED if split in _AUGMENTED else (split,)
    candidates = [home / "ImageSets" / kind / f"{name}.txt" for name in names]
    for path in candidates:
        if path.is_file():
            return path
    raise missing(f"No list {' or '.join(map(str, candidates))}", home)
