"""The file of records, one line per image, from which an interrupted run resumes.

The first line describes the run, each further line is the record of one image. Each line is one write: a
killed run leaves at most one incomplete line, at the end, which the next run removes. Scores are always
computed from this file, so they do not depend on interruptions.
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
    """The result of one image: pixel counts, or scored tags, or the reason for its failure."""

    id: str
    pixels: tuple[Cell, ...] | None = None
    """Pixel counts by true and predicted class (`metrics.ConfusionMatrix.cells`)."""
    scores: tuple[float, ...] | None = None
    """Score of each tag, float32."""
    chosen: tuple[int, ...] | None = None
    """Indices of the chosen tags."""
    failed: str | None = None
    """Kind of failure: image, mask, size, labels, tags, memory, method."""
    reason: str | None = None
    """The error message."""

    def line(self) -> str:
        """Format as JSON without the fields that are None."""
        fields = {key: value for key, value in asdict(self).items() if value is not None}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _record(line: Mapping[str, Any]) -> Record:
    pixels, scores, chosen = line.get("pixels"), line.get("scores"), line.get("chosen")
    return Record(
        id=str(line["id"]),
        pixels=None if pixels is None else tuple((int(t), int(p), int(n)) for t, p, n in pixels),
        scores=None if scores is None else tuple(map(float, scores)),
        chosen=None if chosen is None else tuple(map(int, chosen)),
        failed=line.get("failed"),
        reason=line.get("reason"),
    )


class Journal:
    """A file of records, open for appending; created by `open_journal`."""

    def __init__(self, path: Path, done: frozenset[str]) -> None:
        self.path = path
        self.done = done
        """Ids of the images that earlier runs have scored."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)

    def write(self, record: Record) -> None:
        """Append one record in a single write.

        Raises:
            OutputError: the file cannot be written.
        """
        data = (record.line() + "\n").encode("utf-8", "backslashreplace")
        try:
            if os.write(self._file, data) != len(data):
                raise OSError("The disk is full.")
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
    """Start a file of records, or resume one.

    Resuming removes an incomplete last line, and the images that failed, which are tried again.

    Args:
        path: the file.
        header: description of the run, by topic; JSON values.
        resume: continue with existing records; otherwise they are an error.

    Raises:
        InputError: the file has records and `resume` is off, or they are those of another run, or the
            file is not a file of records.
        OutputError: the file cannot be written.
    """
    lines: list[str] = []
    done: set[str] = set()
    if path.exists():
        _check_same(path, _header(path), header, resume=resume)
        for record in read_journal(path):
            if record.failed is None:
                done.add(record.id)
                lines.append(record.line())
    with atomic_open(path) as file:
        for line in (json.dumps(header, ensure_ascii=False), *lines):
            file.write((line + "\n").encode("utf-8", "backslashreplace"))
    return Journal(path, frozenset(done))


def read_journal(path: Path) -> Iterator[Record]:
    """Read the records of a file; an incomplete last line is skipped.

    Raises:
        InputError: the file is unreadable, or any other line is damaged.
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
                f"Line {number} of {path} is damaged ({error}). Remove that line and run with --resume."
            ) from error


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield from file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The results {path} are unreadable: {error}. Give another --out.") from error


def _header(path: Path) -> Mapping[str, Any]:
    first = next(_lines(path), "")
    with suppress(ValueError):
        header = json.loads(first)
        if isinstance(header, dict) and first.endswith("\n"):
            return header
    raise InputError(f"{path} is not a file of bench results: its first line is invalid. Give another --out.")


def _check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any], *, resume: bool) -> None:
    expected = json.loads(json.dumps(new))  # tuples are lists in the file
    differ = sorted(key for key in {*old, *expected} if old.get(key) != expected.get(key))
    if differ:
        raise InputError(
            f"{path} has results of a run with different settings ({', '.join(differ)}). "
            "Results of different runs cannot be mixed: give another --out, or remove that file."
        )
    if not resume:
        raise InputError(f"{path} already has results of this run. Give --resume to continue.")
