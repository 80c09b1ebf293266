"""Masks that a person corrected: kept in a run, and taken back.

The file comes first, then the row: a process killed between them leaves a mask without its mark, or a mark
without its mask, which `mend_marks` finds.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from tagmask.errors import OutputError
from tagmask.masks import IndexMap, index_png
from tagmask.runs.database import RunDatabase
from tagmask.runs.folder import write_correction
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow

__all__ = ["corrected_names", "keep_correction", "mend_marks", "remove_correction"]


def keep_correction(run: Run, database: RunDatabase, row: ImageRow, labels: IndexMap) -> None:
    """Write a corrected mask, and mark its image as corrected.

    Args:
        run: the run. A producer may be at work in it.
        database: of the run, open for reviews.
        row: the image.
        labels: of the size and the dtype of the run's own mask.

    Raises:
        InputError: its place is a link that leads out of the run.
        OutputError: it cannot be written.
    """
    database.check()
    write_correction(run.output_path(row, "corrected"), index_png(labels))
    if row.review != "corrected" or row.stale:
        database.set_review(row.id, "corrected")


def remove_correction(run: Run, database: RunDatabase, row: ImageRow) -> None:
    """Remove a corrected mask; its image is then unseen, unless it was rejected.

    Raises:
        InputError: its place is a link that leads out of the run.
        OutputError: it cannot be removed.
    """
    database.check()
    path = run.output_path(row, "corrected")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be removed: {error.strerror}.") from error
    if row.review in ("corrected", "accepted"):
        database.set_review(row.id, "unseen")


def corrected_names(run: Run) -> Iterator[str]:
    """Names of the images with a corrected mask."""
    root = run.path / "corrected"
    for folder, _, files in os.walk(root):
        for file in files:
            if file.endswith(".png") and not file.startswith(".tagmask-"):
                yield (Path(folder) / file).relative_to(root).as_posix().removesuffix(".png")


def mend_marks(run: Run, database: RunDatabase) -> int:
    """Mark images whose corrected mask is there, and unmark those whose mask is gone.

    Returns:
        How many marks were wrong: of images whose correction was interrupted.
    """
    names = set(corrected_names(run))
    wrong = 0
    for name in names:
        for row in database.rows("images.name = ?", (name,)):
            if row.review == "unseen" and row.status == "done":
                database.set_review(row.id, "corrected")
                wrong += 1
    marked = [row for row in database.rows("state = 'corrected'") if row.name not in names]
    for row in marked:
        database.set_review(row.id, "unseen")
    return wrong + len(marked)
