"""The files of an export of another tool: a folder, a zip archive or one file, which may come from anywhere.

Nothing is unpacked: names in an archive lead nowhere, and each file is read only as far as it may be large.
"""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from tagmask.errors import InputError
from tagmask.printable import short_repr, shortened
from tagmask.reading import open_regular, read_regular
from tagmask.relative_paths import is_below

__all__ = ["JSON_LIMIT", "Source", "png_limit"]

JSON_LIMIT: Final = 2_000_000_000
"""Largest JSON file, in bytes; COCO's largest have 470 MB."""
_UNPACKED, _RATIO = 64_000_000, 100
"""What a file in an archive may unpack to, in bytes, and how many times its packed size if that is more."""
_MOST_FILES: Final = 2_000_000
_LARGEST_DIRECTORY: Final = 1 << 25
"""Bytes of an archive's table of contents, of which reading takes about ten times as much memory."""
_HOW = frozenset((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
_END: Final = 1 << 17
"""Bytes at an archive's end that hold the place of its table of contents; the longest comment has 64 KiB."""


class Source:
    """The files of a folder, of a zip archive, or one file alone.

    Args:
        path: the folder or file.

    Raises:
        InputError: there is nothing, it cannot be read, or an archive is damaged, encrypted, holds a name
            twice or one that leads out of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[str, zipfile.ZipInfo] = {}
        self.is_file = False
        """Whether it is one file, neither a folder nor an archive."""
        self.names: Sequence[str] = ()
        """Of the files, with `/`, relative to the folder or in the archive; without hidden ones."""
        try:
            if path.is_dir():
                self.names = _below(path)
                return
            with open_regular(path) as file:
                packed = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        except FileNotFoundError as error:
            raise InputError(f"There is no file or folder {path}. Give what the tool exported.") from error
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        if packed:
            self._open_archive()
        else:
            self.is_file = True
        self.names = sorted(self._members) if packed else [path.name]

    def named(self, *endings: str) -> list[str]:
        """Return the files with these endings, in lower case; of one file alone, that file."""
        if self.is_file:
            return list(self.names)
        return [name for name in self.names if name.lower().endswith(endings)]

    def where(self, name: str) -> str:
        """Return the name of a file for messages."""
        return str(self.path) if self.is_file else shortened(f"{self.path}/{name}", 160)

    def read(self, name: str, limit: int) -> bytes:
        """Read a file of at most `limit` bytes.

        Raises:
            InputError: it cannot be read, is damaged or larger.
        """
        if self._archive is not None:
            return self._unpacked(name, limit)
        try:
            return read_regular(self.path if self.is_file else self.path / name, limit)
        except OSError as error:
            raise InputError(f"{self.where(name)} cannot be read: {error.strerror}.") from error

    def text(self, name: str, limit: int = 16_000_000) -> str:
        """Read a text file in UTF-8, with or without a byte order mark.

        Raises:
            InputError: as `read`, or it is no text.
        """
        try:
            return self.read(name, limit).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.where(name)} is not UTF-8 text.") from error

    def close(self) -> None:
        """Close the archive."""
        if self._archive is not None:
            self._archive.close()

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_archive(self) -> None:
        try:
            with open_regular(self.path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _END))
                tail = file.read(_END)
            at = tail.rfind(b"PK\x05\x06")
            claimed = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
            # Of an archive with more than 65,534 files, the sizes are in another record.
            if at >= 0 and claimed == 0xFFFF_FFFF:
                at = tail.rfind(b"PK\x06\x06")
                claimed = int.from_bytes(tail[at + 40 : at + 48], "little") if at >= 0 else 0
            if claimed > _LARGEST_DIRECTORY:
                raise InputError(f"{self.path} holds too many files. Unpack it, and give the folder.")
            self._archive = zipfile.ZipFile(self.path)
        except InputError:
            raise
        except Exception as error:  # damaged bytes raise errors of many kinds
            raise InputError(f"{self.path} is a damaged zip archive. Export or copy it again.") from error
        for info in self._archive.infolist():
            name = info.filename
            if name.endswith("/") or _hidden(name):
                continue
            if not is_below(name) or "\\" in name:
                problem = f"the name {short_repr(name)}, which leads out of it"
            elif name in self._members:
                problem = f"the name {short_repr(name)} twice"
            elif info.flag_bits & 1:
                problem = f"the encrypted file {short_repr(name)}"
            else:
                self._members[name] = info
                continue
            self._archive.close()
            raise InputError(f"{self.path} holds {problem}. Export it again.")

    def _unpacked(self, name: str, limit: int) -> bytes:
        info = self._members[name]
        if info.compress_type not in _HOW:
            raise InputError(f"{self.where(name)} is packed in an unusual way. Unpack the archive yourself.")
        limit = min(limit, max(_UNPACKED, _RATIO * info.compress_size))
        try:
            data = bytearray()
            with self._archive.open(info) as file:  # type: ignore[union-attr]
                while block := file.read(min(1 << 20, limit + 1 - len(data))):
                    data += block
                    if len(data) > limit:
                        raise InputError(f"{self.where(name)} is too large: it has more than {limit} bytes.")
            return bytes(data)
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.where(name)} is damaged. Export or copy the archive again.") from error


def png_limit(pixels: int) -> int:
    """Return the most bytes that the PNG of a mask of that many pixels can have."""
    return 1_000_000 + 9 * pixels


def _below(folder: Path) -> list[str]:
    """List the files below a folder; links to folders are not followed."""
    names: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _hidden(name))
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        names += [prefix + name for name in sorted(files) if not _hidden(name)]
        if len(names) > _MOST_FILES:
            raise InputError(f"{folder} holds more than {_MOST_FILES} files. Give the export's own folder.")
    return sorted(names)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in name.split("/"))
