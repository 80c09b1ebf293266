"""Runs of someone else: nothing in them crashes a reader, or has it read or write outside of them."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import ImageError, InputError, OutputError, TagmaskError
from tagmask.exporters import EXPORTERS, ExportOptions
from tagmask.masks import index_png
from tagmask.runs.classes import read_classes
from tagmask.runs.database import RunDatabase
from tagmask.runs.failures import FailureGuard
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity, is_run_file, read_identity
from tagmask.runs.lock import holder_of
from tagmask.runs.merge import merge_runs
from tagmask.runs.reader import Run
from tagmask.runtime.folders import find_images
from tests.runs.stub_producer import CLASSES, IDENTITY, produce


@pytest.fixture
def run(tmp_path: Path, photos: Path) -> Path:
    produce(photos, tmp_path / "run")
    return tmp_path / "run"


def change(run: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    connection = sqlite3.connect(run / "run.db")
    for statement in statements:
        connection.execute(statement, values)
    connection.commit()
    connection.close()


def read_all(run: Path, out: Path) -> None:
    """All that reads a run: its rows and masks, its exports, a merge."""
    with Run(run) as rows:
        for row in rows:
            rows.mask(row)
    for name, exporter in EXPORTERS.items():
        with Run(run) as rows:
            exporter.write(rows, out / name, ExportOptions(photos="none"))
    merge_runs([run], out / "merged")


@pytest.fixture
def outside(tmp_path: Path, tree: Callable[[Path], dict[str, str]]) -> Iterator[Path]:
    """A folder that nobody may write to."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "a.png").write_bytes(index_png(np.ones((40, 50), np.uint8)))
    before = tree(tmp_path / "private")
    yield folder
    assert tree(tmp_path / "private") == before


# -- Rows ----------------------------------------------------------------------------------------------------

ROWS: dict[str, tuple[str, object]] = {
    "a name that leads out": ("name", "../../private/a"),
    "an absolute name": ("name", "/etc/hostname"),
    "an empty name": ("name", ""),
    "a name of bytes": ("name", b"a"),
    "a name with a zero": ("name", "a\0b"),
    "a key that leads out": ("key", "photos/../../x.png"),
    "a key of bytes": ("key", b"photos/x.png"),
    "a source of text": ("source", "/photos/x.png"),
    "a source with a zero": ("source", b"/a\0b"),
    "a source that leads out": ("source", b"/photos/../../x.png"),
    "a width of text": ("width", "wide"),
    "no height": ("height", 0),
    "a negative height": ("height", -3),
    "a confidence of text": ("confidence", "sure"),
    "an infinite confidence": ("confidence", float("inf")),
    "seconds of bytes": ("seconds", b"1"),
    "an error of bytes": ("error", b"\xff"),
    "tags that are no JSON": ("tags", "[cat"),
    "tags in tags": ("tags", '[["cat"]]'),
    "tags of numbers": ("tags", "[1]"),
    "deep tags": ("tags", "[" * 100_000),
    "shares of text": ("shares", '{"cat": "all"}'),
    "shares as a list": ("shares", "[1, 2]"),
    "scores of NaN": ("scores", '{"cat": NaN}'),
    "huge scores": ("scores", '{"cat": 1e999}'),
    "scores of 400 digits": ("scores", '{"cat": 1' + "0" * 400 + "}"),
    "confidences of objects": ("class_confidence", '{"cat": {}}'),
    "a record as a list": ("record", "[]"),
    "absent words as text": ("absent", '"cat"'),
    "JSON of bytes": ("shares", b"{}"),
    "a time of text": ("updated", "now"),
    "a size of text": ("size", "large"),
    "a large value": ("record", '{"x": "' + "y" * 17_000_000 + '"}'),
}


@pytest.mark.parametrize("what", ROWS)
def test_rows_that_no_run_writes_are_one_error(tmp_path: Path, run: Path, outside: Path, what: str) -> None:
    column, value = ROWS[what]
    change(run, f"UPDATE images SET {column} = ? WHERE id = 3", values=(value,))
    for read in (lambda: list(Run(run)), lambda: read_all(run, tmp_path / "out")):
        with pytest.raises(InputError, match=r"run/run\.db"):
            read()
    assert not (tmp_path / "out" / "merged").exists()


