"""COCO 2014 and 2017 from their instances file: tags, and masks drawn from polygons and run lengths.

    coco/
      annotations/instances_val2017.json
      val2017/000000000139.jpg                (or images/val2017/)

Category ids run to 90 with gaps; classes here are the 80 categories in the file's order, which the word lists
share. Drawing needs pycocotools (`pip install 'tagmask[coco]'`).
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tagmask.data.folders import first_folder, missing
from tagmask.data.lists import shipped_tags
from tagmask.data.regions import draw_classes
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError
from tagmask.images import read_image
from tagmask.settings.words import read_list

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
        found = _read(path)
        samples = [found.sample(image, folder) for image in found.images]
    masked = any(sample.read_mask for sample in samples)
    return Dataset(f"coco{year}", ("background", *words) if masked else (), words, samples)


@dataclass(frozen=True, eq=False)
class _Instances:
    """An instances file, less what nobody asks."""

    images: Sequence[Mapping[str, Any]]
    tags: Mapping[int, tuple[int, ...]]
    regions: Mapping[int, bytes]

    def sample(self, image: Mapping[str, Any], folder: Path) -> Sample:
        name, number = str(image["file_name"]), int(image["id"])
        path = folder / name
        size = (int(image["height"]), int(image["width"]))
        draw = partial(draw_classes, name, size, self.regions.get(number, b"[]"))
        return Sample(
            Path(name).stem, partial(read_image, path), self.tags.get(number, ()), read_mask=draw, path=path
        )


def _read(path: Path) -> _Instances:
    try:
        whole = json.loads(path.read_bytes())
    except OSError as error:
        raise missing(f"COCO's {path} cannot be read ({error.strerror})", path.parent.parent) from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}). Fetch it again.") from error
    try:
        classes = {category["id"]: number for number, category in enumerate(whole["categories"])}
        if len(classes) != len(read_list("coco80_tag")):
            raise InputError(f"{path} has {len(classes)} categories; COCO has 80. It is another set's file.")
        kept: dict[int, list[tuple[int, float, object]]] = {}
        for one in whole["annotations"]:
            found = (classes[one["category_id"]], one["area"], one["segmentation"])
            kept.setdefault(one["image_id"], []).append(found)
        tags = {image: tuple(sorted({number for number, _, _ in of})) for image, of in kept.items()}
        regions = {image: json.dumps(of, separators=(",", ":")).encode() for image, of in kept.items()}
        images = [
            {key: one[key] for key in ("id", "file_name", "height", "width")} for one in whole["images"]
        ]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no instances file of COCO's: {type(error).__name__} {error}. It has the lists "
            "images, annotations and categories."
        ) from error
    return _Instances(images, tags, regions)


def _listed(path: Path, folder: Path, listed: Mapping[str, tuple[int, ...]]) -> list[Sample]:
    """The images of a list with its tags; masks where the instances file is there and knows the image."""
    known: dict[str, Sample] = {}
    if path.is_file():
        found = _read(path)
        known = {sample.id: sample for sample in (found.sample(image, folder) for image in found.images)}
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
