"""Benchmarks of whole scenes: PASCAL Context, ADE20K, Cityscapes.

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
"""Cityscapes' label ids as the 19 classes that are scored; the other ids are not scored."""


def open_context(root: Path, split: str, *, background: bool) -> Dataset:
    """PASCAL Context's 59 classes, with all other pixels as class 0 or not scored.

    Args:
        root: VOCdevkit, the folder above it, or VOC2010 itself.
        split: "train" or "val".
        background: whether the background is a class.

    Raises:
        InputError: no such folder or list.
    """
    home = devkit(root, "2010")
    listed = home / "ImageSets" / "SegmentationContext" / f"{split}.txt"
    if not listed.is_file():
        raise missing(f"There is no list {listed}; `tagmask data prepare context` makes it", home)
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
    """ADE20K's 150 classes of the scene parsing challenge; pixels without a label are not scored.

    Args:
        root: ADEChallengeData2016, or the folder above it.
        split: "val" or "train".

    Raises:
        InputError: no such folder.
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
    """Cityscapes' 19 classes on finely labelled images, read from `labelTrainIds` or `labelIds`.

    Args:
        root: the folder of `leftImg8bit` and `gtFine`, or the one above it, called `cityscapes`.
        split: "val" or "train".

    Raises:
        InputError: no such folder.
    """
    home = first_folder(root, ["cityscapes", "."], "Cityscapes")
    photos = first_folder(home, [f"leftImg8bit/{split}"], "Cityscapes' images")
    samples = [
        sample
        for city in sorted(folder.name for folder in photos.iterdir() if folder.is_dir())
        for sample in _city(photos / city, home / "gtFine" / split / city)
    ]
    return Dataset("cityscapes", read_list("sclip_cityscapes"), (), samples)


def _city(photos: Path, labels: Path) -> list[Sample]:
    there = set(named_files(labels, "_gtFine_labelTrainIds.png")) if labels.is_dir() else set()
    samples = []
    for id_ in named_files(photos, "_leftImg8bit.png"):
        kind, meaning = ("labelTrainIds", plain(19)) if id_ in there else ("labelIds", CITY_IDS)
        image, mask = photos / f"{id_}_leftImg8bit.png", labels / f"{id_}_gtFine_{kind}.png"
        samples.append(on_disk(id_, image, mask, meaning))
    return samples
