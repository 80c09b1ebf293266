"""Any folder of images with index masks, tags, or both.

    ROOT/
      classes.txt            a class a line; the line's number, from 0, is its index (or classes.json)
      images/a.jpg           any depth, any format
      masks/a.png            the same place and name; indices, 255 (65535 in 16 bits) where there is none
      tags.txt               'a 0 3': classes present, counted from 0, without the background
      val.txt                a name a line: the images of the split "val"

Masks or tags may be missing, not both. A first class called "background" is no tag.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from tagmask.data.folders import first_folder, missing, on_disk
from tagmask.data.lists import read_ids, read_tags
from tagmask.data.pixels import Codes
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError

__all__ = ["open_pairs"]

_IMAGES = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif", ".ppm")
)


def open_pairs(root: Path, split: str = "all") -> Dataset:
    """A user's own folder.

    Args:
        root: laid out as above.
        split: "all" images, or the name of a list in `root`.

    Raises:
        InputError: no images, no classes, neither masks nor tags, two images of one name, or a list that
            names an image which is not there.
    """
    folder = first_folder(root, ["images"], "images")
    classes = _classes(root)
    tag_classes = classes[1:] if classes[0] == "background" else classes
    masks, tagged = root / "masks", root / "tags.txt"
    if not masks.is_dir() and not tagged.is_file():
        raise missing(f"There is neither {masks} nor {tagged}", root)
    tags = read_tags(tagged, len(tag_classes)) if tagged.is_file() else None
    images = _images(folder)
    ids = tuple(images) if split == "all" else read_ids(root / f"{split}.txt")
    absent = [id_ for id_ in ids if id_ not in images]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(ids)} ids of {root / f'{split}.txt'} have no image in {folder}, such as "
            f"{absent[0]!r}. Write names without ending, below {folder}."
        )
    wide = len(classes) > 255
    meaning = _meaning(len(classes), 65535 if wide else 255)
    samples = [_sample(images[id_], id_, masks if masks.is_dir() else None, meaning, tags) for id_ in ids]
    return Dataset(
        root.resolve().name,
        classes if masks.is_dir() else (),
        tag_classes if tags is not None else (),
        samples,
        65535 if wide else 255,
    )


def _meaning(classes: int, ignore: int) -> Codes:
    return tuple(v if v < classes else ignore if v == ignore else -1 for v in range(ignore + 1))


def _sample(
    image: Path, id_: str, masks: Path | None, meaning: Codes, tags: Mapping[str, tuple[int, ...]] | None
) -> Sample:
    present = tags.get(id_, tags.get(Path(id_).name)) if tags is not None else None
    mask = masks / f"{id_}.png" if masks is not None else None
    return on_disk(id_, image, mask, meaning, None if present is None else tuple(sorted(present)))


def _classes(root: Path) -> tuple[str, ...]:
    listed, described = root / "classes.txt", root / "classes.json"
    try:
        if listed.is_file():
            names = [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines()]
        else:
            whole = json.loads(described.read_text(encoding="utf-8"))
            names = [str(one["name"]) for one in sorted(whole["classes"], key=lambda one: one["index"])]
    except OSError as error:
        raise missing(f"There is no {listed}, one class a line, nor {described}", root) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{described} cannot be read: {error}. Write {listed.name}, one class a line."
        ) from error
    if not names or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"{listed} must name each class once, one a line, none empty; got {len(names)} lines."
        )
    return tuple(names)


def _images(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for place, inner, files in os.walk(folder):
        inner.sort()
        for file in sorted(name for name in files if not name.startswith(".")):
            path = Path(place) / file
            id_ = path.relative_to(folder).with_suffix("").as_posix()
            if path.suffix.lower() not in _IMAGES:
                continue
            if id_ in found:
                raise InputError(
                    f"{path} and {found[id_]} share a name, so a mask would belong to both; rename one."
                )
            found[id_] = path
    if not found:
        raise missing(f"There are no images below {folder}", folder)
    return found
