"""Check the entries of a COCO instances file, which may come from anywhere."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import PIL.Image

from tagmask.printable import printable
from tagmask.relative_paths import is_below, without_ending
from tagmask.types import Size

__all__ = ["EntryError", "annotation_ids", "category_ids", "check_unique", "image_entries"]

_LARGEST_ID = 2**63 - 1


class EntryError(ValueError):
    """An entry that COCO's files do not have."""


def annotation_ids(entry: object, position: int) -> tuple[int, int, int]:
    """Return the ids of an annotation, its image and its category; its position stands for an absent id.

    Raises:
        EntryError: one of them is absent or not a whole number.
    """
    what = f"annotation {position + 1} of the list"
    fields = _object(entry, what)
    id_ = _whole(fields, "id", what) if "id" in fields else -position - 1
    what = f"annotation {id_}" if "id" in fields else what
    return id_, _whole(fields, "image_id", what), _whole(fields, "category_id", what)


def category_ids(entries: object) -> tuple[int, ...]:
    """Return the categories' ids, in the file's order.

    Raises:
        EntryError: they are not a list of entries with different whole numbers.
    """
    ids = tuple(
        _whole(_object(entry, what), "id", what)
        for what, entry in _numbered("category", _list(entries, "categories"))
    )
    check_unique("category", ids)
    return ids


def image_entries(entries: object) -> list[tuple[int, str, Size]]:
    """Return id, file name and (h, w) of each image, in the file's order.

    Raises:
        EntryError: they are not a list of entries with an id, a file name below the images' folder and a
            size, or two have the same id or name.
    """
    images = []
    for what, entry in _numbered("image", _list(entries, "images")):
        fields = _object(entry, what)
        id_ = _whole(fields, "id", what)
        images.append((id_, _file_name(fields, f"image {id_}"), _size(fields, f"image {id_}")))
    check_unique("image", (id_ for id_, _, _ in images))
    seen: dict[str, int] = {}
    for id_, name, _ in images:
        # Masks are named after images, without endings.
        first = seen.setdefault(without_ending(name), id_)
        if first != id_:
            raise EntryError(f"the images {first} and {id_} have the same name {printable(name)!r}")
    return images


def check_unique(what: str, ids: Iterable[int]) -> None:
    """Refuse ids of which two are equal.

    Raises:
        EntryError: naming one.
    """
    values, counts = np.unique(np.array(array("q", ids)), return_counts=True)
    if (counts > 1).any():
        raise EntryError(f"{int(counts.max())} entries have the {what} id {values[counts.argmax()]}")


def _numbered(what: str, entries: Sequence[object]) -> Iterable[tuple[str, object]]:
    return ((f"{what} {number} of the list", entry) for number, entry in enumerate(entries, start=1))


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise EntryError(f"it has no list {name}")
    return value


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise EntryError(f"{what} is not an object")
    return value


def _whole(fields: dict[str, Any], name: str, what: str) -> int:
    value = fields.get(name)
    if type(value) is not int or abs(value) > _LARGEST_ID:
        raise EntryError(f"{name} of {what} is {_shown(fields, name)}, not a whole number")
    return value


def _file_name(fields: dict[str, Any], what: str) -> str:
    name = fields.get("file_name")
    try:
        # The file was decoded as Latin-1; escapes may stand for any character.
        decoded = name.encode("latin-1").decode() if isinstance(name, str) else ""
    except UnicodeError:
        decoded = ""
    if not is_below(decoded):
        raise EntryError(
            f"file_name of {what} is {_shown(fields, 'file_name')}, not a path below the images' folder"
        )
    return decoded


def _size(fields: dict[str, Any], what: str) -> Size:
    height, width = fields.get("height"), fields.get("width")
    limit = PIL.Image.MAX_IMAGE_PIXELS or 2**31
    if type(height) is not int or type(width) is not int or height < 1 or width < 1 or height * width > limit:
        shown = f"{_shown(fields, 'height')} x {_shown(fields, 'width')}"
        raise EntryError(f"the size of {what} is {shown} (height x width), which no image has")
    return height, width


def _shown(fields: dict[str, Any], name: str) -> str:
    """A value for a message, never long."""
    value = fields.get(name)
    if isinstance(value, str | int | float):
        text = repr(value) if isinstance(value, str) else str(value)
        return text if len(text) <= 40 else f"{text[:37]}..."
    return "absent" if value is None else f"a {type(value).__name__}"
