"""Results image by image, in a file that outlives the run that writes it.

The first line says what the results are of, each further line is one image. A line is written in one piece: a
run that is killed leaves at most one torn line, at the end, which the next run takes away. The number of a
run is always computed from this file: whether it was written at once or in parts cannot matter.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tagmask.bench.metrics import Cell
from tagmask.errors import InputError
from tagmask.files import atomic_open, unwritable

__all__ = ["Journal", "Record", "open_journal", "read_journal"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What one image adds: counted pixels, or scored tags, or the reason why there is nothing."""

    id: str
    pixels: tuple[Cell, ...] | None = None
    """Counts by true and predicted class (`metrics.ConfusionMatrix.cells`)."""
    scores: tuple[float, ...] | None = None
    """Of each tag, float32."""
    chosen: tuple[int, ...] | None = None
    """Tags taken as present."""
    failed: str | None = None
    """What was wrong: image, mask, size, labels, tags, memory, method."""
    reason: str | None = None
    """The same in words."""

    def line(self) -> str:
        """As JSON; what is not there is left out."""
        kept = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def _record(said: Mapping[str, Any]) -> Record:
    pixels, scores, chosen = said.get("pixels"), said.get("scores"), said.get("chosen")
    return Record(
        id=str(said["id"]),
        pixels=None if pixels is None else tuple((int(t), int(p), int(n)) for t, p, n in pixels),
        scores=None if scores is None else tuple(map(float, scores)),
        chosen=None if chosen is None else tuple(map(int, chosen)),
        failed=said.get("failed"),
        reason=said.get("reason"),
    )


class Journal:
    """An open file of results; made by `open_journal`."""

    def __init__(self, path: Path, done: frozenset[str]) -> None:
        self.path = path
        self.done = done
        """Images that an earlier run has results of."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, record: Record) -> None:
        """Add one image, in one piece.

        Raises:
            OutputError: the file cannot be written.
        """
        data = (record.line() + "\n").encode("utf-8", "backslashreplace")
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("the disk is full")
        except OSError as error:
            raise unwritable(self.path, error) from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)


def open_journal(path: Path, header: Mapping[str, Any], *, resume: bool) -> Journal:
    """Start a file of results, or go on with one.

    Going on takes away a torn last line, and the images that failed, which are tried again.

    Args:
        path: the file.
        header: what the results are of; JSON, by topic.
        resume: go on with results that are there; without it they are an error.

    Raises:
        InputError: results are there and `resume` was not asked for, or they are of something else,
            or the file is no such file.
        OutputError: the file cannot be written.
    """
    kept: list[str] = []
    done: set[str] = set()
    if path.exists():
        _check_same(path, _header(path), header, resume=resume)
        for record in read_journal(path):
            if record.failed is None:
                done.add(record.id)
                kept.append(record.line())
    with atomic_open(path) as file:
        for line in (json.dumps(header, ensure_ascii=False), *kept):
            file.write((line + "\n").encode("utf-8", "backslashreplace"))
    return Journal(path, frozenset(done))


def read_journal(path: Path) -> Iterator[Record]:
    """The images of a file of results, one after another; a torn last line is passed over.

    Raises:
        InputError: the file cannot be read, or another line of it is damaged.
    """
    for number, line in enumerate(_lines(path), start=1):
        if number == 1:
            continue
        if not line.endswith("\n"):
            return
        try:
            yield _record(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"line {number} of {path} is damaged ({error}); take that line away and run with --resume"
            ) from error


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the results {path} cannot be read: {error}; give another --out") from error


def _header(path: Path) -> Mapping[str, Any]:
    first = next(_lines(path), "")
    with suppress(ValueError):
        said = json.loads(first)
        if isinstance(said, dict) and first.endswith("\n"):
            return said
    raise InputError(f"{path} is no file of bench results (its first line is none); give another --out")


def _check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any], *, resume: bool) -> None:
    wanted = json.loads(json.dumps(new))  # tuples are lists in the file
    differ = sorted(key for key in {*old, *wanted} if old.get(key) != wanted.get(key))
    if differ:
        raise InputError(
            f"{path} holds results of a run with other {', '.join(differ)}: they cannot be mixed; "
            "give another --out, or remove that file"
        )
    if not resume:
        raise InputError(f"{path} holds results of this run already; give --resume to go on with them")
