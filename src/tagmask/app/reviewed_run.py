"""A run as the review page sees it: rows as JSON, masks, and what a person decided about them.

SQLite's connections belong to one thread, in which everything here that reads or writes rows runs.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal, ParamSpec, TypeVar

import numpy as np
from starlette.exceptions import HTTPException

from tagmask.app.described import described_classes, pixels_of
from tagmask.app.gallery import Gallery, GalleryFilter
from tagmask.errors import ImageError, InputError
from tagmask.masks import IndexMap, read_index_png
from tagmask.runs.corrections import keep_correction, mend_marks, remove_correction
from tagmask.runs.database import RunDatabase
from tagmask.runs.lock import holder_of
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow, ReviewState

__all__ = ["ReviewedRun", "Which"]

Given = ParamSpec("Given")
Result = TypeVar("Result")
Which = Literal["newest", "machine", "corrected"]

_COUNTED: Final = 4096
"""Corrected masks whose shares are kept."""
_SAMPLED: Final = 32
"""Images from which the seconds of one are estimated."""


class ReviewedRun:
    """An open run.

    Args:
        path: its folder. A producer may be at work in it.

    Raises:
        InputError: it is not a run, or has no masks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "tagmask-rows")
        self._counted: dict[tuple[str, int], dict[str, int]] = {}
        try:
            self._call(self._open)
        except BaseException:
            self._thread.shutdown()
            raise

    def _open(self) -> None:
        # One connection for everything: see `Run`.
        self.read_only = not (os.access(self.path, os.W_OK) and os.access(self.path / "run.db", os.W_OK))
        self.run = Run(self.path, reviews=not self.read_only)
        try:
            if not (self.path / "classes.json").exists():
                raise InputError(f"{self.path} has no masks to review. Give a run of `tagmask mask`.")
            self.classes = self.run.classes
            if not self.read_only:
                mend_marks(self.run, self.run.database)
        except BaseException:
            self.run.close()
            raise
        self.words = self.classes.names
        self.background = self.words[:1] == ("background",)
        self._gallery = Gallery(self.run)

    def close(self) -> None:
        """Close the database, so that a finished run is one file."""
        self._call(self.run.close)
        self._thread.shutdown()

    def _call(self, job: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Result:
        return self._thread.submit(job, *args, **kwargs).result()

    # -- Reading ---------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        """How many images there are of each status and review."""
        return self._call(self._gallery.counts)

    def state(self, counts: dict[str, int]) -> str:
        """Return "running" while a producer is at work, else "finished" or "stopped"."""
        if holder_of(self.path / "run.lock") is not None:
            return "running"
        return "finished" if counts["done"] + counts["failed"] == counts["all"] else "stopped"

    def row(self, key: str) -> ImageRow:
        """Return the row of an image.

        Raises:
            HTTPException: the run has no image of that key.
        """
        row = self._call(self.run.database.row, key)
        if row is None:
            raise HTTPException(404, "This run has no image of that name.")
        return row

    def images(self, chosen: GalleryFilter, offset: int, limit: int) -> dict[str, object]:
        """Return a page of the gallery."""

        def rows() -> tuple[int, list[ImageRow]]:
            count, ids = self._gallery.page(chosen, offset, limit)
            if not ids:
                return count, []
            where = f"images.id IN ({','.join('?' * len(ids))})"
            found = {row.id: row for row in self.run.database.rows(where, ids, order="id")}
            return count, [found[each] for each in ids if each in found]

        count, found = self._call(rows)
        return {"count": count, "images": [self.image(row) for row in found]}

    def image(self, row: ImageRow) -> dict[str, object]:
        """Return what the gallery shows of an image."""
        corrected = self._corrected_at(row)
        shares = self._shares(row, corrected)
        first = int(self.background)
        return {
            "key": row.key,
            "status": row.status,
            "review": row.review if row.review in ("accepted", "rejected") else None,
            "corrected": corrected is not None,
            "confidence": row.confidence,
            "words": [word for word in self.words[first:] if word in shares],
            "error": row.error,
            "version": f"{round((row.updated or 0) * 1e6):x}-{corrected or 0:x}",
        }

    def detailed_image(self, row: ImageRow) -> dict[str, object]:
        """Return what the page of one image shows."""
        corrected = self._corrected_at(row)
        confidence = None if corrected is not None else row.class_confidence
        shares = self._shares(row, corrected)
        pixels = max(1, (row.width or 0) * (row.height or 0))
        classes = described_classes(self.words, shares, pixels, confidence)
        return {**self.image(row), "width": row.width, "height": row.height, "classes": classes}

    def mask(self, row: ImageRow, which: Which = "newest") -> IndexMap:
        """Return a mask of an image.

        Raises:
            HTTPException: it has no such mask.
        """
        if row.status != "done":
            raise HTTPException(404, "This image has no mask.")
        try:
            if which == "newest":
                return self.run.mask(row)
            path = self.run.output_path(row, "masks" if which == "machine" else "corrected")
            if not path.exists():
                raise HTTPException(404, f"This image has no {which} mask.")
            return read_index_png(path)
        except (ImageError, InputError) as error:
            raise HTTPException(404, "The mask cannot be used. Mask the image again.") from error

    def seconds(self) -> float | None:
        """Return how long the method takes for one image, as the run has measured it; None before that."""
        query = "SELECT seconds FROM images WHERE status = 'done' AND seconds > 0 LIMIT ?"
        found = [float(row[0]) for row in self._call(self.run.database.query, query, (_SAMPLED,))]
        return round(float(np.median(found)), 3) if found else None

    def _corrected_at(self, row: ImageRow) -> int | None:
        """When an image's mask was corrected, in nanoseconds; None if it was not."""
        try:
            return self.run.output_path(row, "corrected").stat().st_mtime_ns
        except (OSError, InputError):
            return None

    def _shares(self, row: ImageRow, corrected: int | None) -> dict[str, int]:
        """Pixels of each word in an image's newest mask."""
        if corrected is None:
            return row.shares or {}
        known = (row.name, corrected)
        shares = self._counted.get(known)
        if shares is None:
            try:
                shares = pixels_of(self.run.mask(row), self.words)
            except (ImageError, InputError):
                return row.shares or {}
            self._counted[known] = shares
            if len(self._counted) > _COUNTED:
                self._counted.pop(next(iter(self._counted)), None)
        return shares

    # -- Writing ---------------------------------------------------------------------------------------------

    def correct(self, key: str, labels: IndexMap) -> dict[str, object]:
        """Keep a corrected mask.

        Raises:
            HTTPException: the run can only be read, or has no such image.
            OutputError: the mask cannot be written.
        """
        self._change(key, lambda row, reviews: keep_correction(self.run, reviews, row, labels))
        row = self.row(key)
        self._call(self._gallery.set_words, row.id, pixels_of(labels, self.words))
        return self.detailed_image(row)

    def take_back(self, key: str) -> dict[str, object]:
        """Remove a corrected mask; raises as `correct` does."""
        self._change(key, lambda row, reviews: remove_correction(self.run, reviews, row))
        return self.detailed_image(self.row(key))

    def review(self, key: str, state: Literal["accepted", "rejected"] | None) -> dict[str, object]:
        """Record what a person decided; None: nothing. Raises as `correct` does."""

        def mark(row: ImageRow, reviews: RunDatabase) -> None:
            undecided: ReviewState = "unseen" if self._corrected_at(row) is None else "corrected"
            reviews.check()
            reviews.set_review(row.id, state or undecided)

        self._change(key, mark)
        return self.detailed_image(self.row(key))

    def _change(self, key: str, change: Callable[[ImageRow, RunDatabase], None]) -> None:
        row = self.row(key)
        if row.status != "done":
            raise HTTPException(409, "This image has no mask yet, so there is nothing to review.")

        def run() -> None:
            if self.read_only:
                raise HTTPException(403, "This run is in a folder that can only be read.")
            change(row, self.run.database)
            self._gallery.refresh()

        self._call(run)
