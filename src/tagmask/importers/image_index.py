"""Find a run's images by the names that other tools' files have for them."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from tagmask.errors import InputError
from tagmask.exporters.image_names import FlatNames, ImageNames
from tagmask.printable import shortened
from tagmask.relative_paths import without_ending
from tagmask.runs.reader import Run

__all__ = ["ImageIndex"]

_SHOWN = 4
"""Images that a message names."""

_Index = dict[str, list[str]]
"""Keys of the images of each name."""


class ImageIndex:
    """A run's images by name: as exports call them, with or without folders, and by file name alone.

    Args:
        run: the run; all its rows are read once.
    """

    def __init__(self, run: Run) -> None:
        names, flat_names = ImageNames(run), FlatNames(run)
        self._whole: _Index = {}
        self._stems: _Index = {}
        self._flat: _Index = {}
        self._sources: _Index = {}
        self._files: _Index = {}
        self._file_stems: _Index = {}
        self._names: dict[str, str] = {}
        for row in run:
            name = names.of(row)
            self._names[row.key] = name
            file = PurePosixPath(name).name
            for index, called in (
                (self._whole, name),
                (self._stems, row.name),
                (self._stems, without_ending(name)),
                (self._flat, flat_names.of(row)),
                (self._flat, flat_names.with_ending(row, name)),
                (self._sources, row.source.as_posix().lstrip("/")),
                (self._files, file),
                (self._file_stems, without_ending(file)),
            ):
                keys = index.setdefault(called, [])
                if row.key not in keys:
                    keys.append(row.key)

    def name(self, key: str) -> str:
        """Return the exported name of an image."""
        return self._names[key]

    def find(self, names: Sequence[str], *, flat: bool = False, address: bool = False) -> str | None:
        """Return the key of an image.

        Args:
            names: what a file calls it; those after the first are tried where it finds nothing.
            flat: names have no folders.
            address: names are ends of addresses, below no known folder.

        Returns:
            None if no image has any of the names.

        Raises:
            InputError: several images may be meant.
        """
        exported = (self._flat, self._whole, self._stems) if flat else (self._whole, self._stems, self._flat)
        for index in (self._sources,) if address else exported:
            for name in names:
                found = index.get(name, [])
                if found:
                    return self._only(names[0], found)
        for name in names:
            path = PurePosixPath(name)
            stems = self._file_stems
            alike = self._files.get(path.name) or stems.get(path.name) or stems.get(path.stem)
            if alike:
                related = [key for key in alike if self._is_end(key, name)]
                return self._only(names[0], related or alike)
        if address:
            for name in names:
                found = [key for file, keys in self._files.items() if _uploaded(file) == name for key in keys]
                if found:
                    return self._only(names[0], found)
        return None

    def _is_end(self, key: str, name: str) -> bool:
        """Whether a path and an image's agree in their ends, by more than the file's name."""
        given = PurePosixPath(name).with_suffix("").parts
        for known in (self._names[key], key):
            ours = PurePosixPath(known).with_suffix("").parts
            length = min(len(ours), len(given))
            if length > 1 and ours[-length:] == given[-length:]:
                return True
        return False

    def _only(self, name: str, keys: Sequence[str]) -> str:
        if len(keys) == 1:
            return keys[0]
        shown = ", ".join(shortened(self._names[key]) for key in keys[:_SHOWN])
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise InputError(
            f"it may be any of {shown}{more}. Name it in the tool's file by its path in the run, not by "
            f"{shortened(PurePosixPath(name).name)!r} alone."
        )


def _uploaded(file: str) -> str:
    """Return a file's name as Label Studio keeps it of an upload: without blanks and signs."""
    return re.sub(r"[^-\w.]", "", file.strip().replace(" ", "_"))
