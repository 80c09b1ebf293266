"""What `tagmask tag` prints and writes of an image."""

import csv
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from tagmask.cli.console import bold, green
from tagmask.cli.options import TagFormat
from tagmask.printable import printable
from tagmask.results import Tags
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.lines import atomic_lines, json_lines
from tagmask.runtime.tag_files import names_to_write, tag_lines
from tagmask.strict_json import json_text

__all__ = ["WriteTags", "is_one_file", "output_file", "print_json", "record_of", "table_of"]

WriteTags: TypeAlias = Callable[[FoundImage, Tags | None, str | None], None]
"""Writes the tags of an image, or why there are none."""

_FILE_ENDINGS = (".jsonl", ".json", ".csv", ".txt")
_COLUMNS = ("path", "tags", "threshold", "scores", "error")


def is_one_file(out: Path, format_: TagFormat | None) -> bool:
    """Whether --out is one file of tags; else it is a run folder.

    A file is what exists and is no folder (also a device or a pipe), a new name with the ending of a file of
    tags, and everything if --format is given.
    """
    if format_ is not None:
        return True
    return not out.is_dir() if out.exists() else out.suffix.lower() in _FILE_ENDINGS


@contextmanager
def output_file(out: Path | None, images: Sequence[FoundImage], format_: TagFormat) -> Iterator[WriteTags]:
    """Open the output file and yield a function that writes one image's tags to it.

    Raises:
        InputError: a name that the format cannot hold.
        OutputError: the file cannot be written.
    """
    if out is None:
        yield lambda image, tags, error: None
    elif format_ is TagFormat.paper:
        names = dict(zip(images, names_to_write(images), strict=True))
        with tag_lines(out) as write_line:

            def write_paper(image: FoundImage, tags: Tags | None, error: str | None) -> None:
                if tags is not None:
                    write_line(names[image], tags.chosen)

            yield write_paper
    elif format_ is TagFormat.csv:
        with atomic_lines(out) as write:
            write(_csv(_COLUMNS))
            yield lambda image, tags, error: write(_csv(_cells(str(image.path), tags, error)))
    else:
        with json_lines(out) as write_record:
            yield lambda image, tags, error: write_record(record_of(str(image.path), tags, error))


def record_of(path: str, tags: Tags | None, error: str | None) -> dict[str, object]:
    """Return an image's tags, or why there are none, as a JSON object."""
    if tags is None:
        return {"path": path, "error": error}
    record: dict[str, object] = {"path": path, "tags": list(tags.names)}
    record["scores"] = _rounded(tags.words, tags.scores.tolist())
    record["threshold"] = round(tags.threshold, 6)
    if tags.thresholds is not None:
        record["thresholds"] = _rounded(tags.words, tags.thresholds)
    return record


def print_json(record: Mapping[str, object]) -> str:
    """Return a line of JSON that the terminal can show; JSON readers see no difference."""
    text = json_text(record, ensure_ascii=False)
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    return text if unicode and printable(text) == text else json_text(record)


def table_of(path: str, tags: Tags) -> str:
    """Format the tags in a line, then every word's score, best first, with the threshold in its place."""
    names = printable(", ".join(tags.names)) or "none of the words"
    rows = [f"{bold(path)}: {names}"]
    order = sorted(range(len(tags.words)), key=lambda c: (-float(tags.scores[c]), c))
    if tags.thresholds is not None:
        return "\n".join([*rows, *(f"{_row(tags, c)}  (over {tags.thresholds[c]:.3f})" for c in order)])
    above = [c for c in order if tags.scores[c] > tags.threshold]
    for c in above:
        rows.append(_row(tags, c))
    rows.append(f"  {tags.threshold:.3f}  ---- threshold ----")
    for c in order[len(above) :]:
        rows.append(_row(tags, c))
    return "\n".join(rows)


def _row(tags: Tags, c: int) -> str:
    row = f"  {tags.scores[c]:.3f}  {printable(tags.words[c])}"
    return green(f"{row}  *") if c in tags.chosen else row


def _rounded(words: Sequence[str], values: Iterable[float]) -> dict[str, float]:
    return {word: round(float(value), 6) for word, value in zip(words, values, strict=True)}


def _cells(path: str, tags: Tags | None, error: str | None) -> list[str]:
    if tags is None:
        return [path, "", "", "", error or ""]
    scores = "; ".join(f"{word}={score:.4f}" for word, score in zip(tags.words, tags.scores, strict=True))
    return [path, "; ".join(tags.names), f"{tags.threshold:.4f}", scores, ""]


def _csv(cells: Sequence[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(cells)
    return buffer.getvalue()
