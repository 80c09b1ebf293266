"""Runs of someone else: nothing in them crashes a reader, or has it read or write outside of them."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import ImageError, InputError, OutputError
from tagmask.exporters import EXPORTERS
from tagmask.masks import index_png
from tagmask.runs.classes import read_classes
from tagmask.runs.failures import FailureGuard
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity, is_run_file, read_identity
from tagmask.runs.lock import holder_of
from tagmask.runs.merge import merge_runs
from tagmask.runs.reader import Run
from tagmask.runtime.folders import find_images
from tests.runs.hostile import change, outside, read_all, run
from tests.runs.stub_producer import CLASSES, IDENTITY, produce

__all__ = ["outside", "run"]

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
