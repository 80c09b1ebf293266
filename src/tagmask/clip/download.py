"""Download a file: resumable, checked by its SHA-256, and moved into place only when complete."""

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias
from urllib.parse import urlsplit

from filelock import FileLock

from tagmask.clip.web import Headers, TransferError, host_of, open_url, slowest
from tagmask.errors import DownloadError, OutputError, WeightsError
from tagmask.files import ensure_folder, unwritable

__all__ = ["Progress", "fetch", "sha256_of"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes received so far, and the total number of bytes or None."""

_MAX_FAILURES: Final = 5
"""Failed connections in a row, without much received in between."""
_PLAIN: Final = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))
_NO_HEADERS: Final = Headers()


def fetch(
    url: str,
    target: Path,
    sha256: str,
    progress: Progress | None = None,
    pause: float = 1.0,
    *,
    limit: int,
    name: str = "",
    headers: Headers = _NO_HEADERS,
) -> None:
    """Download a file, unless it exists already.

    The bytes received so far are kept in a hidden file next to the target, so that a broken connection or an
    interrupted program loses nothing. Processes that download the same file wait for each other.

    Args:
        url: http or https.
        target: where to write the file. Missing folders are created; an existing file is left as it is.
        sha256: the expected hash, in hexadecimal. It also makes resuming safe.
        progress: called as bytes arrive. Bytes of an earlier attempt count as received.
        pause: seconds before the second attempt; longer before each further one.
        limit: largest size of the file, in bytes; no more is written, whatever the server sends.
        name: of the file, for messages; the target's by default.
        headers: of the requests.

    Raises:
        DownloadError: the server cannot be reached, refuses, sends too much or too slowly.
        WeightsError: the file has another hash; it is deleted.
        OutputError: the target cannot be written.
    """
    name = name or target.name
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"Cannot download {name} from {url}: the address is neither http nor https.")
    ensure_folder(target.parent)
    part, lock = (target.with_name(f".{target.name}.{ending}") for ending in ("part", "lock"))
    try:
        _remove_unless_plain(lock)
        with FileLock(lock):
            if target.is_file():
                return
            _remove_unless_plain(part)
            with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | _PLAIN, 0o666), "r+b") as file:
                request = _Download(url, file, part, name, limit, headers, progress)
                request.complete(pause)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != sha256:
                part.unlink()
                raise WeightsError(
                    f"{name} from {host_of(url)} has the wrong SHA-256: {digest[:12]}…, expected "
                    f"{sha256[:12]}…. The file was deleted. A proxy or login page may have changed it; "
                    "try another network."
                )
            part.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Download:
    """The download of one file into an open partial file."""

    def __init__(
        self,
        url: str,
        file: BinaryIO,
        path: Path,
        name: str,
        limit: int,
        headers: Headers,
        progress: Progress | None,
    ) -> None:
        self._url, self._file, self._path, self._name = url, file, path, name
        self._limit, self._headers, self._progress = limit, headers, progress

    def complete(self, pause: float) -> None:
        """Download until the partial file is complete, over as many connections as needed."""
        failures = 0
        while True:
            before = self._size()
            try:
                if self._resume():
                    return
                error = TransferError("the connection ended early", retry=True)
            except TransferError as caught:
                error = caught
            grown = self._size() - before
            # A few bytes are no success, or a server could go on for ever with a few a connection.
            failures = 1 if grown >= slowest() else failures + 1
            if not error.retry or failures >= _MAX_FAILURES or (failures > 1 and not before and not grown):
                raise DownloadError(
                    f"Cannot download {self._name} from {host_of(self._url)}: {error}."
                ) from error
            time.sleep(pause * failures)

    def _resume(self) -> bool:
        """Request the missing bytes over one connection, append them; return whether the file is complete."""
        have = self._size()
        more = {"Range": f"bytes={have}-"} if have else {}
        public = {"User-Agent": "tagmask", **self._headers.public, "Accept-Encoding": "identity", **more}
        try:
            with open_url(self._url, Headers(public, self._headers.private)) as response:
                if response.status != 206:  # the server sends the whole file again
                    have = 0
                total = None if response.length is None else have + response.length
                if (total or have) > self._limit:
                    size, most = (total or have) / 1e6, self._limit / 1e6
                    raise TransferError(f"it has {size:.0f} MB, more than the expected {most:.0f} MB")
                self._check_space((total or self._limit) - have)
                self._file.seek(have)
                self._file.truncate()
                for chunk in response.chunks(self._limit - have):
                    self._file.write(chunk)
                    have += len(chunk)
                    if self._progress:
                        self._progress(self._name, have, total)
        except TransferError as error:
            if error.status == 416:  # the partial file is complete, or too long: the hash decides
                return True
            raise
        finally:
            self._file.flush()
        os.fsync(self._file.fileno())
        return total is None or have >= total

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._path.parent).free
        if needed > free:
            raise OutputError(
                f"Not enough space in {self._path.parent} for the download: {needed / 1e6:.0f} MB needed, "
                f"{free / 1e6:.0f} MB free. Free some space, or give the path of a weights file."
            )


def _remove_unless_plain(path: Path) -> None:
    """Remove a link, a pipe or a second name of another file, which would be written through."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        path.unlink()
