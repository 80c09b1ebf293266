"""Lists of images: devkits' id lists, and the papers' tag files with lines `IMAGE INDEX INDEX ...`."""

import gzip
from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath

from tagmask.checks import check_choice
from tagmask.errors import InputError

__all__ = ["parse_tags", "read_ids", "read_tags", "shipped_tags"]


def read_ids(path: Path) -> tuple[str, ...]:
    """Read the image ids of a devkit's list, in its order.

    The id is the first field of each line, or its stem if it is a path such as `/JPEGImages/2007_000032.jpg`.

    Raises:
        InputError: the list is unreadable or empty, or names an image twice.
    """
    fields = [line.split()[0] for line in _text(path, "'2007_000032'", "List ").splitlines() if line.strip()]
    ids = tuple(PurePosixPath(field).stem if field.startswith("/") else field for field in fields)
    if not ids:
        raise InputError(f"The list {path} is empty. Download it again: it names one image per line.")
    if len(set(ids)) < len(ids):
        duplicate, _ = Counter(ids).most_common(1)[0]
        raise InputError(f"The list {path} names {duplicate!r} twice. Keep one line.")
    return ids


def read_tags(path: Path, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Read tags by image name (without folder and extension), in the order of each line.

    Args:
        path: the file.
        classes: number of classes; indices run from 0.

    Raises:
        InputError: the file is unreadable, or a line is not an image name and class indices, has a class
            twice or out of range, or repeats an image.
    """
    return parse_tags(_text(path, "'2007_000032 0 14'", "Tag file "), str(path), classes)


def parse_tags(text: str, what: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Parse the text of a tag file as `read_tags` does; error messages call the file `what`."""
    tags_of: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, *fields = line.split()
        tags = tuple(_class(field, what, number, classes) for field in fields)
        if len(set(tags)) < len(tags):
            raise InputError(f"Line {number} of {what} names a class twice: {line.strip()!r}. Keep one.")
        if name in tags_of:
            raise InputError(f"Line {number} of {what} is the second for image {name!r}. Keep one.")
        tags_of[name] = tags
    return tags_of


def shipped_tags(name: str, classes: int) -> Mapping[str, tuple[int, ...]]:
    """Return one of TagCLIP's ground-truth lists, in its order; each image's tags ascend.

    Args:
        name: `voc2007_test`, `voc2012_val`, `coco2017_val` or `coco-stuff_curated` (raw ids, 0 to 181).
        classes: number of classes in the list.

    Raises:
        InputError: an unknown name.

    Source:
        TagCLIP's released program.

    Example:
        >>> len(shipped_tags("voc2012_val", 20))
        1449
    """
    check_choice("TagCLIP list", name, _SHIPPED)
    packed = (resources.files(__package__) / "published" / f"{name}.txt.gz").read_bytes()
    tags = parse_tags(gzip.decompress(packed).decode(), name, classes)
    return {image: tuple(sorted(of_image)) for image, of_image in tags.items()}


def _text(path: Path, example: str, kind: str) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise InputError(
            f"{kind}{path} cannot be read: {reason}. Give a file with lines such as {example}."
        ) from error


def _class(field: str, what: str, line: int, classes: int) -> int:
    tag = int(field) if field.isdecimal() and len(field) < _DIGITS else -1
    if not 0 <= tag < classes:
        raise InputError(f"Line {line} of {what} has {field!r}. Give class indices from 0 to {classes - 1}.")
    return tag


_SHIPPED = ("voc2007_test", "voc2012_val", "coco2017_val", "coco-stuff_curated")

_DIGITS = 9
"""Longer numbers are rejected without parsing them."""
