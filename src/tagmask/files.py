"""Atomic file writes, file hashes, the cache folder and its entries.

Readers see a complete file or none: content goes to a temporary file, which then replaces the target.
"""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tagmask.errors import InputError, OutputError

__all__ = [
    "atomic_open",
    "cache_dir",
    "ensure_folder",
    "file_hash",
    "seal",
    "unseal",
    "unwritable",
    "write_bytes",
]


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, never a part, even after a power cut.

    Args:
        path: the file to write; missing folders are made.
        data: the whole content.

    Raises:
        OutputError: the file cannot be written; an existing file is unchanged.
    """
    with atomic_open(path) as file:
        file.write(data)


@contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing bytes; it replaces `path` when the block ends without an error.

    The content goes to a hidden temporary file in the same folder, is flushed to disk, and then replaces
    `path` in one step. If the block raises, the temporary file is removed and `path` is unchanged. The new
    file has the default permissions (umask), even if it replaces a file with others. A symbolic link at
    `path` is replaced, not followed.

    Args:
        path: the file to write; missing folders are made.

    Yields:
        The open file: seekable, write only.

    Raises:
        OutputError: a folder or the file cannot be made, written or moved. An OSError raised by the block
            about another file is passed on.
    """
    target = Path(path)
    # Not named after the target, whose name may already be as long as the file system allows.
    part = _part_in(target.parent)
    try:
        if "\0" in target.name:
            raise ValueError("a zero byte in its name")
        target.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("xb")
    except (OSError, ValueError) as error:  # ValueError: a name no file can have
        raise unwritable(target, error) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        # Write errors carry no file name; an error that names another file comes from the block.
        if error.filename in (None, str(part)):
            raise unwritable(target, error) from error
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _part_in(folder: Path) -> Path:
    """Name a temporary file; the process's id tells what a dead one left, and may be swept."""
    return folder / f".tagmask-{os.getpid()}-{secrets.token_hex(8)}.part"


def ensure_folder(folder: Path) -> None:
    """Make a folder and check that files can be written to it, before work starts.

    Raises:
        OutputError: the folder cannot be made or written to.
    """
    probe = _part_in(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(probe.parent, error) from error


def unwritable(target: Path, error: OSError | ValueError) -> OutputError:
    """Return the error that says why `target` cannot be written."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"a file is where the folder {target.parent} should be"
    else:
        reason = str(getattr(error, "strerror", None) or error)
    return OutputError(f"{target} cannot be written: {reason}. Choose another path or free this one.")


def file_hash(*files: Path) -> str:
    """Return one SHA-256 for several files: the hash of their SHA-256 digests, in order.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def cache_dir() -> Path:
    """Return the folder for downloads and computed features; it is not created.

    Returns:
        `$TAGMASK_HOME`, else `$XDG_CACHE_HOME/tagmask`, else `~/.cache/tagmask`. Empty variables are
        ignored, as is a relative XDG_CACHE_HOME (as its specification requires).

    Raises:
        InputError: neither variable is set and there is no home folder.
    """
    home = os.environ.get("TAGMASK_HOME", "")
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    try:
        if home:
            return Path(home).expanduser()
        if Path(xdg).is_absolute():
            return Path(xdg) / "tagmask"
        return Path.home() / ".cache" / "tagmask"
    except RuntimeError as error:
        raise InputError("There is no home folder for the cache. Set TAGMASK_HOME to a folder.") from error


def seal(key: str, content: bytes) -> bytes:
    """Return a cache entry: the content, then a checksum of the entry's key and content."""
    return content + _checksum(key, content)


def unseal(key: str, entry: bytes) -> bytes | None:
    """Return the content of a cache entry.

    Returns:
        None if the entry is damaged, is another key's, or was written without a checksum.

    Example:
        >>> unseal("cat", seal("cat", b"123")), unseal("dog", seal("cat", b"123"))
        (b'123', None)
    """
    size = len(entry) - hashlib.sha256().digest_size
    content = entry[: max(size, 0)]
    return content if entry[max(size, 0) :] == _checksum(key, content) else None


def _checksum(key: str, content: bytes) -> bytes:
    return hashlib.sha256(b"%d %s %s" % (len(key.encode()), key.encode(), content)).digest()
