"""Check weights in the caches of other tools against their published SHA-256, each file once.

The hash of a file is remembered in tagmask's own cache under its path, size and time of change.
"""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Final

from tagmask.clip.download import sha256_of
from tagmask.errors import InputError, OutputError, WeightsError
from tagmask.files import cache_dir, seal, unseal, write_bytes
from tagmask.reading import read_regular

__all__ = ["verify"]

_ENTRY: Final = 200
"""Limit on the size of an entry, in bytes."""


def verify(file: Path, published: str) -> None:
    """Check that a file is the published one.

    Args:
        file: a weights file.
        published: its SHA-256 in hexadecimal, or the beginning of it; "" if none is known: no check.

    Raises:
        WeightsError: it is another file, or cannot be read.
    """
    if not published:
        return
    try:
        digest = _sha256(file)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}.") from error
    if not digest.startswith(published):
        raise WeightsError(
            f"{file} is not the published file: its SHA-256 starts with {digest[:12]}, not with "
            f"{published[:12]}. It may be damaged. Delete it to download it again, or give its path to "
            "use it as it is."
        )


def _sha256(file: Path) -> str:
    status = file.stat()
    key = f"{file.resolve()}\n{status.st_size}\n{status.st_mtime_ns}"
    entry = _entry(key)
    known = _read(entry, key)
    if known:
        return known
    digest = sha256_of(file)
    # Only if it did not change meanwhile.
    after = file.stat()
    if entry is not None and (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns):
        with suppress(OutputError):  # a read-only cache folder is not an error
            write_bytes(entry, seal(key, digest.encode()))
    return digest


def _entry(key: str) -> Path | None:
    try:
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return cache_dir() / "hashes" / name
    except InputError:  # no cache folder
        return None


def _read(entry: Path | None, key: str) -> str:
    if entry is None:
        return ""
    try:
        return (unseal(key, read_regular(entry, _ENTRY, links=False)) or b"").decode()
    except OSError:
        return ""
