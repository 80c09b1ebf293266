"""Region proposals in files: one for each image, or one COCO file for all. Files may come from anywhere.

    a/1.json       COCO's annotations (`annotations`), for the image a/1.jpg
    a/1.npz        boolean masks (n, h, w) (`arrays`)
    a/1.png        index map of 8 or 16 bits: a region for each value but 0

`a/1.jpg.json` is that of a/1.jpg too, even if there is a/1.png.
"""

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from tagmask.errors import ImageError, InputError
from tagmask.masks import read_index_png
from tagmask.printable import shortened
from tagmask.proposals.annotations import json_annotations, read_annotations
from tagmask.proposals.arrays import of_array, read_npz
from tagmask.proposals.coco_file import CocoProposals, is_coco_file
from tagmask.proposals.source import ProposalSource
from tagmask.reading import open_regular, read_regular
from tagmask.regions.proposals import Proposals
from tagmask.types import Image, Size

__all__ = ["FolderProposals", "open_proposals", "read_proposals"]

_ENDINGS: Final = (".json", ".npz", ".png")
_JSON_LIMIT: Final = 1 << 27
"""Largest JSON file of one image, in bytes."""
_MOST_FILES: Final = 2_000_000
_BLOCK: Final = 1 << 20
_DAMAGE: Final = (
    OSError, ValueError, OverflowError, EOFError, RuntimeError, NotImplementedError, struct.error, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


def open_proposals(path: Path) -> ProposalSource:
    """Open a folder of region proposals, or a COCO file of all images, which may be a folder's only file.

    Raises:
        InputError: there is nothing, or nothing that can be read.
    """
    if not path.is_dir():
        return CocoProposals(path)
    files = _listed(path)
    if not files:
        raise InputError(f"{path} has no region proposals. Expected files ending in {', '.join(_ENDINGS)}.")
    if len(files) == 1 and files[0].endswith(".json") and is_coco_file(path / files[0]):
        return CocoProposals(path / files[0])
    return FolderProposals(path, files)


class FolderProposals(ProposalSource):
    """A folder with a file for each image.

    Args:
        folder: the folder.
        files: in it, relative to it.
    """

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self._folder, self._files = folder, frozenset(files)

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """The hash of all files and their names."""
        digest = hashlib.sha256()
        for name in sorted(self._files):
            digest.update(f"{name}\n{_file_digest(self._folder / name)}\n".encode("utf-8", "surrogateescape"))
        return {"files": f"sha256 {digest.hexdigest()[:16]}"}

    def missing(self, names: Sequence[PurePosixPath]) -> list[PurePosixPath]:
        """See `ProposalSource`."""
        absent: list[PurePosixPath] = []
        owners: dict[str, PurePosixPath] = {}
        for name in names:
            file = self._file(name)
            if file is None:
                absent.append(name)
            elif file in owners:
                raise InputError(
                    f"The region proposals {shortened(self._folder / file)} may be of {owners[file]} or "
                    f"{name}. Name them {name}{PurePosixPath(file).suffix}, or mask one folder at a time."
                )
            else:
                owners[file] = name
        return absent

    def of(self, name: PurePosixPath, image: Image) -> Proposals:
        """See `ProposalSource`."""
        file = self._file(name)
        if file is None:
            raise InputError(
                f"No region proposals for the image {str(name)!r}. Expected {name.with_suffix('')} with "
                f"{', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]} in their folder."
            )
        return read_proposals(self._folder / file, (image.shape[0], image.shape[1]))

    def _file(self, name: PurePosixPath) -> str | None:
        for base in (str(name), str(name.with_suffix(""))):
            found = [base + ending for ending in _ENDINGS if base + ending in self._files]
            if len(found) > 1:
                raise InputError(f"There are region proposals {' and '.join(found)}. Keep one of them.")
            if found:
                return found[0]
        return None


def read_proposals(path: Path, size: Size) -> Proposals:
    """Read the region proposals of one image: `.json`, `.npz` or `.png`.

    Args:
        path: the file.
        size: (h, w) of the image.

    Raises:
        InputError: it cannot be read, or does not fit the image.
    """
    try:
        if path.suffix.lower() == ".npz":
            return read_npz(path, size)
        if path.suffix.lower() == ".png":
            labels = read_index_png(read_regular(path, 1_000_000 + 9 * size[0] * size[1]))
            return of_array(np.asarray(labels), size)
        return read_annotations(json_annotations(read_regular(path, _JSON_LIMIT)), size)
    except (ImageError, *_DAMAGE) as error:
        reason = getattr(error, "strerror", None) or shortened(error, 200)
        raise InputError(f"The region proposals {path} cannot be used: {reason}") from error


def _listed(folder: Path) -> list[str]:
    """List the files below a folder that may hold proposals; links to folders are not followed."""
    names: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        names += [prefix + name for name in files if not name.startswith(".") and name.endswith(_ENDINGS)]
        if len(names) > _MOST_FILES:
            raise InputError(f"{folder} holds more than {_MOST_FILES} files. Give the proposals' own folder.")
    return sorted(names)


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"The region proposals {path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()
