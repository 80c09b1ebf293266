"""How far a run has come, without opening it for longer than a moment."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tagmask.errors import InputError
from tagmask.runs.database_file import connect, is_database

__all__ = ["run_progress"]


def run_progress(path: Path) -> tuple[int, int | None]:
    """Return how many images of a run are done or failed, and how many there are; None before it has begun.

    A database that stays open keeps its producer from leaving one file, so this one is closed at once.
    """
    database = path / "run.db"
    if not is_database(database):
        return 0, None
    try:
        with closing(connect(database, "ro")) as connection:
            counts = dict(connection.execute("SELECT status, count(*) FROM images GROUP BY status"))
    except (sqlite3.Error, InputError):  # it is just being made
        return 0, None
    total = sum(counts.values())
    return total - counts.get("todo", 0), total or None
