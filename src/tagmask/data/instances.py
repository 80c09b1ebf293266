"""COCO 2014 and 2017 from their instances file: tags, and masks drawn from polygons and run lengths.

    coco/
      annotations/instances_val2017.json
      val2017/000000000139.jpg                (or images/val2017/)

Category ids run to 90 with gaps; the classes are the 80 categories in the file's order, as in the word lists.
Drawing needs pycocotools (`pip install 'tagmask[coco]'`).

The training sets' files have half a gigabyte of polygons. They are parsed once; only the tags and the byte
ranges of the annotations are kept. An image's polygons are read again when its mask is requested.
"""

import json
import logging
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tagmask.data.folders import first_folder, missing
from tagmask.data.instance_entries import (
    EntryError,
    annotation_ids,
    category_ids,
    check_unique,
    image_entries,
)
from tagmask.data.lists import shipped_tags
from tagmask.data.regions import Annotation, draw_classes
from tagmask.data.sample import Dataset, Labels, Sample
from tagmask.errors import ImageError, InputError
from tagmask.images import read_image
from tagmask.json_items import object_items
from tagmask.reading import open_regular, read_regular
from tagmask.relative_paths import without_ending
from tagmask.settings.words import read_list
from tagmask.types import Size

__all__ = ["open_coco"]

_LOG = logging.getLogger(__name__)

_LARGEST = 2_000_000_000
"""Largest instances file, in bytes; COCO's largest have 470 MB."""


def open_coco(root: Path, year: str, split: str) -> Dataset:
    """Open COCO's instances: 80 tags, and masks of 81 classes with the background first.

    Each annotation gives a tag, including crowds; images without annotations are kept, without tags. In masks
    smaller objects are in front of larger ones. `tagclip-val` (2017) is the list of 4952 images that TagCLIP
    and CLS-SEG score, with its tags, shipped with this package; its masks still need the instances file.

    Args:
        root: COCO's folder, or the folder that contains `coco`.
        year: "2014" or "2017".
        split: "train", "val", "tagclip-val".

    Raises:
        InputError: a missing file or folder, or an invalid instances file.
    """
    part = f"{split.removeprefix('tagclip-')}{year}"
    home = _coco_folder(root, part)
    folder = first_folder(home, [part, f"images/{part}"], f"COCO's {part} images")
    path = home / "annotations" / f"instances_{part}.json"
    words = read_list("coco80_tag")
    if split.startswith("tagclip-"):
        samples = _listed(path, folder, shipped_tags(f"coco{year}_val", len(words)))
    else:
        samples = _read(path).samples(folder)
    masked = any(sample.read_mask for sample in samples)
    return Dataset(f"coco{year}", ("background", *words) if masked else (), words, samples)


@dataclass(frozen=True, eq=False)
class _Instances:
    """An instances file without its polygons."""

    path: Path
    categories: tuple[int, ...]
    """Category ids in class order."""
    images: Sequence[tuple[int, str, Size]]
    """Id, file name, (h, w)."""
    tags: Mapping[int, tuple[int, ...]]
    byte_ranges: Mapping[int, Int[np.ndarray, "n 2"]]
    """Byte range (start, stop) of each annotation of an image."""

    def samples(self, folder: Path) -> list[Sample]:
        no_annotations = np.zeros((0, 2), np.int64)
        samples = []
        for number, name, size in self.images:
            path, byte_ranges = folder / name, self.byte_ranges.get(number, no_annotations)
            draw = partial(_draw, self.path, name, size, self.categories, byte_ranges)
            tags = self.tags.get(number, ())
            samples.append(
                Sample(without_ending(name), partial(read_image, path), tags, read_mask=draw, path=path)
            )
        return samples


