"""`run.db`: one row an image, in SQLite.

One thread of one producer writes `images`; whoever reviews or imports writes `reviews`; readers open it read
only, also while a producer runs.

On a local disk the database is in WAL mode while it is written: a commit costs no wait for the disk, and a
process killed at any moment loses nothing that was committed. WAL needs memory shared between processes,
which network file systems do not have: there it stays in DELETE mode. A producer that closes it returns it to
DELETE mode, so that a finished run is one file, readable from a read-only folder.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

from tagmask.errors import InputError, OutputError
from tagmask.printable import printable
from tagmask.runs.database_file import (
    APPLICATION,
    check_content,
    connect,
    database_errors,
    is_database,
    is_new,
    is_settled,
)
from tagmask.runs.row_reading import ListedImage, listed, row_of
from tagmask.runs.rows import RESULT_COLUMNS, ImageRow, ReviewState, strict_json

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "RunDatabase"]

_T = TypeVar("_T")

SCHEMA_VERSION = 1
MIGRATIONS: Mapping[int, str] = {}
"""SQL that takes the database from a version to the next one."""

_BATCH, _BATCH_BYTES = 512, 1 << 24
"""Most rows that are in memory, and after how many bytes there are fewer."""

_SCHEMA = """
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    source BLOB NOT NULL,
    size INTEGER,
    mtime_ns INTEGER,
    width INTEGER,
    height INTEGER,
    status TEXT NOT NULL DEFAULT 'todo' CHECK (status IN ('todo', 'done', 'failed')),
    error TEXT,
    seconds REAL,
    tags TEXT,
    scores TEXT,
    shares TEXT,
    class_confidence TEXT,
    confidence REAL,
    absent TEXT,
    record TEXT,
    updated REAL
);
CREATE INDEX images_by_status ON images (status);
CREATE INDEX images_by_confidence ON images (confidence);
CREATE TABLE reviews (
    image INTEGER PRIMARY KEY REFERENCES images (id),
    state TEXT NOT NULL DEFAULT 'unseen' CHECK (state IN ('unseen', 'accepted', 'corrected', 'rejected')),
    stale INTEGER NOT NULL DEFAULT 0 CHECK (stale IN (0, 1)),
    updated REAL
);
"""

_ROWS = "SELECT images.*, reviews.state AS review, reviews.stale FROM images LEFT JOIN reviews ON image = id"
_LISTED = "id, key, name, source, size, mtime_ns, status"
_FORGET = ", ".join(f"{column} = NULL" for column in RESULT_COLUMNS if column != "status")
_SET_RESULT = ", ".join(f"{column} = :{column}" for column in RESULT_COLUMNS)


class RunDatabase:
    """An open `run.db`. Use it in the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writes: bool) -> None:
        self.path = path
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self.writes = writes
        self._file = path.stat() if path.exists() else None

    @classmethod
    def create(cls, path: Path, *, network: bool) -> "RunDatabase":
        """Open a database to write images, made or migrated where need be.

        Args:
            path: the file.
            network: it lies on a network file system.

        Raises:
            InputError: another program's file, or one of a newer tagmask.
            OutputError: it cannot be made or written.
        """
        new = is_new(path)
        if not new and not is_database(path):
            raise InputError(f"{path} is not a database of tagmask. Choose another folder, or move it away.")
        with database_errors(path):
            database = cls(path, connect(path, "rwc" if new else "rw"), writes=True)
            return database._ready(lambda: database._prepare(new, network))

    @classmethod
    def read(cls, path: Path) -> "RunDatabase":
        """Open a database to read it, from a read-only folder too.

        Raises:
            InputError: it is absent, damaged, another program's, of another version, or in use in a folder
                that cannot be written to.
        """
        if not is_database(path):
            raise InputError(f"{path} is not a database of tagmask. Give a folder that tagmask wrote.")
        with database_errors(path, InputError):
            database = cls(path, connect(path, "ro", immutable=is_settled(path)), writes=False)
            return database._ready(lambda: database._check_version(migrate=False))

    @classmethod
    def open_reviews(cls, path: Path) -> "RunDatabase":
        """Open a database to read images and to write reviews, also while a producer runs.

        Raises:
            InputError: as `read` does.
            OutputError: it cannot be written.
        """
        if not is_database(path):
            raise InputError(f"{path} is not a database of tagmask. Give a folder that tagmask wrote.")
        with database_errors(path):
            database = cls(path, connect(path, "rw"), writes=True)
            return database._ready(lambda: database._check_version(migrate=False))

    def _ready(self, prepare: Callable[[], None]) -> "RunDatabase":
        try:
            prepare()
        except BaseException:
            self._connection.close()
            raise
        return self

    def _prepare(self, new: bool, network: bool) -> None:
        execute = self._connection.execute
        begun = not new and execute("PRAGMA user_version").fetchone()[0] > 0
        if begun:  # before the mode is changed, which would be written into one that is refused
            self._check_version(migrate=True)
        elif execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise InputError(
                f"{self.path} is not a database of tagmask. Choose another folder, or move it away."
            )
        execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
        execute("PRAGMA synchronous = NORMAL")
        if begun:
            return
        # In one transaction, with the version: a process killed here leaves an empty file, which is new.
        with self._transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                execute(statement)
            execute(f"PRAGMA application_id = {APPLICATION}")
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _check_version(self, *, migrate: bool) -> None:
        version = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            raise InputError(
                f"{self.path} was written by a newer tagmask (version {version} of its tables; this one "
                f"knows {SCHEMA_VERSION}). Update tagmask."
            )
        if version < SCHEMA_VERSION and not migrate:
            raise InputError(
                f"{self.path} is empty, or of an older tagmask. Run its command again, which mends that."
            )
        check_content(self.path, self._connection, _SCHEMA)
        while version < SCHEMA_VERSION:
            with self._transaction():
                for statement in filter(str.strip, MIGRATIONS[version].split(";")):
                    self._connection.execute(statement)
                version += 1
                self._connection.execute(f"PRAGMA user_version = {version}")

    # -- Reading ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM images")[0])

    def counts(self) -> dict[str, int]:
        """How many images have each status."""
        return {
            **dict.fromkeys(("todo", "done", "failed"), 0),
            **{row[0]: row[1] for row in self.query("SELECT status, count(*) FROM images GROUP BY status")},
        }

    def rows(
        self,
        where: str = "1",
        values: Sequence[object] = (),
        *,
        order: Literal["key", "id", "confidence"] = "key",
    ) -> Iterator[ImageRow]:
        """Rows in the order of a column, a batch at a time.

        No transaction stays open between batches, so that a producer is never held up.

        Args:
            where: an SQL condition on `images` and `reviews`, with `?` for each of `values`.
            values: what it compares with.
            order: lowest first; rows without a confidence come last.
        """
        if order == "confidence":
            yield from self._batches(f"({where}) AND confidence IS NOT NULL", values, order)
            yield from self._batches(f"({where}) AND confidence IS NULL", values, "id")
        else:
            yield from self._batches(where, values, order)

    def _batches(self, where: str, values: Sequence[object], order: str) -> Iterator[ImageRow]:
        after = ""
        last: tuple[object, ...] = ()
        while True:
            query = f"{_ROWS} WHERE ({where}){after} ORDER BY {order}, id LIMIT {_BATCH}"
            batch = self._some(query, (*values, *last))
            for columns in batch:
                yield self._checked(row_of, columns)
            if not batch:
                return
            after, last = f" AND ({order}, id) > (?, ?)", (batch[-1][order], batch[-1]["id"])

    def row(self, key: str) -> ImageRow | None:
        """The row of one image, if there is one."""
        found = self.query(f"{_ROWS} WHERE key = ?", (key,))
        return self._checked(row_of, found[0]) if found else None

    def row_by_id(self, image: int) -> ImageRow:
        """The row of an id that is there."""
        return self._checked(row_of, self._one(f"{_ROWS} WHERE id = ?", (image,)))

    def listing(self) -> Iterator[ListedImage]:
        """Id, key, name, source, size, mtime_ns and status of every image, in the order of ids."""
        last = 0
        while True:
            query = f"SELECT {_LISTED} FROM images WHERE id > ? ORDER BY id LIMIT 4096"
            batch = self._some(query, (last,))
            for columns in batch:
                yield self._checked(listed, columns)
            if not batch:
                return
            last = batch[-1][0]

    def query(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of a query that only reads; values are not checked, as `row` and `rows` check them."""
        with database_errors(self.path, InputError):
            return self._connection.execute(query, tuple(values)).fetchall()

    def roots(self) -> dict[str, Path]:
        """The folder behind the first part of the keys."""
        roots: dict[str, Path] = {}
        after = ""
        while True:
            query = f"SELECT {_LISTED} FROM images WHERE key >= ? ORDER BY key LIMIT 1"
            found = self.query(query, (after,))
            if not found:
                return roots
            key, source = self._checked(listed, found[0])[1:4:2]
            label = key.partition("/")[0]
            parents = Path(os.fsdecode(source)).parents
            if parents:
                roots[label] = parents[min(key.count("/"), len(parents)) - 1]
            after = label + chr(ord("/") + 1)

    # -- Writing ---------------------------------------------------------------------------------------------

    def add(self, images: Iterator[tuple[str, str, bytes, int | None, int | None]]) -> None:
        """Add images to do, all or none: key, name, source, size and mtime_ns of each."""
        with self._transaction():
            self._connection.executemany(
                "INSERT INTO images (key, name, source, size, mtime_ns) VALUES (?, ?, ?, ?, ?)", images
            )

    def redo(self, images: Iterator[tuple[bytes, int | None, int | None, int]], stale: Sequence[int]) -> None:
        """Set images to be done again, all or none, and forget what was recorded of them.

        Args:
            images: source, size, mtime_ns and id of each.
            stale: ids of those whose source changed: their corrections are of the image as it was.
        """
        with self._transaction():
            self._connection.executemany(
                f"UPDATE images SET source = ?, size = ?, mtime_ns = ?, status = 'todo', {_FORGET} "
                "WHERE id = ?",
                images,
            )
            self._connection.executemany(
                "UPDATE reviews SET stale = 1 WHERE image = ? AND state != 'unseen'",
                ((image,) for image in stale),
            )

    def move(self, sources: Iterator[tuple[bytes, int]]) -> None:
        """Record where images lie now that did not change themselves: source and id of each."""
        with self._transaction():
            self._connection.executemany("UPDATE images SET source = ? WHERE id = ?", sources)

    def set_result(self, image: int, columns: Mapping[str, object]) -> None:
        """Record what became of an image; on the disk's way when this returns."""
        with self._transaction():
            self._connection.execute(
                f"UPDATE images SET {_SET_RESULT}, updated = :updated WHERE id = :id",
                {**columns, "updated": time.time(), "id": image},
            )

    def fail(
        self, image: int, error: str, seconds: float | None = None, record: Mapping[str, object] | None = None
    ) -> None:
        """Record why an image could not be done."""
        columns: dict[str, object] = dict.fromkeys(RESULT_COLUMNS)
        columns |= {"status": "failed", "error": printable(error), "seconds": seconds}
        columns["record"] = None if record is None else strict_json("record", record)
        self.set_result(image, columns)

    def set_review(self, image: int, state: ReviewState, *, stale: bool = False) -> None:
        """Record what a person decided about an image."""
        with self._transaction():
            self._connection.execute(
                "INSERT INTO reviews (image, state, stale, updated) VALUES (?, ?, ?, ?) ON CONFLICT (image) "
                "DO UPDATE SET state = excluded.state, stale = excluded.stale, updated = excluded.updated",
                (image, state, int(stale), time.time()),
            )

    def check(self) -> None:
        """See that its file is still in its place.

        Raises:
            OutputError: it was deleted or replaced.
        """
        if self._file is None or not self.path.exists() or not os.path.samestat(self.path.stat(), self._file):
            raise OutputError(f"{self.path} was deleted or replaced during the run; nothing more is written.")

    def close(self) -> None:
        """Close it; of a database that was written, leave one file."""
        if self.writes:
            # Fails where a reader has it open: then the next producer, or reader, finds a WAL file. Left out
            # where another database lies in its place: SQLite would remove that one's WAL file.
            with suppress(sqlite3.Error, OutputError):
                self.check()
                self._connection.execute("PRAGMA busy_timeout = 200")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._connection.execute("PRAGMA journal_mode = DELETE")
        with suppress(sqlite3.Error):
            self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _checked(self, read: Callable[[sqlite3.Row], _T], columns: sqlite3.Row) -> _T:
        try:
            return read(columns)
        except ValueError as error:
            raise InputError(
                f"{self.path}: its row {columns['id']!r} is damaged: {error}. Make the run again."
            ) from error

    def _some(self, query: str, values: Sequence[object]) -> list[sqlite3.Row]:
        """The first rows of a query, fewer if they are long; none only if there are none."""
        rows, size = [], 0
        with database_errors(self.path, InputError):
            for row in self._connection.execute(query, tuple(values)):
                rows.append(row)
                size += sum(len(value) for value in row if isinstance(value, str | bytes))
                if size > _BATCH_BYTES:
                    break
        return rows

    def _one(self, query: str, values: Sequence[object] = ()) -> sqlite3.Row:
        return self.query(query, values)[0]
