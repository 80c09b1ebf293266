import shutil
import sqlite3
from pathlib import Path

import pytest

from tagmask.errors import InputError, OutputError
from tagmask.runs import database as module
from tagmask.runs.database import RunDatabase
from tagmask.runs.rows import ImageResult

IMAGES = [
    "id",
    "key",
    "name",
    "source",
    "size",
    "mtime_ns",
    "width",
    "height",
    "status",
    "error",
    "seconds",
    "tags",
    "scores",
    "shares",
    "class_confidence",
    "confidence",
    "absent",
    "record",
    "updated",
]


def fill(database, count=5):
    database.add((f"p/{i}.png", f"{i}", f"/p/{i}.png".encode(), 1, 2) for i in range(count))


def test_the_tables_are_those_of_the_contract(tmp_path):
    RunDatabase.create(tmp_path / "run.db", network=False).close()
    with sqlite3.connect(tmp_path / "run.db") as connection:
        columns = {
            table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    assert columns == {"images": IMAGES, "reviews": ["image", "state", "stale", "updated"]}
    connection.close()


@pytest.mark.parametrize(("network", "mode"), [(False, "wal"), (True, "delete")])
def test_wal_only_on_local_disks_and_one_file_after_a_clean_end(tmp_path, network, mode):
    path = tmp_path / "run.db"
    database = RunDatabase.create(path, network=network)
    fill(database)
    assert database._connection.execute("PRAGMA journal_mode").fetchone()[0] == mode
    database.close()
    assert [file.name for file in tmp_path.iterdir()] == ["run.db"]
    assert path.read_bytes()[18:20] == b"\1\1"


def test_results_are_read_back_and_forgotten_when_they_are_to_be_made_again(tmp_path):
    result = ImageResult(
        width=4, height=3, seconds=0.5, tags=["kot 猫"], scores={"kot 猫": 0.25}, shares={"kot 猫": 12},
        class_confidence={"kot 猫": 0.5}, confidence=0.5, absent=["dog"], record={"pixels": [[0, 1, 2]]},
    )  # fmt: skip
    database = RunDatabase.create(tmp_path / "run.db", network=False)
    fill(database, 2)
    database.set_result(1, result.columns())
    database.fail(2, "torn\x1b[1m")
    done, failed = database.rows()
    for name in ("width", "seconds", "scores", "shares", "class_confidence", "confidence", "record"):
        assert getattr(done, name) == getattr(result, name)
    assert (done.tags, done.absent, done.status) == (("kot 猫",), ("dog",), "done")
    assert (failed.status, failed.error) == ("failed", "torn\\x1b[1m")
    before = done.updated
    database.redo(iter([(b"/new", 7, 8, 1)]), [])
    again = database.row("p/0.png")
    assert (again.status, again.source, again.size, again.mtime_ns) == ("todo", Path("/new"), 7, 8)
    assert all(getattr(again, name) is None for name in ("tags", "scores", "confidence", "record", "width"))
    assert before is not None
    database.close()


@pytest.mark.parametrize(
    "result",
    [
        ImageResult(scores=[float("nan")]),
        ImageResult(confidence=float("nan")),
        ImageResult(record={"x": float("inf")}),
    ],
)
def test_what_is_no_number_is_never_recorded(result):
    with pytest.raises(InputError, match="check the weights"):
        result.columns()


def test_older_tables_are_migrated_and_newer_ones_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.db"
    database = RunDatabase.create(path, network=False)
    fill(database)
    database.close()
    monkeypatch.setattr(module, "SCHEMA_VERSION", 2)
    monkeypatch.setattr(module, "MIGRATIONS", {1: "ALTER TABLE images ADD COLUMN extra TEXT"})
    with pytest.raises(InputError, match="older tagmask"):
        RunDatabase.read(path)
    RunDatabase.create(path, network=False).close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(extra), count(*) FROM images").fetchone() == (0, 5)
    connection.close()
    monkeypatch.setattr(module, "SCHEMA_VERSION", 1)
    before = path.read_bytes()
    for opened in (
        RunDatabase.read,
        RunDatabase.open_reviews,
        lambda p: RunDatabase.create(p, network=False),
    ):
        with pytest.raises(InputError, match="newer tagmask"):
            opened(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["text", "sqlite"])
def test_files_of_other_programs_are_refused_untouched(tmp_path, content):
    path = tmp_path / "run.db"
    if content == "text":
        path.write_text("not a database, but quite long " * 10)
    else:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE images (id)")
            connection.execute("PRAGMA user_version = 1")
        connection.close()
    before = path.read_bytes()
    for opened in (
        RunDatabase.read,
        RunDatabase.open_reviews,
        lambda p: RunDatabase.create(p, network=False),
    ):
        with pytest.raises(InputError, match="not a database of tagmask"):
            opened(path)
    assert path.read_bytes() == before


def test_rows_come_in_order_over_many_batches_while_a_producer_and_a_review_write(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BATCH", 7)
    path = tmp_path / "run.db"
    producer = RunDatabase.create(path, network=False)
    fill(producer, 100)
    for i in range(1, 91):
        producer.set_result(i, ImageResult(confidence=(i * 37 % 10) / 10).columns())
    reader, review = RunDatabase.read(path), RunDatabase.open_reviews(path)
    seen = []
    for i, row in enumerate(reader.rows(order="confidence")):
        seen.append((row.confidence, row.id))
        if i == 50:
            producer.set_result(100, ImageResult(seconds=1.0).columns())
            review.set_review(3, "corrected")
    by_confidence = sorted(seen, key=lambda item: (item[0] is None, item[0], item[1]))
    assert seen == by_confidence
    assert len(seen) == 100
    keys = [row.key for row in reader.rows()]
    assert keys == sorted(keys)
    assert [row.id for row in reader.rows("state = ?", ["corrected"])] == [3]
    assert producer.counts() == {"todo": 9, "done": 91, "failed": 0}
    for opened in (reader, review, producer):
        opened.close()


def test_a_changed_source_marks_only_what_a_person_reviewed(tmp_path):
    database = RunDatabase.create(tmp_path / "run.db", network=False)
    fill(database, 3)
    database.set_review(1, "corrected")
    database.set_review(2, "unseen")
    database.redo(iter([]), [1, 2, 3])
    assert [(row.review, row.stale) for row in database.rows()] == [
        ("corrected", True),
        ("unseen", False),
        ("unseen", False),
    ]
    database.close()


def test_a_finished_database_is_read_from_a_read_only_folder(tmp_path, monkeypatch):
    run = tmp_path / "run"
    run.mkdir()
    database = RunDatabase.create(run / "run.db", network=False)
    fill(database)
    database.close()
    (run / "run.db").chmod(0o444)
    run.chmod(0o555)
    monkeypatch.setattr(module.os, "access", lambda *_: False)  # as for users other than root
    try:
        reader = RunDatabase.read(run / "run.db")
        assert len(list(reader.rows())) == 5
        reader.close()
        assert [file.name for file in run.iterdir()] == ["run.db"]
    finally:
        run.chmod(0o755)


def test_a_database_that_a_killed_producer_left_is_whole(tmp_path):
    path = tmp_path / "run.db"
    database = RunDatabase.create(path, network=False)
    fill(database, 50)
    for file in list(tmp_path.iterdir()):  # the files as they are at this moment
        (tmp_path / "copy").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "copy")
    copy = RunDatabase.read(tmp_path / "copy/run.db")
    assert len(copy) == 50
    copy.close()
    database.close()


def test_a_full_disk_is_one_error_that_says_what_to_do(tmp_path):
    database = RunDatabase.create(tmp_path / "run.db", network=False)
    fill(database, 1)
    database._connection.execute("PRAGMA max_page_count = 1")
    many = ((f"q/{i}", f"q{i}", b"x" * 1000, 1, 1) for i in range(1000))
    with pytest.raises(OutputError, match=r"full.*same command again"):
        database.add(many)
    assert len(database) == 1
    database.close()


def test_a_deleted_or_replaced_database_is_noticed(tmp_path):
    path = tmp_path / "run.db"
    database = RunDatabase.create(path, network=False)
    database.check()
    path.rename(tmp_path / "other.db")
    with pytest.raises(OutputError, match="deleted or replaced"):
        database.check()
    shutil.copy(tmp_path / "other.db", path)
    with pytest.raises(OutputError, match="deleted or replaced"):
        database.check()
    database._connection.close()