def _draw(
    path: Path, name: str, size: Size, categories: tuple[int, ...], byte_ranges: Int[np.ndarray, "n 2"]
) -> Labels:
    try:
        with open_regular(path) as file:
            annotations = []
            for start, stop in byte_ranges.tolist():
                file.seek(start)
                entry = json.loads(file.read(stop - start))
                index = categories.index(entry["category_id"])
                id_ = entry.get("id")
                # What is missing is refused with the annotation's id.
                annotations.append(Annotation(index, entry.get("area"), entry.get("segmentation"), id_))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(
            f"{name}: its annotations in {path} have changed since the data set was opened ({error}). "
            "Open the data set again."
        ) from error
    return draw_classes(f"{path}, {name}", size, annotations)


def _read(path: Path) -> _Instances:
    """Read what an instances file says of images and tags; regions are checked when they are drawn."""
    try:
        # Latin-1 maps each byte to one character, so offsets in the text are offsets in the file.
        text = read_regular(path, _LARGEST).decode("latin-1")
    except OSError as error:
        raise missing(f"COCO's {path} is unreadable ({error.strerror})", path.parent.parent) from error
    try:
        return _Parts(text).joined(path)
    except RecursionError as error:
        raise InputError(f"{path} is not valid JSON (nested too deeply). Download it again.") from error
    except EntryError as error:
        raise InputError(
            f"{path} is not a COCO instances file: {error}. "
            "It must have the lists images, annotations and categories."
        ) from error
    except ValueError as error:  # also a number of thousands of digits
        raise InputError(f"{path} is not valid JSON ({error}). Download it again.") from error


class _Parts:
    """The parts of an instances file, checked one by one."""

    def __init__(self, text: str) -> None:
        rest: dict[str, Any] = {}
        self._categories: dict[int, dict[int, int]] = {}
        self._byte_ranges: dict[int, list[tuple[int, int]]] = {}
        ids = array("q")
        for key, value, start, stop in object_items(text, "annotations"):
            if key != "annotations":
                rest[key] = value
                continue
            id_, image, category = annotation_ids(value, len(ids))
            ids.append(id_)
            self._categories.setdefault(image, {}).setdefault(category, id_)
            self._byte_ranges.setdefault(image, []).append((start, stop))
        check_unique("annotation", ids)
        self._rest = rest

    def joined(self, path: Path) -> _Instances:
        ids = category_ids(self._rest.get("categories"))
        if len(ids) != len(read_list("coco80_tag")):
            raise InputError(
                f"{path} has {len(ids)} categories, COCO has 80. Give COCO's own instances file."
            )
        numbers = {category: number for number, category in enumerate(ids)}
        for of_image in self._categories.values():
            for category, id_ in of_image.items():
                if category not in numbers:
                    raise EntryError(f"annotation {id_} has the unknown category_id {category}")
        images = image_entries(self._rest.get("images"))
        tags = {
            image: tuple(sorted(numbers[category] for category in of_image))
            for image, of_image in self._categories.items()
        }
        byte_ranges = {image: np.array(spans) for image, spans in self._byte_ranges.items()}
        return _Instances(path, ids, images, tags, byte_ranges)


def _listed(path: Path, folder: Path, listed: Mapping[str, tuple[int, ...]]) -> list[Sample]:
    """Return the samples of a list with its tags; masks for images in the instances file, if it exists."""
    known: dict[str, Sample] = {}
    if path.is_file():
        known = {sample.id: sample for sample in _read(path).samples(folder)}
    else:
        _LOG.info("No file %s: tags only, no masks", path)
    samples = []
    for id_, tags in listed.items():
        image, mask = folder / f"{id_}.jpg", known[id_].read_mask if id_ in known else None
        samples.append(Sample(id_, partial(read_image, image), tags, read_mask=mask, path=image))
    return samples


def _coco_folder(root: Path, part: str) -> Path:
    for home in (root, root / "coco"):
        if (home / "annotations").is_dir() or (home / part).is_dir():
            return home
    raise missing(f"No folder annotations or {part} in {root} or {root / 'coco'}", root)
