"""The file of a run's database, which may come from anywhere: checked before and after SQLite opens it.

A database can hold views, triggers and generated columns that run when it is read or written, and pages that
lead in circles; beside it may lie links, and a journal that names a file to delete.
"""

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tagmask.errors import InputError, OutputError
from tagmask.printable import printable
from tagmask.reading import open_regular

__all__ = [
    "APPLICATION",
    "check_content",
    "connect",
    "database_errors",
    "is_database",
    "is_new",
    "is_settled",
]

APPLICATION = 0x7467_6D6B  # "tgmk": tells our files from other SQLite files
_BUSY_MS = 5_000
_LARGEST_VALUE = 1 << 24
"""Largest row, in bytes."""
_BESIDE = ("-wal", "-shm", "-journal")
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def is_database(path: Path) -> bool:
    """Whether a file is a database of tagmask; so is an empty one, and one whose tables were not yet made."""
    try:
        with open_regular(path, links=False) as file:
            head = file.read(100)
    except OSError:
        return False
    application = int.from_bytes(head[68:72], "big")
    made = int.from_bytes(head[60:64], "big")  # user_version
    return not head or (head.startswith(b"SQLite format 3\0") and (application == APPLICATION or not made))


def is_new(path: Path) -> bool:
    """Whether a database is still to be made: there is nothing, or an empty file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and not status.st_size


def is_settled(path: Path) -> bool:
    """Whether nothing will change a database: its folder is read-only, and no transaction is left over.

    SQLite then need not make the files that go with WAL mode, nor take locks.
    """
    left = (path.with_name(path.name + ending) for ending in ("-wal", "-journal"))
    return not os.access(path.parent, os.W_OK) and not any(
        file.exists() and file.stat().st_size for file in left
    )


def connect(path: Path, mode: str, *, immutable: bool = False) -> sqlite3.Connection:
    """Open a database with what protects from a hostile one.

    Args:
        path: the file.
        mode: of SQLite's: "ro", "rw" or "rwc".
        immutable: nothing will change it.

    Raises:
        InputError: files of other kinds lie beside it, or a journal that names another file.
        sqlite3.Error: it cannot be opened.
    """
    for ending in _BESIDE:
        _check_beside(path.with_name(path.name + ending))
    uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_MS / 1000, isolation_level=None)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for pragma in (f"busy_timeout = {_BUSY_MS}", "trusted_schema = OFF", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check_beside(path: Path) -> None:
    """Refuse what SQLite would write through, or a journal that has it delete another file."""
    if not os.path.lexists(path):
        return
    try:
        with open_regular(path, links=False) as file:
            if path.name.endswith("-journal") and file.seek(0, os.SEEK_END) >= 8:
                file.seek(-8, os.SEEK_END)
                foreign = file.read() == _JOURNAL_MAGIC
            else:
                foreign = False
    except FileNotFoundError:  # a producer has just closed the database
        return
    except OSError as error:
        raise InputError(f"{path} is in the way: {error.strerror}. Move it away.") from error
    if foreign:
        raise InputError(f"{path} belongs to several databases, which tagmask never has. Move it away.")


@contextmanager
def database_errors(path: Path, kind: Callable[[str], Exception] = OutputError) -> Iterator[None]:
    """Turn SQLite's errors into those of tagmask; OutputError says that it cannot be written."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as error:  # the latter: SQLite's message quotes damaged text
        doing, said = "written" if kind is OutputError else "read", printable(str(error))
        if isinstance(error, UnicodeError) or type(error) is sqlite3.DatabaseError:
            raise kind(f"{path} is damaged ({said}). Make the run again, or give a copy.") from error
        raise kind(
            f"{path} cannot be {doing}: {said}. See that the disk has room and that the folder is there and "
            "may be written to, then run the same command again."
        ) from error


def check_content(path: Path, connection: sqlite3.Connection, schema: str) -> None:
    """Check that a database holds tagmask's tables and nothing else, and that its pages fit each other.

    Args:
        path: the file, for error messages.
        connection: open.
        schema: SQL of the tables. More columns may be there.

    Raises:
        InputError: it holds other tables, views, triggers or columns, or is damaged.
        sqlite3.Error: it cannot be read.
    """
    indexes, tables = _described(schema)
    found: set[str] = set()
    for kind, name, table, sql in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        if kind == "table" and name in tables and not str(sql).upper().startswith("CREATE VIRTUAL"):
            found.add(name)
        elif not (kind == "index" and table in tables and (sql is None or indexes.get(name) == sql)):
            what = printable(f"{str(kind)[:20]} {str(name)[:80]}")
            raise InputError(
                f"{path} is not a database of tagmask: it holds the {what}, which tagmask did not make. "
                "Give a folder that tagmask wrote."
            )
    for table, columns in tables.items():
        known = {(row[1], row[6]) for row in connection.execute(f"PRAGMA table_xinfo({table})")}
        hidden = any(row_hidden for _, row_hidden in known)
        if table not in found or hidden or not columns <= {name for name, _ in known}:
            raise InputError(
                f"{path} is not a database of tagmask: its table {table} is absent or has other columns. "
                "Give a folder that tagmask wrote."
            )
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        reason = printable(" ".join(str(state).split())[:120])
        raise InputError(f"{path} is damaged ({reason}). Make the run again, or give a copy that is whole.")


def _described(schema: str) -> tuple[Mapping[str, str], Mapping[str, frozenset[str]]]:
    """SQL of the indexes and columns of the tables that a schema makes."""
    model: Final = sqlite3.connect(":memory:")
    try:
        model.executescript(schema)
        objects = model.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        indexes = {name: sql for kind, name, sql in objects if kind == "index"}
        tables = {
            name: frozenset(row[1] for row in model.execute(f"PRAGMA table_info({name})"))
            for kind, name, _ in objects
            if kind == "table"
        }
    finally:
        model.close()
    return indexes, tables
