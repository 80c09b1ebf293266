"""Databases of someone else: one error, and nothing is written outside of the run."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import InputError, TagmaskError
from tagmask.runs.database import RunDatabase
from tagmask.runs.folder import RunFolder
from tagmask.runs.reader import Run
from tagmask.runtime.folders import find_images
from tests.runs.hostile import change, outside, run
from tests.runs.stub_producer import CLASSES, IDENTITY, produce

__all__ = ["outside", "run"]

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"

SCHEMAS: dict[str, tuple[str, ...]] = {
    "a view in place of a table": (
        "ALTER TABLE images RENAME TO held",
        f"CREATE VIEW images AS SELECT * FROM held WHERE ({FOREVER} SELECT max(i) FROM n)",
    ),
    "a view beside": (f"CREATE VIEW more AS {FOREVER} SELECT * FROM n",),
    "a trigger": (
        "CREATE TRIGGER harmless AFTER UPDATE ON images BEGIN DELETE FROM images; END",
    ),
    "another table": ("CREATE TABLE more (a)",),
    "a virtual table": ("CREATE VIRTUAL TABLE more USING fts4(a)",),
    "a generated column": (
        "DROP INDEX images_by_confidence",
        "ALTER TABLE images DROP COLUMN confidence",
        "ALTER TABLE images ADD COLUMN confidence AS (hex(zeroblob(1000000)))",
    ),
    "a table without a column": ("ALTER TABLE reviews DROP COLUMN updated",),
    "no reviews": ("DROP TABLE reviews",),
    "another index": ("CREATE INDEX more ON images (abs(size))",),
    "an index under our name": (
        "DROP INDEX images_by_status",
        "CREATE INDEX images_by_status ON images (abs(size))",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", SCHEMAS)
def test_databases_of_another_schema_are_refused_untouched(
    run: Path, photos: Path, tree: Callable[[Path], dict[str, str]], what: str
) -> None:
    change(run, *SCHEMAS[what])
    before = tree(run)
    for opened in (
        RunDatabase.read,
        RunDatabase.open_reviews,
        lambda path: RunDatabase.create(path, network=False),
    ):
        with pytest.raises(InputError, match=r"run\.db is not a database of tagmask: "):
            opened(run / "run.db")
    with pytest.raises(InputError, match=r"run\.db is not a database of tagmask: "):
        produce(photos, run)
    assert tree(run) == before


def test_a_database_of_another_program_without_a_version_is_not_written(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "run.db") as connection:
        connection.execute("CREATE TABLE passwords (id)")
    connection.close()
    before = (tmp_path / "run.db").read_bytes()
    for opened in (RunDatabase.read, lambda path: RunDatabase.create(path, network=False)):
        with pytest.raises(InputError, match=r"run\.db"):
            opened(tmp_path / "run.db")
    assert (tmp_path / "run.db").read_bytes() == before


def test_pages_that_lead_in_circles_are_found_when_the_database_is_opened(
    tmp_path: Path, photos: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(400):
        (many / f"{i:03d}.png").write_bytes(bytes([i % 256] * 8))
    with RunFolder.open(tmp_path / "run", IDENTITY, CLASSES, network=False) as folder:
        assert folder.plan(find_images([many])).todo == 400
    path = tmp_path / "run" / "run.db"
    connection = sqlite3.connect(path)
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'images'").fetchone()
    connection.close()
    data = bytearray(path.read_bytes())
    page = (root - 1) * size
    assert data[page] == 5  # an interior page: its cells lead to other pages
    cells = [int.from_bytes(data[page + 12 + 2 * i : page + 14 + 2 * i], "big") for i in range(2)]
    first = data[page + cells[0] : page + cells[0] + 4]
    data[page + cells[1] : page + cells[1] + 4] = first
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"run\.db is damaged"):
        Run(tmp_path / "run")


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_of_a_database_is_one_error_or_rows(tmp_path: Path, run: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    good = (run / "run.db").read_bytes()
    for _ in range(60):
        data = bytearray(good)
        for at in rng.integers(0, len(data), int(rng.integers(1, 30))):
            data[at] = rng.integers(0, 256)
        if rng.random() < 0.2:
            del data[int(rng.integers(0, len(data))) :]
        (run / "run.db").write_bytes(data)
        said = ""
        try:
            with Run(run) as rows:
                assert all(row.name for row in rows)
                assert len(rows) >= 0
        except TagmaskError as error:
            said = str(error)
        assert not said or "run.db" in said


@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_files_of_the_database_that_are_no_files_are_refused_at_once(
    tmp_path: Path, run: Path, photos: Path, outside: Path, ending: str, kind: str
) -> None:
    path = run / f"run.db{ending}"
    if not ending:
        path.rename(tmp_path / "private.db")
    if kind == "link":
        path.symlink_to(tmp_path / "private.db" if not ending else outside / "a.png")
    elif kind == "dangling link":
        path.symlink_to(outside / "new.db")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    for read in (lambda: Run(run), lambda: produce(photos, run)):
        with pytest.raises(InputError, match=r"run\.db"):
            read()
    assert not (outside / "new.db").exists()


def test_a_journal_cannot_name_a_file_to_delete(run: Path, photos: Path, outside: Path) -> None:
    victim = os.fsencode(outside / "a.png")
    total = sum(victim) & 0xFFFFFFFF
    magic = bytes.fromhex("d9d505f920a163d7")
    tail = len(victim).to_bytes(4, "big") + total.to_bytes(4, "big") + magic
    (run / "run.db-journal").write_bytes(magic + bytes(504) + bytes(4) + victim + tail)
    for read in (lambda: Run(run), lambda: produce(photos, run)):
        with pytest.raises(InputError, match=r"run\.db-journal belongs to several databases"):
            read()
