"""JSON lines that appear as they come, and replace the old file only when all are there."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tagmask.errors import OutputError

__all__ = ["json_lines", "partial_path"]


@contextmanager
def json_lines(path: Path) -> Iterator[Callable[[Mapping[str, object]], None]]:
    """Give a function that writes one object a line to `path`.

    Lines go to `PATH.partial` at once, so that a run that is stopped leaves what it had; at the end that file
    takes the place of `path`.

    Raises:
        OutputError: the file cannot be written.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8") as file:

            def write(record: Mapping[str, object]) -> None:
                try:
                    file.write(json.dumps(record, ensure_ascii=False) + "\n")
                    file.flush()
                except OSError as error:
                    raise _cannot_write(partial, error) from error

            yield write
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def partial_path(path: Path) -> Path:
    """Where lines are kept until all are there."""
    return path.with_name(path.name + ".partial")


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}; give another --out")
