"""Write a run as a table: one CSV row per image."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from tagmask.exporters.export import Export
from tagmask.exporters.image_names import ImageNames
from tagmask.files import atomic_open
from tagmask.runs.rows import ImageRow

__all__ = ["write_csv"]

_COLUMNS = (
    "image", "output", "status", "error", "tags", "absent", "confidence", "shares", "scores", "review",
    "stale",
)  # fmt: skip


def write_csv(export: Export, target: Path) -> None:
    """Write one line per image: its name, its tags and how sure they are.

    Several values in one cell are separated by "; ", as in `cat; dog` or `cat=0.31; dog=0.02`. Shares are
    parts of the image, 0..1.

    Args:
        export: what to export, of any run of images.
        target: the file to write, UTF-8.

    Raises:
        OutputError: the file cannot be written.
    """
    names = ImageNames(export.run)
    with atomic_open(target) as file:
        lines = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        writer = csv.writer(lines)
        writer.writerow(_COLUMNS)
        for row in export.rows():
            writer.writerow(_cells(names.of(row), row))
        lines.flush()
        lines.detach()


def _cells(name: str, row: ImageRow) -> list[str]:
    pixels = (row.width or 0) * (row.height or 0)
    shares = {word: count / pixels for word, count in (row.shares or {}).items()} if pixels else {}
    scores = row.scores if isinstance(row.scores, dict) else {}
    return [
        name,
        row.name,
        row.status,
        row.error or "",
        "; ".join(row.tags or ()),
        "; ".join(row.absent or ()),
        "" if row.confidence is None else f"{row.confidence:.4f}",
        _values(shares),
        _values(scores),
        row.review,
        "yes" if row.stale else "",
    ]


def _values(values: Mapping[str, float]) -> str:
    return "; ".join(f"{word}={value:.4f}" for word, value in values.items())
