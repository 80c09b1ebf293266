"""Write files line by line; the old file is replaced only when all lines are written."""

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
    """Open `path` as in `atomic_lines`; yield a function that writes one JSON object per line.

    Raises:
        OutputError: the file cannot be written. Errors raised inside the block pass through.
    """
    with atomic_lines(path) as write:
        yield lambda record: write(json.dumps(record, ensure_ascii=False))


@contextmanager
def atomic_lines(path: Path) -> Iterator[Callable[[str], None]]:
    """Open `path` for writing; yield a function that writes one line.

    Each line is written to `PATH.partial` immediately, so that an interrupted run keeps its lines. When the
    block ends without an error, that file replaces `path`.

    Raises:
        OutputError: the file cannot be written. Errors raised inside the block pass through.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder. Give a file, such as {path / 'tags.jsonl'}.")
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # File names may hold bytes that are not UTF-8; they become escapes, which JSON reads back.
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
        if not partial.stat().st_size:  # stopped before the first line
            partial.unlink()
        raise
    try:
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"Cannot replace {path}: {error.strerror}. All lines are in {partial}.") from error


def partial_path(path: Path) -> Path:
    """Return the path of the file that holds the lines until all are written."""
    return path.with_name(path.name + ".partial")
