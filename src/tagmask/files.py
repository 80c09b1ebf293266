"""Files that are whole or not there: written beside their place, then moved into it."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tagmask.errors import InputError, OutputError

__all__ = ["atomic_open", "cache_dir", "ensure_folder", "file_hash", "unwritable", "write_bytes"]


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part.

    Args:
        path: where to; missing folders are made.
        data: all of the content.

    Raises:
        OutputError: the file cannot be written; what was there before is untouched.
    """
    with atomic_open(path) as file:
        file.write(data)


@contextmanager
def atomic_open(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing bytes; it takes its place when the block ends without an error.

    The content goes to a hidden file in the same folder, reaches the disk, then replaces `path` in
    one step. If the block raises, that hidden file is removed and `path` is untouched. Permissions
    are those of any new file (umask), also where the older file had others. A link at `path` is
    replaced, not followed.

    Args:
        path: where to; missing folders are made.

    Yields:
        The open file: seekable, write only.

    Raises:
        OutputError: a folder or the file cannot be made, written or moved. An OSError of the block
            about another file is left as it is.
    """
    target = Path(path)
    # Not named after the target, whose name may already be as long as the file system allows.
    part = target.parent / f".tagmask-{secrets.token_hex(8)}.part"
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
        # Errors of writing carry no name; one with another file's name is the block's own.
        if error.filename in (None, str(part)):
            raise unwritable(target, error) from error
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def ensure_folder(folder: Path) -> None:
    """Make a folder, and see that files can be written into it, before any work is done for them.

    Raises:
        OutputError: it cannot be made or written to.
    """
    probe = folder / f".tagmask-{secrets.token_hex(8)}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable(probe.parent, error) from error


def unwritable(target: Path, error: OSError | ValueError) -> OutputError:
    """The error that says why `target` cannot be written."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"a file is where the folder {target.parent} should be"
    else:
        reason = str(getattr(error, "strerror", None) or error)
    return OutputError(f"{target} cannot be written: {reason}. Choose another place, or clear this one.")


def file_hash(*files: Path) -> str:
    """SHA-256 of files' contents: of one file after another, each by its own SHA-256.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def cache_dir() -> Path:
    """Where downloads and computed features are kept; the folder is not made.

    Returns:
        `$TAGMASK_HOME`, else `$XDG_CACHE_HOME/tagmask`, else `~/.cache/tagmask`. Empty variables
        count as absent, as does a relative XDG_CACHE_HOME (its specification says so).

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
        raise InputError(
            "There is no home folder to keep a cache in. Set TAGMASK_HOME to a folder."
        ) from error
