"""Read files from outside: regular files only, and never more than a limit.

A path may lead to a pipe that nobody writes to, to a device without an end, or to a file larger than the
memory. None of these may stop the program or exhaust it.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from tagmask.checks import did_you_mean_file
from tagmask.errors import InputError

__all__ = ["TEXT_LIMIT", "UnfitFileError", "open_regular", "read_regular", "read_text"]

TEXT_LIMIT: Final = 16_000_000
"""Largest text file, in bytes: settings, lists of words, tags and images."""

_STREAMS: Final = (Path("/dev/stdin"),)
_STREAM_FOLDERS: Final = (Path("/dev/fd"), Path("/proc/self/fd"))
"""Names for what the process has open, such as `/dev/stdin`, or a pipe of the shell's `<(...)`."""

_FLAGS: Final = sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", "O_NOCTTY"))
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)


class UnfitFileError(OSError):
    """A path that leads to no regular file, or to one that is too large."""


def open_regular(path: str | os.PathLike[str], *, links: bool = True) -> BinaryIO:
    """Open a regular file for reading bytes. Never waits.

    Args:
        path: the file.
        links: follow a link at `path`.

    Raises:
        OSError: it is absent, cannot be opened, or is no regular file (`UnfitFileError`); `strerror` says
            why.
    """
    name = os.fspath(path)
    try:
        # Before the file is opened, since opening a device may already do something.
        _check_regular(name, Path(name).stat(follow_symlinks=links))
        descriptor = os.open(name, os.O_RDONLY | _FLAGS | _NO_WAIT | (0 if links else _NO_LINK))
    except ValueError as error:  # a zero byte, or characters that are no text
        raise UnfitFileError(errno.EINVAL, f"no file can have this name ({error})", name) from error
    try:
        _check_regular(name, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], limit: int, *, links: bool = True) -> bytes:
    """Read a regular file of at most `limit` bytes.

    Raises:
        OSError: as for `open_regular`, or it is larger (`UnfitFileError`).
    """
    with open_regular(path, links=links) as file:
        return _read(file, limit, path)


def read_text(path: str | os.PathLike[str], what: str, advice: str, limit: int = TEXT_LIMIT) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Standard input and other streams that the process has open can be given by their names, such as
    `/dev/stdin`.

    Args:
        path: the file; `~` is the home folder.
        what: what it is, for messages: "The words file".
        advice: what to give instead, for messages.
        limit: largest size in bytes.

    Raises:
        InputError: it cannot be read, is too large, or is no text.
    """
    try:
        file = Path(path).expanduser()
        if _is_stream(file):
            with file.open("rb") as stream:
                data = _read(stream, limit, file)
        else:
            data = read_regular(file, limit)
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise InputError(f"{what} {path} cannot be read: it holds zero bytes, so it is no text. {advice}")
        return text
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} cannot be read: it is not UTF-8 text. {advice}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        reason = getattr(error, "strerror", None) or str(error)
        hint = did_you_mean_file(path) if isinstance(error, FileNotFoundError) else ""
        raise InputError(f"{what} {path} cannot be read: {reason}.{hint} {advice}") from error


def _read(file: BinaryIO, limit: int, path: str | os.PathLike[str]) -> bytes:
    # Block by block: a single read allocates as much as it is allowed to read.
    data = bytearray()
    while block := file.read(min(_BLOCK, limit + 1 - len(data))):
        data += block
        if len(data) > limit:
            raise UnfitFileError(errno.EFBIG, f"it has more than {limit / 1e6:g} MB", os.fspath(path))
    return bytes(data)


_BLOCK = 1 << 20
"""Bytes."""


def _is_stream(path: Path) -> bool:
    return path in _STREAMS or path.parent in _STREAM_FOLDERS


def _check_regular(name: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a device")
        raise UnfitFileError(errno.EINVAL, f"it is {kind}, not a regular file", name)


_KINDS: Final = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a link",
    stat.S_IFSOCK: "a socket",
}
