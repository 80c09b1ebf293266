"""Where exports go: a new folder that appears when it is complete, and names in it."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tagmask.errors import InputError
from tagmask.files import unwritable

__all__ = ["new_folder"]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Make a folder that appears when the block ends without an error, and not at all otherwise.

    Args:
        target: the folder; an empty one is replaced.

    Yields:
        A hidden folder next to it, in which to write.

    Raises:
        InputError: something is in the way.
        OutputError: the folder cannot be made. An OSError of the block about another file is passed on.
    """
    if os.path.lexists(target) and not _is_empty(target):
        raise InputError(f"{target} is in the way. Move it away, or give another --out.")
    part = target.parent / f".tagmask-{os.getpid()}-{secrets.token_hex(8)}.part"
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield part
        if os.path.lexists(target):
            target.rmdir()
        part.replace(target)
    except OSError as error:
        if error.filename is None or str(error.filename).startswith((str(part), str(target))):
            raise unwritable(target, error) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    with os.scandir(folder) as entries:
        return next(entries, None) is None
