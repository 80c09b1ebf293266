"""Lines that appear as they come, and replace the old file only when all are there."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tagmask.errors import OutputError
from tagmask.files import unwritable

__all__ = ["atomic_lines", "json_lines", "partial_path"]


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Give a function that writes one object a line to `path`, as `atomic_lines` does.

    Raises:
        OutputError: the file cannot be written. Errors of the block are left as they are.
    """
    with atomic_lines(path) as write:
        yield lambda record: write(json.dumps(record, ensure_ascii=False))


@contextmanager
def atomic_lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Give a function that writes one line to `path`.

    Lines go to `PATH.partial` at once, so that a run that is stopped leaves what it had; when the block ends
    without an error that file takes the place of `path`.

    Raises:
        OutputError: the file cannot be written. Errors of the block are left as they are.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file, as in {path / 'tags.jsonl'}")
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A file name need not be text: what is none becomes an escape, which JSON reads back.
        file = partial.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise unwritable(path, error) from error

    def write(line: str) -> None:
        try:
            file.write(line + "\n")
            file.flush()
        except OSError as error:
            raise unwritable(partial, error) from error

    try:
        with file:
            yield write
            try:
                os.fsync(file.fileno())
            except OSError as error:
                raise unwritable(partial, error) from error
    except BaseException:
        if not partial.stat().st_size:  # stopped before it had anything to keep
            partial.unlink()
        raise
    try:
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be replaced ({error.strerror}); all lines are in {partial}"
        ) from error


def partial_path(path: Path) -> Path:
    """Where lines are kept until all are there."""
    return path.with_name(path.name + ".partial")
