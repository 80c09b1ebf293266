"""A user's own folder of images with index masks, tags, or both.

    ROOT/
      classes.txt            one class per line, in index order from 0 (or classes.json)
      images/a.jpg           any subfolder, any format
      masks/a.png            same path and name; class indices, 255 (65535 in 16 bits) for no class
      tags.txt               'sub/a 0 3': indices of the classes present, from 0, without the background;
                             the last part of a name, 'a', is enough where no other image has it
      val.txt                one name per line: the images of the split "val"

Masks or tags may be missing, not both. A first class called "background" is not a tag.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from tagmask.data.folders import first_folder, missing, on_disk
from tagmask.data.lists import line_names, read_ids, read_tags
from tagmask.data.pixels import Codes
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError
from tagmask.reading import TEXT_LIMIT, read_regular, read_text
from tagmask.strict_json import parse_json

__all__ = ["IMAGE_SUFFIXES", "open_pairs"]

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".avif", ".ppm")
)
"""Endings of images, in lower case."""

_MOST_CLASSES = 65535


def open_pairs(root: Path, split: str = "all") -> Dataset:
    """Open a user's own folder.

    Args:
        root: the folder, with the layout above.
        split: "all", or the name of a list in `root`.

    Raises:
        InputError: no images, no classes, neither masks nor tags, two images with the same name, a list
            that names a missing image, or a line of tags that may mean two images.
    """
    folder = first_folder(root, ["images"], "images")
    classes, ignore = _classes(root)
    tag_classes = classes[1:] if classes[0] == "background" else classes
    masks, tagged = root / "masks", root / "tags.txt"
    if not masks.is_dir() and not tagged.is_file():
        raise missing(f"No {masks} and no {tagged}; at least one is needed", root)
    images = _images(folder)
    tags = _tags(tagged, images, len(tag_classes)) if tagged.is_file() else None
    ids = tuple(images) if split == "all" else read_ids(root / f"{split}.txt")
    absent = [id_ for id_ in ids if id_ not in images]
    if absent:
        raise InputError(
            f"{len(absent)} of {len(ids)} ids of {root / f'{split}.txt'} have no image in {folder}, such as "
            f"{absent[0]!r}. Write paths relative to {folder}, without extension."
        )
    meaning = _meaning(len(classes), ignore)
    samples = [_sample(images[id_], id_, masks if masks.is_dir() else None, meaning, tags) for id_ in ids]
    return Dataset(
        root.resolve().name,
        classes if masks.is_dir() else (),
        tag_classes if tags is not None else (),
        samples,
        ignore,
    )


def _meaning(classes: int, ignore: int) -> Codes:
    return tuple(v if v < classes else ignore if v == ignore else -1 for v in range(ignore + 1))


def _sample(
    image: Path, id_: str, masks: Path | None, meaning: Codes, tags: Mapping[str, tuple[int, ...]] | None
) -> Sample:
    present = tags.get(id_) if tags is not None else None
    mask = masks / f"{id_}.png" if masks is not None else None
    return on_disk(id_, image, mask, meaning, None if present is None else tuple(sorted(present)))


def _tags(file: Path, images: Mapping[str, Path], classes: int) -> Mapping[str, tuple[int, ...]]:
    """Read the tags by whole relative name."""
    tags = read_tags(file, classes)
    lines = line_names(list(images), list(images.values()), tags, str(file))
    return {id_: tags[line] for id_, line in zip(images, lines, strict=True) if line is not None}


def _classes(root: Path) -> tuple[tuple[str, ...], int]:
    """Read the names of the masks' values, and the value of no class."""
    text_file, json_file = root / "classes.txt", root / "classes.json"
    stated = None
    try:
        if text_file.is_file():
            text = read_text(text_file, "The list of classes", "Write one class per line.")
            names = [line.strip() for line in text.splitlines()]
        else:
            names, stated = _from_json(read_regular(json_file, TEXT_LIMIT))
    except InputError:
        raise
    except FileNotFoundError as error:
        raise missing(f"No {text_file} (one class per line) and no {json_file}", root) from error
    except OSError as error:
        raise InputError(f"{json_file} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(
            f"{json_file} is unreadable: {error}. Write {text_file.name} with one class per line."
        ) from error
    if not names or not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"{text_file} is empty, or has an empty or repeated line. Name each class once, one per line."
        )
    if len(names) > _MOST_CLASSES:
        raise InputError(f"{text_file} names {len(names)} classes. Masks have values for {_MOST_CLASSES}.")
    return tuple(names), (255 if len(names) <= 255 else 65535) if stated is None else stated


def _from_json(content: bytes) -> tuple[list[str], int | None]:
    """Read `classes.json`: of a run, or of an earlier version, which may say "nothing" for "ignore_index"."""
    described = parse_json(content)
    name_of = {int(entry["index"]): str(entry["name"]) for entry in described["classes"]}
    if sorted(name_of) != list(range(len(described["classes"]))):
        raise ValueError("it does not name each index from 0 once")
    stated = described.get("ignore_index", described.get("nothing"))
    if stated is not None and not len(name_of) <= int(stated) <= 65535:
        raise ValueError(f"{stated} cannot be the value of pixels without a class")
    return [name_of[index] for index in range(len(name_of))], None if stated is None else int(stated)


def _images(folder: Path) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for parent, subfolders, files in os.walk(folder):
        subfolders.sort()
        for file in sorted(name for name in files if not name.startswith(".")):
            path = Path(parent) / file
            id_ = path.relative_to(folder).with_suffix("").as_posix()
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            if id_ in images:
                raise InputError(
                    f"{path} and {images[id_]} have the same name, so their mask is ambiguous. Rename one."
                )
            images[id_] = path
    if not images:
        raise missing(f"No images below {folder}", folder)
    return images
