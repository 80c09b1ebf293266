"""A run folder as its readers see it."""

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from tagmask.errors import InputError
from tagmask.masks import IndexMap, read_index_png
from tagmask.runs.classes import Classes, read_classes
from tagmask.runs.database import RunDatabase
from tagmask.runs.identity import RunIdentity, read_identity
from tagmask.runs.names import image_keys
from tagmask.runs.rows import ImageRow, ReviewState, Status
from tagmask.runtime.folders import FoundImage

if TYPE_CHECKING:
    from tagmask.importers import ImportReport

__all__ = ["Run"]

_ENDINGS = {"overlays": ".jpg", "features": ".safetensors"}


class Run:
    """The images of a run: iterate it for its rows, in the order of their keys.

    Nothing is held in memory; a producer may write meanwhile.

    Args:
        path: the run's folder.
        reviews: also write reviews, through the same connection. To open `run.db` twice in one process would
            let go of the system's locks on it, and a producer that ends could then take it for its own.

    Raises:
        InputError: the folder is not a run, or cannot be read.
        OutputError: with `reviews`, it cannot be written.
    """

    def __init__(self, path: str | Path, *, reviews: bool = False) -> None:
        self.path = Path(path)
        self._real = Path(os.path.realpath(path))
        if not (self.path / "run.json").exists():
            raise InputError(
                f"{self.path} is not a run: it has no run.json. Give a folder that tagmask wrote."
            )
        self.identity: RunIdentity = read_identity(self.path / "run.json")
        open_database = RunDatabase.open_reviews if reviews else RunDatabase.read
        self._database = open_database(self.path / "run.db")

    @property
    def database(self) -> RunDatabase:
        """Its rows, to be used in the thread that opened the run."""
        return self._database

    def reviews(self) -> RunDatabase:
        """Return its rows, to write reviews; a connection that only reads is replaced by one that does both.

        Raises:
            OutputError: the database cannot be written.
        """
        if not self._database.writes:
            self._database.close()
            self._database = RunDatabase.open_reviews(self.path / "run.db")
        return self._database

    @property
    def kind(self) -> str:
        """mask, tag, seeds, ..."""
        return self.identity.kind

    @property
    def words(self) -> tuple[str, ...]:
        """Name of each value in masks, background included; of a run without masks, the words asked for."""
        if (self.path / "classes.json").exists():
            return self.classes.names
        words = self.identity.fields.get("words", ())
        return tuple(map(str, words)) if isinstance(words, list | tuple) else ()

    @cached_property
    def classes(self) -> Classes:
        """What the values in masks mean.

        Raises:
            InputError: a run without masks.
        """
        return read_classes(self.path / "classes.json")

    @property
    def counts(self) -> dict[str, int]:
        """How many images are todo, done and failed."""
        return self._database.counts()

    @property
    def failed(self) -> Iterator[ImageRow]:
        """Images that could not be done; `row.error` says why."""
        return self.select(status="failed")

    def __len__(self) -> int:
        return len(self._database)

    def __iter__(self) -> Iterator[ImageRow]:
        return self._database.rows()

    def __getitem__(self, key: str) -> ImageRow:
        row = self._database.row(key)
        if row is None:
            raise KeyError(key)
        return row

    def select(
        self,
        *,
        status: Status | None = None,
        word: str | None = None,
        review: ReviewState | None = None,
        min_confidence: float | None = None,
        max_confidence: float | None = None,
        order: Literal["key", "id", "confidence"] = "key",
    ) -> Iterator[ImageRow]:
        """Some of the rows.

        Args:
            status: only those of this status.
            word: only those with a tag or a region of this word.
            review: only those that a person left in this state.
            min_confidence: only those at least so sure.
            max_confidence: only those at most so sure.
            order: lowest first.
        """
        has_word = (
            "(EXISTS (SELECT 1 FROM json_each(images.tags) WHERE value = ?)"
            " OR EXISTS (SELECT 1 FROM json_each(images.shares) AS share WHERE share.key = ?))"
        )
        conditions: dict[str, tuple[object, ...]] = {}
        if status is not None:
            conditions["status = ?"] = (status,)
        if word is not None:
            conditions[has_word] = (word, word)
        if review is not None:
            conditions["coalesce(state, 'unseen') = ?"] = (review,)
        if min_confidence is not None:
            conditions["confidence >= ?"] = (min_confidence,)
        if max_confidence is not None:
            conditions["confidence <= ?"] = (max_confidence,)
        values = [value for group in conditions.values() for value in group]
        return self._database.rows(" AND ".join(conditions) or "1", values, order=order)

    def rows_of(self, images: Sequence[FoundImage]) -> list[ImageRow | None]:
        """The row of each image, also after its folder was moved; None for images that are not in the run."""
        return [self._database.row(key) for key in image_keys(images, self._database.roots)]

    def mask_path(self, row: ImageRow) -> Path:
        """Where an image's mask is: the one that a person corrected, else the one that the run wrote.

        Raises:
            InputError: it is a link that leads out of the run.
        """
        corrected = self.output_path(row, "corrected")
        return corrected if corrected.exists() else self.output_path(row, "masks")

    def overlay_path(self, row: ImageRow) -> Path:
        """Where an image's overlay is, if the run wrote overlays.

        Raises:
            InputError: it is a link that leads out of the run.
        """
        return self.output_path(row, "overlays")

    def output_path(self, row: ImageRow, folder: str) -> Path:
        """Where an output of an image is, or would be.

        Args:
            row: the image.
            folder: "masks", "overlays", "corrected" or "features".

        Raises:
            InputError: it is a link that leads out of the run.
        """
        path = self.path / folder / f"{row.name}{_ENDINGS.get(folder, '.png')}"
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self._real):
            raise InputError(f"{path} leads out of its run, to {real}. Put the file itself in its place.")
        return path

    def mask(self, row: ImageRow) -> IndexMap:
        """An image's mask; values index `words`, or are `classes.ignore_index`.

        Raises:
            ImageError: it is not there, or cannot be read.
            InputError: it has a value that no word names, or another size than was recorded.
        """
        path, classes = self.mask_path(row), self.classes
        labels = read_index_png(path)
        highest = int(labels.max(where=labels != classes.ignore_index, initial=0))
        if highest >= len(classes.names):
            raise InputError(
                f"The mask {path} has label {highest}, which no word names. Correct it, or make it again."
            )
        if (row.height or labels.shape[0], row.width or labels.shape[1]) != labels.shape:
            raise InputError(
                f"The mask {path} is {labels.shape}, but its image was {(row.height, row.width)} (h, w). "
                "Correct it, or make it again."
            )
        return labels

    def export(self, to: str, out: str | os.PathLike[str] | None = None, **options: Any) -> Path:  # noqa: ANN401
        """Write the results for another tool, as `tagmask export` does.

        Args:
            to: a format, such as "coco" or "yolo".
            out: folder to write to. Default: the run's own.
            **options: of `tagmask.exporters.ExportOptions`, such as `min_area=20`.

        Returns:
            The file or folder that was written.

        Raises:
            InputError: an unknown format or option, results that the format cannot hold, or something is in
                the way.
            OutputError: a file cannot be written.
        """
        from tagmask.exporters import export_run

        return export_run(self, to, None if out is None else Path(out), **options)

    def import_corrections(
        self,
        source: str,
        path: str | os.PathLike[str],
        **options: Any,  # noqa: ANN401
    ) -> "ImportReport":
        """Bring corrected masks back from another tool, as `tagmask import` does.

        Args:
            source: a format, such as "coco" or "label-studio".
            path: file, archive or folder that the tool exported.
            **options: of `tagmask.importers.ImportOptions`, such as `names={"kitty": "cat"}`.

        Returns:
            How many masks were corrected and unchanged, and which images are not in the run.

        Raises:
            InputError: an unknown format or option, or files or images that are invalid; nothing was written.
            OutputError: a mask cannot be written.
        """
        from tagmask.importers import import_run

        return import_run(self, source, Path(path), **options)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def __enter__(self) -> "Run":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, kind={self.kind!r}, images={len(self)})"