@pytest.mark.parametrize("what", ["a name that leads out", "an absolute name", "a source of text"])
def test_rows_are_checked_before_a_producer_writes_by_them(
    run: Path, photos: Path, outside: Path, what: str
) -> None:
    column, value = ROWS[what]
    change(run, f"UPDATE images SET {column} = ?, status = 'todo' WHERE id = 3", values=(value,))
    with pytest.raises(InputError, match=rf"run\.db: its row 3 is damaged: its {column} is"):
        produce(photos, run)


@pytest.mark.parametrize("name", ["../../private/a", "/private/a"])
def test_rows_of_keys_alone_have_no_files_outside(
    tmp_path: Path, run: Path, outside: Path, name: str
) -> None:
    name = name if name.startswith(".") else str(outside / "a")
    change(
        run, "UPDATE images SET key = ?1, name = ?1, source = CAST(?1 AS BLOB) WHERE id = 3", values=(name,)
    )
    with Run(run) as rows, pytest.raises(InputError, match="leads out of its run"):
        rows.mask(rows[name])
    with pytest.raises(InputError, match="leads out of its run"):
        merge_runs([run], tmp_path / "out")
    with (
        RunFolder.open(run, IDENTITY, CLASSES, network=False) as folder,
        pytest.raises(OutputError, match="leads out of the run"),
    ):
        folder.write_mask(name, b"")


def test_an_empty_source_is_read(run: Path, photos: Path) -> None:
    change(run, "UPDATE images SET source = x''")
    with Run(run) as rows:
        assert len(list(rows)) == 10
        assert rows.rows_of(find_images([photos]))[0] is not None


def test_long_rows_come_in_small_batches(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.runs.database._BATCH_BYTES", 100)
    with Run(run) as rows:
        assert [row.id for row in rows.select(order="id")] == list(range(1, 11))
        assert len(list(rows.select(order="confidence"))) == 10
        assert len(rows._database._some("SELECT * FROM images", ())) == 1


# -- The database --------------------------------------------------------------------------------------------

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


# -- Masks, links --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["masks", "overlays", "corrected"])
def test_links_do_not_lead_out_of_a_run(tmp_path: Path, run: Path, outside: Path, folder: str) -> None:
    with Run(run) as rows:
        row = next(iter(rows))
    path = run / folder / f"{row.name}{'.jpg' if folder == 'overlays' else '.png'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "a.png")
    with pytest.raises(InputError, match=rf"run/{folder}/.* leads out of its run"):
        merge_runs([run], tmp_path / "merged")
    if folder != "overlays":
        for name in ("coco", "report"):
            with Run(run) as rows:
                if name == "report":  # shows each image with what is wrong with it
                    EXPORTERS[name].write(rows, tmp_path / "out")
                    assert "leads out of its run" in (tmp_path / "out").read_text()
                else:
                    with pytest.raises(InputError, match="leads out of its run"):
                        EXPORTERS[name].write(rows, tmp_path / "out")


@pytest.mark.parametrize("folder", ["masks", "overlays"])
def test_a_producer_does_not_write_through_a_folder_that_is_a_link(
    run: Path, photos: Path, outside: Path, folder: str
) -> None:
    shutil.rmtree(run / folder)
    (run / folder).symlink_to(outside, target_is_directory=True)
    with pytest.raises(InputError, match=rf"run/{folder} is a link"):
        produce(photos, run)


def test_a_run_may_lie_behind_a_link_itself(tmp_path: Path, run: Path) -> None:
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    read_all(tmp_path / "link", tmp_path / "out")
    assert len(json.loads((tmp_path / "out" / "coco").read_bytes())["images"]) == 10


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((40, 50), 3, np.uint8), "has label 3, which no word names"),
        (np.full((40, 50), 65535, np.uint16), "has label 65535, which no word names"),
        (np.zeros((50, 40), np.uint8), r"is \(50, 40\), but its image was \(40, 50\)"),
    ],
)
def test_masks_that_do_not_fit_their_run_are_not_exported(
    tmp_path: Path, run: Path, labels: np.ndarray, message: str
) -> None:
    with Run(run) as rows:
        rows.mask_path(next(iter(rows))).write_bytes(index_png(labels))
        with pytest.raises(InputError, match=rf"run/masks/.*\.png {message}"):
            EXPORTERS["coco"].write(rows, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipe_in_place_of_a_mask_is_refused_at_once(tmp_path: Path, run: Path) -> None:
    with Run(run) as rows:
        row = next(iter(rows))
        path = rows.mask_path(row)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(ImageError, match="pipe"):
            rows.mask(row)
    with pytest.raises(InputError, match="pipe"):
        merge_runs([run], tmp_path / "out")


def test_tracebacks_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run.log").symlink_to(tmp_path / "victim")
    FailureGuard(tmp_path / "run.log").failed(KeyError("x"))
    assert (tmp_path / "victim").read_text() == "mine"
    (tmp_path / "run.log").unlink()
    os.mkfifo(tmp_path / "run.log")
    FailureGuard(tmp_path / "run.log").failed(KeyError("x"))
    (tmp_path / "run.log").unlink()
    FailureGuard(tmp_path / "run.log").failed(KeyError("x"))
    assert "KeyError" in (tmp_path / "run.log").read_text()


# -- run.json, classes.json, run.lock ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        b'{"tagmask_run": 1}',
        b'{"tagmask_run": NaN}',
        b'{"tagmask_run": "1"}',
        b'{"tagmask_run": 1, "kind": "mask", "fields": 3, "recorded": {}, "results_version": 1}',
        b'{"tagmask_run": 1, "kind": "mask", "fields": {}, "recorded": [], "results_version": 1e999}',
        b'{"tagmask_run": 1, "kind": "mask", "fields": {}, "recorded": {}, "results_version": {}}',
        b'{"tagmask_run": 1, "kind": "mask", "fields": {"a": '
        + b"[" * 400
        + b"]" * 400
        + b'}, "recorded": {}, "results_version": 1, "fingerprint": ""}',
        b'{"tagmask_run": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
    ],
)
def test_a_hostile_run_file_is_one_error(run: Path, content: bytes) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json"):
        Run(run)


