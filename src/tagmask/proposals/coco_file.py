"""One COCO file with the region proposals of all images.

Its bytes stay in memory; of its entries, only the images and the places of their annotations.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tagmask.errors import InputError
from tagmask.json_items import object_items
from tagmask.printable import short_repr, shortened
from tagmask.proposals.annotations import read_annotations
from tagmask.proposals.source import ProposalSource
from tagmask.reading import open_regular, read_regular
from tagmask.regions.proposals import Proposals
from tagmask.relative_paths import without_ending
from tagmask.strict_json import parse_json
from tagmask.types import Image

__all__ = ["CocoProposals", "is_coco_file"]

_LIMIT: Final = 2_000_000_000
"""Largest file, in bytes."""
_PEEK: Final = 1 << 16


@dataclass(frozen=True, eq=False)
class _Listed:
    """An image of the file."""

    name: str
    size: object
    """(h, w), as the file says."""
    places: list[tuple[int, int]] = field(default_factory=list)
    """Of its annotations."""


def is_coco_file(path: Path) -> bool:
    """Whether a JSON file lists images, as COCO's do; else it holds one image's regions."""
    try:
        with open_regular(path) as file:
            start = file.read(_PEEK)
            file.seek(max(0, file.seek(0, 2) - _PEEK))
            return (
                start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"images"' in start + file.read()
            )
    except OSError:
        return False


class CocoProposals(ProposalSource):
    """The regions of a COCO file; categories do not matter. An image without annotations has no regions.

    Raises:
        InputError: it cannot be read, or is no COCO file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._data = read_regular(path, _LIMIT).removeprefix(b"\xef\xbb\xbf")
        except FileNotFoundError as error:
            raise InputError(
                f"There is no file or folder {path}. Give a folder of region proposals, a COCO file, or "
                "sam2:MODEL."
            ) from error
        except OSError as error:
            raise InputError(f"The region proposals {path} cannot be read: {error.strerror}.") from error
        self._whole: dict[str, list[_Listed]] = {}
        self._files: dict[str, list[_Listed]] = {}
        try:
            self._index()
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else shortened(error, 200)
            raise InputError(
                f"{path} is no COCO file of region proposals: {reason}. Expected images and annotations."
            ) from error

    @property
    def identity(self) -> Mapping[str, object]:
        """The file's hash."""
        return {"files": f"sha256 {hashlib.sha256(self._data).hexdigest()[:16]}"}

    def missing(self, names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
        """See `ProposalSource`."""
        owners: dict[int, PurePosixPath] = {}
        absent: list[PurePosixPath] = []
        for name in names:
            listed = self._find(name)
            if listed is None:
                absent.append(name)
            elif id(listed) in owners:
                raise InputError(
                    f"The regions of {shortened(listed.name)} in {self._path} may be of {owners[id(listed)]} "
                    f"or {name}. Mask one folder at a time."
                )
            else:
                owners[id(listed)] = name
        return absent

    def of(self, name: PurePosixPath, image: Image) -> Proposals:
        """See `ProposalSource`."""
        listed, size = self._find(name), (image.shape[0], image.shape[1])
        if listed is None:
            raise InputError(
                f"No region proposals for the image {str(name)!r}: {self._path} does not list it."
            )
        if listed.size not in (None, size):
            raise InputError(f"{self._path} says that {name} is {listed.size} (h, w), but it is {size}.")
        try:
            return read_annotations(self._annotations(listed), size)
        except ValueError as error:
            raise InputError(
                f"The region proposals of {name} in {self._path} cannot be used: {error}"
            ) from error

    def _annotations(self, listed: _Listed) -> Iterator[object]:
        return (parse_json(self._data[start:stop]) for start, stop in listed.places)

    def _find(self, name: PurePosixPath) -> _Listed | None:
        """By the whole relative name, else by the file's name if one of both has no folder."""
        found = self._whole.get(str(name)) or self._whole.get(str(name.with_suffix("")))
        if not found:
            alike = self._files.get(name.name) or self._files.get(name.stem) or []
            found = [listed for listed in alike if len(name.parts) == 1 or "/" not in listed.name]
        if len(found) > 1:
            raise InputError(
                f"{self._path} lists {len(found)} images that may be {name}, such as "
                f"{shortened(found[0].name)}. Give whole names in file_name."
            )
        return found[0] if found else None

    def _index(self) -> None:
        # Latin-1 maps each byte to one character, so offsets in the text are offsets in the file.
        places: dict[int, list[tuple[int, int]]] = {}
        entries: list[dict[str, Any]] | None = None
        for key, value, start, stop in object_items(self._data.decode("latin-1"), "annotations"):
            if key == "annotations":
                image = value.get("image_id") if isinstance(value, dict) else None
                if type(image) is not int:
                    raise InputError(
                        f"an annotation is of the image {short_repr(image)}, not of a whole number"
                    )
                places.setdefault(image, []).append((start, stop))
            elif key == "images":
                entries = parse_json(self._data[start:stop])
        if not isinstance(entries, list):
            raise InputError("it has no list of images")
        listed: dict[int, _Listed] = {}
        for entry in entries:
            number, name = (
                (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
            )
            if type(number) is not int or not isinstance(name, str) or number in listed:
                raise InputError(f"the image {short_repr(entry)} has no id of its own, or no file_name")
            height, width = entry.get("height"), entry.get("width")
            size = None if height is None or width is None else (height, width)
            listed[number] = _Listed(name.replace("\\", "/"), size, places.pop(number, []))
        if places:
            raise InputError(f"an annotation is of the image {next(iter(places))}, which it does not list")
        for image in listed.values():
            path = PurePosixPath(image.name)
            for names, keys in (
                (self._whole, {str(path), without_ending(image.name) if path.name else ""}),
                (self._files, {path.name, path.stem}),
            ):
                for key in keys:
                    names.setdefault(key, []).append(image)
