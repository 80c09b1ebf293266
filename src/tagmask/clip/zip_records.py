"""Read the records of a zip archive of torch: the bytes of small ones, and where large ones lie.

Nothing that the archive claims is allocated before it is compared with the size of the file.
"""

import struct
import sys
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tagmask.clip.stored import DataFile
from tagmask.errors import WeightsError
from tagmask.printable import shortened

__all__ = ["GET_AGAIN", "MAX_PICKLE_BYTES", "Records", "Span", "open_zip"]

GET_AGAIN: Final = "Download or copy the file again."

MAX_PICKLE_BYTES: Final = 1 << 21
"""Largest pickle that is read; that of a ViT-L with its optimiser has half a megabyte.
Each byte builds at most one object, so it bounds these too."""
_MAX_TEXT_BYTES: Final = 1 << 24
"""All small records of an archive together; the sources of a ViT-L have one megabyte."""
_MAX_DIRECTORY_BYTES: Final = 1 << 23
"""Largest table of contents; zipfile needs about ten times as much memory for it."""


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive whose table of contents has a reasonable size.

    Raises:
        WeightsError: the table is too large.
        Exception: any error of the zip reader on damaged bytes.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 17)))  # the longest comment has 64 KiB
        tail = file.read()
    claimed = 0
    for signature, layout, offset in ((b"PK\x05\x06", "<I", 12), (b"PK\x06\x06", "<Q", 40)):
        at = tail.rfind(signature)
        entry = tail[at + offset : at + offset + struct.calcsize(layout)] if at >= 0 else b""
        if len(entry) == struct.calcsize(layout) and entry.strip(b"\xff"):
            claimed = max(claimed, *struct.unpack(layout, entry))
    if _MAX_DIRECTORY_BYTES < claimed <= size:
        raise WeightsError(f"{path} is not a weights file: its table of contents has {claimed} bytes.")
    with zipfile.ZipFile(path) as archive:
        yield archive


class Span(NamedTuple):
    """Consecutive bytes of a file."""

    start: int
    nbytes: int


class Records:
    """The records of one archive.

    Args:
        path: the archive.
        archive: the same, open.
        root: the folder in the archive that holds `data.pkl`.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, root: str) -> None:
        self.path = path
        self._archive = archive
        self._infos = {
            info.filename.removeprefix(f"{root}/"): info
            for info in archive.infolist()
            if info.filename.startswith(f"{root}/")
        }
        self.file = DataFile(path)
        self._spans: dict[str, Span] = {}
        self._text_left = _MAX_TEXT_BYTES
        self._bytes_left = self.file.size

    def names(self) -> Iterable[str]:
        """Names of all records, without the root."""
        return self._infos.keys()

    def check_byte_order(self) -> None:
        """Check that the tensors have this machine's byte order.

        Raises:
            WeightsError: they have not.
        """
        order = self.text("byteorder") if "byteorder" in self._infos else sys.byteorder
        if order != sys.byteorder:
            raise WeightsError(
                f"{self.path} is {shortened(order)}-endian. Convert it on the machine that wrote it."
            )

    def pickled(self) -> bytes:
        """The bytes of `data.pkl`.

        Raises:
            WeightsError: it is missing or too large.
        """
        return self._bytes("data.pkl", MAX_PICKLE_BYTES)

    def text(self, name: str) -> str:
        """A small record as text.

        Raises:
            WeightsError: it is missing, or too large together with those read before.
            UnicodeDecodeError: it is no text.
        """
        content = self._bytes(name, self._text_left)
        self._text_left -= len(content)
        return content.decode()

    def span(self, name: str) -> Span:
        """Find the bytes of a record in the file.

        Raises:
            WeightsError: it is missing, compressed, outside the file, or overlaps others.
        """
        if name not in self._spans:
            self._spans[name] = self._find(name)
        return self._spans[name]

    def _bytes(self, name: str, limit: int) -> bytes:
        info = self._info(name)
        if info.file_size > limit:
            raise WeightsError(
                f"{self.path} is not a weights file: its record {shortened(name)} claims "
                f"{info.file_size} bytes."
            )
        with self._archive.open(info) as file:
            return file.read(limit)

    def _find(self, name: str) -> Span:
        info = self._info(name)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise WeightsError(
                f"{self.path} was repacked: its record {shortened(name)} is compressed or encrypted. "
                "Get the original file."
            )
        start = self._start(info)
        if start + info.file_size > self.file.size:
            raise WeightsError(
                f"{self.path} is damaged: its record {shortened(name)} ends after the file does. {GET_AGAIN}"
            )
        self._bytes_left -= info.file_size
        if self._bytes_left < 0:
            raise WeightsError(f"{self.path} was tampered with: its records overlap. {GET_AGAIN}")
        return Span(start, info.file_size)

    def _info(self, name: str) -> zipfile.ZipInfo:
        if name not in self._infos:
            raise WeightsError(
                f"{self.path} is damaged: its record {shortened(name)} is missing. {GET_AGAIN}"
            )
        return self._infos[name]

    def _start(self, info: zipfile.ZipInfo) -> int:
        """Return the offset of a record's first byte, which only its local header shows."""
        signature, name, extra = struct.unpack("<4s22xHH", self.file.bytes(info.header_offset, 30))
        if signature != b"PK\x03\x04":
            raise WeightsError(f"{self.path} is damaged: its table of contents is wrong. {GET_AGAIN}")
        return info.header_offset + 30 + int(name) + int(extra)
