"""COCO 2014 and 2017 from their instances file: tags, and masks drawn from polygons and run lengths.

    coco/
      annotations/instances_val2017.json
      val2017/000000000139.jpg                (or images/val2017/)

Category ids run to 90 with gaps; classes here are the 80 categories in the file's order, which the word lists
share. Drawing needs pycocotools (`pip install 'tagmask[coco]'`).

The training sets' files hold half a gigabyte of polygons. They are read once, and only tags and the places of
the annotations in the file are kept; an image's polygons are read again when its mask is asked for.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from tagmask.data.folders import first_folder, missing
from tagmask.data.lists import shipped_tags
from tagmask.data.regions import draw_classes
from tagmask.data.sample import Dataset, Labels, Sample
from tagmask.errors import ImageError, InputError
from tagmask.images import read_image
from tagmask.settings.words import read_list
from tagmask.types import Size

__all__ = ["open_coco"]

_LOG = logging.getLogger(__name__)


def open_coco(root: Path, year: str, split: str) -> Dataset:
    """COCO's instances: 80 tags, and masks of 81 classes with the background first.

    Every annotation counts for the tags, crowds too; an image without any has no tags, and is kept. In masks,
    smaller objects lie over larger ones. `tagclip-val` (2017) is the list of 4952 images that TagCLIP and
    CLS-SEG score, with its tags as shipped with this package; masks need the instances file all the same.

    Args:
        root: COCO's folder, or the one above `coco`.
        year: "2014" or "2017".
        split: "train", "val", "tagclip-val".

    Raises:
        InputError: no such file or folder, or a file that is no instances file.
    """
    part = f"{split.removeprefix('tagclip-')}{year}"
    home = _home(root, part)
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
    """An instances file, less the polygons."""

    path: Path
    categories: tuple[int, ...]
    """Ids; the place of one is its class."""
    images: Sequence[tuple[int, str, Size]]
    """Id, file name, (h, w)."""
    tags: Mapping[int, tuple[int, ...]]
    places: Mapping[int, Int[np.ndarray, "n 2"]]
    """First byte and the one behind the last, of each annotation of an image."""

    def samples(self, folder: Path) -> list[Sample]:
        ignore_index = np.zeros((0, 2), np.int64)
        samples = []
        for number, name, size in self.images:
            path, places = folder / name, self.places.get(number, ignore_index)
            draw = partial(_draw, self.path, name, size, self.categories, places)
            tags = self.tags.get(number, ())
            samples.append(Sample(path.stem, partial(read_image, path), tags, read_mask=draw, path=path))
        return samples


def _draw(
    path: Path, name: str, size: Size, categories: tuple[int, ...], places: Int[np.ndarray, "n 2"]
) -> Labels:
    try:
        with path.open("rb") as file:
            found = []
            for start, stop in places.tolist():
                file.seek(start)
                one = json.loads(file.read(stop - start))
                found.append((categories.index(one["category_id"]), one["area"], one["segmentation"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{name}: its annotations in {path} cannot be read any more ({error}). The file was changed; "
            "open the data set again."
        ) from error
    return draw_classes(name, size, found)


def _read(path: Path) -> _Instances:
    try:
        # One letter a byte, so that places in the text are places in the file.
        text = path.read_bytes().decode("latin-1")
    except OSError as error:
        raise missing(f"COCO's {path} cannot be read ({error.strerror})", path.parent.parent) from error
    rest: dict[str, Any] = {}
    categories: dict[int, set[int]] = {}
    places: dict[int, list[tuple[int, int]]] = {}
    try:
        for key, value, start, stop in _values(text, "annotations"):
            if key != "annotations":
                rest[key] = value
                continue
            image = value["image_id"]
            categories.setdefault(image, set()).add(value["category_id"])
            places.setdefault(image, []).append((start, stop))
        ids = tuple(category["id"] for category in rest["categories"])
        if len(ids) != len(read_list("coco80_tag")):
            raise InputError(f"{path} has {len(ids)} categories; COCO has 80. It is another set's file.")
        numbers = {category: number for number, category in enumerate(ids)}
        tags = {image: tuple(sorted(numbers[one] for one in of)) for image, of in categories.items()}
        images = [
            (one["id"], one["file_name"].encode("latin-1").decode(), (one["height"], one["width"]))
            for one in rest["images"]
        ]
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON ({error}). Fetch it again.") from error
    except (KeyError, TypeError, AttributeError, UnicodeError) as error:
        raise InputError(
            f"{path} is no instances file of COCO's: {type(error).__name__} {error}. It has the lists "
            "images, annotations and categories."
        ) from error
    return _Instances(path, ids, images, tags, {image: np.array(of) for image, of in places.items()})


def _values(text: str, apart: str) -> Iterator[tuple[str, Any, int, int]]:
    """The keys and values of a JSON object; of the list under the key `apart`, each item by itself.

    With each its place: the first letter, and the one behind the last.
    """
    read = json.JSONDecoder().raw_decode
    at = _after(text, 0, "{")
    while True:
        key, at = read(text, at)
        start = _after(text, at, ":")
        if key == apart and text.startswith("[", start):
            at = _next(text, start + 1)
            while not text.startswith("]", at):
                value, stop = read(text, at)
                yield key, value, at, stop
                at = _next(text, stop)
                if not text.startswith("]", at):
                    at = _after(text, at, ",")
            at += 1
        else:
            value, at = read(text, start)
            yield key, value, start, at
        if text.startswith("}", _next(text, at)):
            return
        at = _after(text, at, ",")


def _next(text: str, at: int) -> int:
    """The first letter from `at` on that is no blank."""
    while text[at : at + 1] in tuple(" \t\n\r"):
        at += 1
    return at


def _after(text: str, at: int, sign: str) -> int:
    """The first letter behind a sign that must come next."""
    at = _next(text, at)
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"Expecting {sign!r}", text[at : at + 20], 0)
    return _next(text, at + 1)


def _listed(path: Path, folder: Path, listed: Mapping[str, tuple[int, ...]]) -> list[Sample]:
    """The images of a list with its tags; masks where the instances file is there and knows the image."""
    known: dict[str, Sample] = {}
    if path.is_file():
        known = {sample.id: sample for sample in _read(path).samples(folder)}
    else:
        _LOG.info("%s is not there: tags only, no masks", path)
    samples = []
    for id_, tags in listed.items():
        image, mask = folder / f"{id_}.jpg", known[id_].read_mask if id_ in known else None
        samples.append(Sample(id_, partial(read_image, image), tags, read_mask=mask, path=image))
    return samples


def _home(root: Path, part: str) -> Path:
    for home in (root, root / "coco"):
        if (home / "annotations").is_dir() or (home / part).is_dir():
            return home
    raise missing(f"There is neither annotations nor {part} in {root}, nor in {root / 'coco'}", root)