def test_deep_fields_with_the_right_fingerprint_are_refused(tmp_path: Path) -> None:
    deep: list[object] = []
    for _ in range(100):
        deep = [deep]
    (tmp_path / "run.json").write_bytes(RunIdentity("mask", {"deep": deep}).encode())
    with pytest.raises(InputError, match="nested too deeply"):
        read_identity(tmp_path / "run.json")


@pytest.mark.parametrize("name", ["run.json", "classes.json", "run.lock"])
def test_pipes_in_place_of_small_files_are_refused_at_once(
    tmp_path: Path, run: Path, photos: Path, name: str
) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert holder_of(run / "run.lock") is None
    assert is_run_file(run / "run.json") == (name != "run.json")
    with pytest.raises((InputError, OutputError), match=name.replace(".", r"\.")):
        produce(photos, run)
    if name != "run.lock":
        with pytest.raises(InputError, match=name.replace(".", r"\.")), Run(run) as rows:
            assert rows.words


@pytest.mark.parametrize(
    "content",
    [
        '{"ignore_index": 1e999, "classes": [{"index": 0, "name": "a"}]}',
        '{"ignore_index": 0, "classes": [{"index": 0, "name": "a"}]}',
        '{"ignore_index": 65536, "classes": [{"index": 0, "name": "a"}]}',
        '{"ignore_index": -1, "classes": [{"index": 0, "name": "a"}]}',
        '{"ignore_index": 255, "classes": ' + "[" * 100_000,
        '{"ignore_index": 255, "classes": {"a": 1}}',
        '{"ignore_index": 255, "classes": [[]]}',
    ],
)
def test_hostile_classes_are_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(InputError, match=r"classes\.json"):
        read_classes(tmp_path / "classes.json")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"tagmask_lock": 3}',
        b'{"tagmask_lock": {"host": 1, "pid": 1, "since": "", "began": "", "token": ""}}',
        b'{"tagmask_lock": {"host": "", "pid": "../self", "since": "", "began": "", "token": ""}}',
        b'{"tagmask_lock": {"host": "", "pid": 1e999, "since": "", "began": "", "token": ""}}',
    ],
)
def test_a_hostile_lock_is_nobodys(run: Path, content: bytes) -> None:
    (run / "run.lock").write_bytes(content)
    assert holder_of(run / "run.lock") is None
