"""Write files line by line; the old file is replaced only when all lines are written."""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tagmask.errors import OutputError
from tagmask.files import unwritable
from tagmask.strict_json import json_text

__all__ = ["atomic_lines", "json_lines", "partial_path"]

_STREAM_FOLDERS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Where files stand for devices, or for what the process has open, such as `/dev/stdout`."""

_PLAIN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Open `path` as in `atomic_lines`; yield a function that writes one JSON object per line.

    Raises:
        OutputError: the file cannot be written. Errors raised inside the block pass through.
    """
    with atomic_lines(path) as write:
        yield lambda record: write(json_text(record, ensure_ascii=False))


@contextmanager
def atomic_lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Open `path` for writing; yield a function that writes one line.

    Each line is written to `PATH.partial` immediately, so that an interrupted run keeps its lines. When the
    block ends without an error, that file replaces `path`. If `path` is a link, it stays, and the file that
    it leads to is replaced in this way. A device or a pipe gets each line directly.

    Raises:
        OutputError: the file cannot be written. Errors raised inside the block pass through.
    """
    if _is_stream(path):
        with _opened(path, path, os.O_APPEND) as write:
            yield write
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give a file, such as {path / 'tags.jsonl'}.")
    target, partial = _real(path), partial_path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if partial.is_file() and not partial.is_symlink():  # of an earlier run
            partial.unlink()
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    if target.is_symlink():
        raise OutputError(f"{path} cannot be written: its links lead nowhere. Choose another path.")
    if os.path.lexists(partial):
        raise OutputError(
            f"{partial} is in the way: it is not a plain file. Remove it, or choose another file."
        )
    try:
        with _opened(path, partial, os.O_CREAT | os.O_EXCL | _PLAIN, flush=True) as write:
            yield write
    except BaseException:
        with suppress(OSError):
            if not partial.stat().st_size:  # stopped before the first line
                partial.unlink()
        raise
    try:
        partial.replace(target)
    except OSError as error:
        raise OutputError(f"Cannot replace {path}: {error.strerror}. All lines are in {partial}.") from error


def partial_path(path: Path) -> Path:
    """Return the path of the file that holds the lines until all are written.

    It is beside the file that `path` leads to; `path` itself if that is a device or a pipe.
    """
    if _is_stream(path):
        return path
    target = _real(path)
    return target.with_name(target.name + ".partial")


@contextmanager
def _opened(path: Path, file: Path, flags: int, *, flush: bool = False) -> Iterator[Callable[[str], None]]:
    """Open a file and yield a function that writes one line to it, unbuffered.

    Args:
        path: the name that the user gave, for error messages.
        file: what to open.
        flags: of `os.open`.
        flush: wait for the disk at the end.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | flags, 0o666)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error

    def write(line: str) -> None:
        # File names may hold bytes that are not UTF-8; they become escapes, which JSON reads back.
        rest = f"{line}\n".encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            raise unwritable(file, error) from error

    try:
        yield write
        try:
            if flush:
                os.fsync(descriptor)
        except OSError as error:
            raise unwritable(file, error) from error
    finally:
        os.close(descriptor)


def _is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe, or a name for something that the process has open."""
    if path.absolute().parent in _STREAM_FOLDERS:
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # absent, or to be reported when it is opened
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path)) if path.is_symlink() else path
