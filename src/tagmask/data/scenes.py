"""Scene-parsing data sets: PASCAL Context, ADE20K, Cityscapes.

VOCdevkit/VOC2010/
  JPEGImages/2008_000002.jpg
  ImageSets/SegmentationContext/val.txt
  SegmentationClassContext/2008_000002.png            0 background, 1 to 59
ADEChallengeData2016/
  images/validation/ADE_val_00000001.jpg
  annotations/validation/ADE_val_00000001.png         0 not labelled, 1 to 150
cityscapes/
  leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png
  gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png         34 ids, 19 of them scored
  gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelTrainIds.png    0 to 18, 255
"""

from pathlib import Path

from tagmask.data.folders import first_folder, missing, named_files, on_disk
from tagmask.data.lists import read_ids
from tagmask.data.pixels import Codes, codes, plain, without_zero
from tagmask.data.sample import Dataset, Sample
from tagmask.data.voc import devkit
from tagmask.settings.words import read_list

__all__ = ["CITY_IDS", "open_ade20k", "open_cityscapes", "open_context"]

CITY_IDS: Codes = codes(
    dict.fromkeys(range(34), 255)
    | {
        value: index
        for index, value in enumerate(
            (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
        )
    }
)
"""Cityscapes' label ids to the 19 scored classes; other ids are not scored."""


def open_context(root: Path, split: str, *, background: bool) -> Dataset:
    """Open PASCAL Context: 59 classes; all other pixels are class 0 or not scored.

    Args:
        root: VOCdevkit, its parent folder, or VOC2010 itself.
        split: "train" or "val".
        background: whether the background is class 0.

    Raises:
        InputError: a missing folder or list.
    """
    home = devkit(root, "2010")
    listed = home / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    if not listed.is_file():
        raise missing(f"No list {listed}; `tagmask data prepare context` writes it", home)
    name, words = ("context60", read_list("sclip_context60"))
    meaning = plain(len(words))
    if not background:
        name, words = "context59", read_list("sclip_context59")
        meaning = without_zero(len(words))
    masks = home / "SegmentationClassContext"
    samples = [
        on_disk(id_, home / "JPEGImages" / f"{id_}.jpg", masks / f"{id_}.png", meaning)
        for id_ in read_ids(listed)
    ]
    return Dataset(name, words, (), samples)


def open_ade20k(root: Path, split: str) -> Dataset:
    """Open ADE20K: the 150 classes of the scene parsing challenge; unlabelled pixels are not scored.

    Args:
        root: ADEChallengeData2016, or its parent folder.
        split: "val" or "train".

    Raises:
        InputError: a missing folder.
    """
    home = first_folder(root, ["ADEChallengeData2016", "ade/ADEChallengeData2016", "."], "ADE20K")
    part = {"val": "validation", "train": "training"}[split]
    words = read_list("sclip_ade20k")
    images = first_folder(home, [f"images/{part}"], "ADE20K's images")
    masks, meaning = home / "annotations" / part, without_zero(len(words))
    samples = [
        on_disk(id_, images / f"{id_}.jpg", masks / f"{id_}.png", meaning)
        for id_ in named_files(images, ".jpg")
    ]
    return Dataset("ade20k", words, (), samples)


def open_cityscapes(root: Path, split: str) -> Dataset:
    """Open Cityscapes (fine): 19 classes, read from `labelTrainIds` or `labelIds`.

    Args:
        root: the folder with `leftImg8bit` and `gtFine`, or the parent of that folder, named `cityscapes`.
        split: "val" or "train".

    Raises:
        InputError: a missing folder.
    """
    home = first_folder(root, ["cityscapes", "."], "Cityscapes")
    images = first_folder(home, [f"leftImg8bit/{split}"], "Cityscapes' images")
    samples = [
        sample
        for city in sorted(folder.name for folder in images.iterdir() if folder.is_dir())
        for sample in _city(images / city, home / "gtFine" / split / city)
    ]
    return Dataset("cityscapes", read_list("sclip_cityscapes"), (), samples)


def _city(images: Path, labels: Path) -> list[Sample]:
    converted = set(named_files(labels, "_gtFine_labelTrainIds.png")) if labels.is_dir() else set()
    samples = []
    for id_ in named_files(images, "_leftImg8bit.png"):
        kind, meaning = ("labelTrainIds", plain(19)) if id_ in converted else ("labelIds", CITY_IDS)
        image, mask = images / f"{id_}_leftImg8bit.png", labels / f"{id_}_gtFine_{kind}.png"
        samples.append(on_disk(id_, image, mask, meaning))
    return samples
