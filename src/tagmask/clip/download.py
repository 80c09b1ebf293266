"""A file from the web: resumed where it stopped, checked by its hash, in place only when whole."""

import hashlib
import http.client
import os
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from filelock import FileLock

from tagmask.errors import DownloadError, OutputError, WeightsError
from tagmask.files import ensure_folder, unwritable

__all__ = ["Progress", "fetch", "sha256_of"]

Progress: TypeAlias = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and its bytes in all where they are known."""

_CHUNK: Final = 1 << 20
_TIMEOUT: Final = 30.0
_TRIES: Final = 5
"""Broken connections in a row without a byte in between."""
_BROKEN: Final = (ConnectionError, TimeoutError, ssl.SSLError)


def fetch(url: str, target: Path, sha256: str, progress: Progress | None = None, pause: float = 1.0) -> None:
    """Download a file into its place, unless it is there already.

    What has come so far waits in a hidden file beside the target, so that a broken connection or a stopped
    program loses nothing. Programs that want the same file wait for each other.

    Args:
        url: http or https.
        target: where to; missing folders are made. A file that is there is left as it is.
        sha256: what the file must be, in hexadecimal; resuming is safe because of it.
        progress: called as bytes come; those that an earlier try left count as done.
        pause: seconds before the second try; longer before each further one.

    Raises:
        DownloadError: the server cannot be reached, or refuses.
        WeightsError: what came is not the file that was wanted; it is removed.
        OutputError: the target cannot be written.
    """
    ensure_folder(target.parent)
    part = target.with_name(f".{target.name}.part")
    try:
        with FileLock(target.with_name(f".{target.name}.lock")):
            if target.is_file():
                return
            _complete(url, part, target.name, progress, pause)
            found = sha256_of(part)
            if found != sha256:
                part.unlink()
                raise WeightsError(
                    f"{target.name} from {_host(url)} is not the file that was wanted: its sha256 is "
                    f"{found[:12]}… instead of {sha256[:12]}…. It was removed. Something on the way "
                    "changes files (a proxy, a login page); try another network, or get the file by hand."
                )
            part.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error


def sha256_of(path: Path) -> str:
    """A file's hash in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(url: str, part: Path, name: str, progress: Progress | None, pause: float) -> None:
    """Bring the partial file to its full length, over as many connections as it takes."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _continue(url, part, name, progress):
                return
            reason: Exception | str = "the connection ended early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(
                    f"{name} is not to be had from {_host(url)}: it answers {error.code}"
                ) from error
            reason = f"it answers {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, *_BROKEN) as error:
            reason = getattr(error, "reason", None) or error
        grown = part.exists() and part.stat().st_size > before
        failures = 1 if grown else failures + 1
        if failures >= _TRIES or (failures > 1 and not before and not grown):
            raise DownloadError(f"{name} cannot be downloaded from {_host(url)}: {reason}")
        time.sleep(pause * failures)


def _continue(url: str, part: Path, name: str, progress: Progress | None) -> bool:
    """One connection: ask for what is missing, append what comes; whether that was all."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "tagmask", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to send, or more is here than there is: the hash will tell
            error.close()
            return True
        raise
    with answer:
        if answer.status != 206:  # the server sends all of it again
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        _check_room(part, (total or 0) - have)
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(name, have, total)
            file.flush()
            os.fsync(file.fileno())
    return total is None or have >= total


def _check_room(part: Path, more: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if more > free:
        raise OutputError(
            f"{part.parent} has no room for the download: {more / 1e6:.0f} MB more are needed and "
            f"{free / 1e6:.0f} MB are free. Make room, or give the path of a weights file."
        )


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
