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
from typing import Literal

from tagmask.errors import InputError, OutputError
from tagmask.printable import printable
from tagmask.runs.rows import RESULT_COLUMNS, ImageRow, ReviewState, row_of, strict_json

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "RunDatabase", "is_database"]

SCHEMA_VERSION = 1
MIGRATIONS: Mapping[int, str] = {}
"""SQL that takes the database from a version to the next one."""

_APPLICATION = 0x7467_6D6B  # "tgmk": tells our files from other SQLite files
_BUSY_MS = 5_000
_BATCH = 512

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
_FORGET = ", ".join(f"{column} = NULL" for column in RESULT_COLUMNS if column != "status")
_SET_RESULT = ", ".join(f"{column} = :{column}" for column in RESULT_COLUMNS)


class RunDatabase:
    """An open `run.db`. Use it in the thread that opened it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, writes: bool) -> None:
        self.path = path
        self._connection = connection
        self._connection.row_factory = sqlite3.Row
        self._writes = writes
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
        new = not path.exists() or not path.stat().st_size
        if not new and not is_database(path):
            raise InputError(f"{path} is not a database of tagmask. Choose another folder, or move it away.")
        with _errors(path):
            database = cls(path, _connect(path, "rwc" if new else "rw"), writes=True)
            try:
                database._prepare(new, network)
            except BaseException:
                database._connection.close()
                raise
        return database

    @classmethod
    def read(cls, path: Path) -> "RunDatabase":
        """Open a database to read it, from a read-only folder too.

        Raises:
            InputError: it is absent, another program's, of another version, or in use in a folder that
                cannot be written to.
        """
        if not is_database(path):
            raise InputError(f"{path} is not a database of tagmask. Give a folder that tagmask wrote.")
        with _errors(path, InputError):
            database = cls(path, _connect(path, "ro", immutable=_is_settled(path)), writes=False)
            try:
                database._check_version(migrate=False)
            except BaseException:
                database._connection.close()
                raise
        return database

    @classmethod
    def open_reviews(cls, path: Path) -> "RunDatabase":
        """Open a database to read images and to write reviews, also while a producer runs.

        Raises:
            InputError: as `read` does.
            OutputError: it cannot be written.
        """
        if not is_database(path):
            raise InputError(f"{path} is not a database of tagmask. Give a folder that tagmask wrote.")
        with _errors(path):
            database = cls(path, _connect(path, "rw"), writes=True)
            try:
                database._check_version(migrate=False)
            except BaseException:
                database._connection.close()
                raise
        return database

    def _prepare(self, new: bool, network: bool) -> None:
        execute = self._connection.execute
        begun = not new and execute("PRAGMA user_version").fetchone()[0] > 0
        if begun:  # before the mode is changed, which would be written into one that is refused
            self._check_version(migrate=True)
        execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}")
        execute("PRAGMA synchronous = NORMAL")
        if begun:
            return
        # In one transaction, with the version: a process killed here leaves an empty file, which is new.
        with self._transaction():
            for statement in filter(str.strip, _SCHEMA.split(";")):
                execute(statement)
            execute(f"PRAGMA application_id = {_APPLICATION}")
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
            **{row[0]: row[1] for row in self._all("SELECT status, count(*) FROM images GROUP BY status")},
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
            batch = [row_of(row) for row in self._all(query, (*values, *last))]
            yield from batch
            if len(batch) < _BATCH:
                return
            after, last = f" AND ({order}, id) > (?, ?)", (getattr(batch[-1], order), batch[-1].id)

    def row(self, key: str) -> ImageRow | None:
        """The row of one image, if there is one."""
        found = self._all(f"{_ROWS} WHERE key = ?", (key,))
        return row_of(found[0]) if found else None

    def row_by_id(self, image: int) -> ImageRow:
        """The row of an id that is there."""
        return row_of(self._one(f"{_ROWS} WHERE id = ?", (image,)))

    def listing(self) -> Iterator[tuple[int, str, str, bytes, int | None, int | None, str]]:
        """Id, key, name, source, size, mtime_ns and status of every image, in the order of ids."""
        last = 0
        columns = "id, key, name, source, size, mtime_ns, status"
        while True:
            query = f"SELECT {columns} FROM images WHERE id > ? ORDER BY id LIMIT 4096"
            batch = [tuple(row) for row in self._all(query, (last,))]
            yield from batch
            if not batch:
                return
            last = batch[-1][0]

    def roots(self) -> dict[str, Path]:
        """The folder behind the first part of the keys."""
        roots: dict[str, Path] = {}
        after = ""
        while True:
            query = "SELECT key, source FROM images WHERE key >= ? ORDER BY key LIMIT 1"
            found = self._all(query, (after,))
            if not found:
                return roots
            key, source = found[0]
            label = key.partition("/")[0]
            parents = Path(os.fsdecode(source)).parents
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
        if self._writes:
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
        with _errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def _all(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        with _errors(self.path, InputError):
            return self._connection.execute(query, tuple(values)).fetchall()

    def _one(self, query: str, values: Sequence[object] = ()) -> sqlite3.Row:
        return self._all(query, values)[0]


def is_database(path: Path) -> bool:
    """Whether a file is a database of tagmask; so is an empty one, and one whose tables were not yet made."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    application = int.from_bytes(head[68:72], "big")
    made = int.from_bytes(head[60:64], "big")  # user_version
    return not head or (head.startswith(b"SQLite format 3\0") and (application == _APPLICATION or not made))


def _is_settled(path: Path) -> bool:
    """Whether nothing will change a database: its folder is read-only, and no transaction is left over.

    SQLite then need not make the files that go with WAL mode, nor take locks.
    """
    left = (path.with_name(path.name + ending) for ending in ("-wal", "-journal"))
    return not os.access(path.parent, os.W_OK) and not any(
        file.exists() and file.stat().st_size for file in left
    )


def _connect(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_MS / 1000, isolation_level=None)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


@contextmanager
def _errors(path: Path, kind: Callable[[str], Exception] = OutputError) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        doing = "written" if kind is OutputError else "read"
        raise kind(
            f"{path} cannot be {doing}: {error}. See that the disk has room and that the folder is there and "
            "may be written to, then run the same command again."
        ) from error
