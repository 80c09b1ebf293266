"""Download a file: resumable, checked by its SHA-256, and moved into place only when complete."""

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
"""Called with the file's name, the bytes received so far, and the total number of bytes or None."""

_CHUNK: Final = 1 << 20
_TIMEOUT: Final = 30.0
_MAX_FAILURES: Final = 5
"""Failed connections in a row, without a byte received in between."""
_CONNECTION_ERRORS: Final = (ConnectionError, TimeoutError, ssl.SSLError)


def fetch(url: str, target: Path, sha256: str, progress: Progress | None = None, pause: float = 1.0) -> None:
    """Download a file, unless it exists already.

    The bytes received so far are kept in a hidden file next to the target, so that a broken connection or an
    interrupted program loses nothing. Processes that download the same file wait for each other.

    Args:
        url: http or https.
        target: where to write the file. Missing folders are created; an existing file is left as it is.
        sha256: the expected hash, in hexadecimal. It also makes resuming safe.
        progress: called as bytes arrive. Bytes of an earlier attempt count as received.
        pause: seconds before the second attempt; longer before each further one.

    Raises:
        DownloadError: the server cannot be reached, or refuses.
        WeightsError: the file has another hash; it is deleted.
        OutputError: the target cannot be written.
    """
    ensure_folder(target.parent)
    part = target.with_name(f".{target.name}.part")
    try:
        with FileLock(target.with_name(f".{target.name}.lock")):
            if target.is_file():
                return
            _complete(url, part, target.name, progress, pause)
            digest = sha256_of(part)
            if digest != sha256:
                part.unlink()
                raise WeightsError(
                    f"{target.name} from {_host(url)} has the wrong SHA-256: {digest[:12]}…, expected "
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


def _complete(url: str, part: Path, name: str, progress: Progress | None, pause: float) -> None:
    """Download until the partial file is complete, over as many connections as needed."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _resume(url, part, name, progress):
                return
            reason: Exception | str = "the connection ended early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(
                    f"Cannot download {name} from {_host(url)}: HTTP status {error.code}."
                ) from error
            reason = f"HTTP status {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, *_CONNECTION_ERRORS) as error:
            reason = getattr(error, "reason", None) or error
        grown = part.exists() and part.stat().st_size > before
        failures = 1 if grown else failures + 1
        if failures >= _MAX_FAILURES or (failures > 1 and not before and not grown):
            raise DownloadError(f"Cannot download {name} from {_host(url)}: {reason}.")
        time.sleep(pause * failures)


def _resume(url: str, part: Path, name: str, progress: Progress | None) -> bool:
    """Request the missing bytes over one connection and append them; return whether the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "tagmask", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=headers | ({"Range": f"bytes={have}-"} if have else {}))
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the partial file is complete, or too long: the hash decides
            error.close()
            return True
        raise
    with response:
        if response.status != 206:  # the server sends the whole file again
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        _check_space(part, (total or 0) - have)
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if progress:
                    progress(name, have, total)
            file.flush()
            os.fsync(file.fileno())
    return total is None or have >= total


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OutputError(
            f"Not enough space in {part.parent} for the download: {needed / 1e6:.0f} MB needed, "
            f"{free / 1e6:.0f} MB free. Free some space, or give the path of a weights file."
        )


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
