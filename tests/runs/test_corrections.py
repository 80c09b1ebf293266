"""Corrections: a mask and its mark, also after an interruption; and how far a run has come."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tagmask.errors import OutputError
from tagmask.masks import read_index_png
from tagmask.runs.corrections import corrected_names, keep_correction, mend_marks, remove_correction
from tagmask.runs.folder import RunFolder, write_correction
from tagmask.runs.progress import run_progress
from tagmask.runs.reader import Run
from tests.runs.stub_producer import CLASSES, IDENTITY, produce

LABELS = np.full((40, 50), 2, np.uint8)


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Iterator[Run]:
    produce(photos, tmp_path / "run")
    with Run(tmp_path / "run", reviews=True) as opened:
        yield opened


def first(run: Run) -> str:
    return next(iter(run)).key


@pytest.mark.parametrize(
    ("before", "after"), [("unseen", "unseen"), ("accepted", "unseen"), ("rejected", "rejected")]
)
def test_a_correction_comes_and_goes(run: Run, before: str, after: str) -> None:
    key = first(run)
    keep_correction(run, run.database, run[key], LABELS)
    assert run[key].review == "corrected"
    assert np.array_equal(run.mask(run[key]), LABELS)
    assert list(corrected_names(run)) == [run[key].name]
    if before != "unseen":
        run.database.set_review(run[key].id, before)  # type: ignore[arg-type]
    remove_correction(run, run.database, run[key])
    assert run[key].review == after
    assert np.array_equal(run.mask(run[key]), read_index_png(run.output_path(run[key], "masks")))
    remove_correction(run, run.database, run[key])  # twice is once


def test_marks_follow_the_files(run: Run) -> None:
    rows = list(run)
    keep_correction(run, run.database, rows[0], LABELS)
    run.output_path(rows[0], "corrected").unlink()  # killed before its mark went
    write_correction(run.output_path(rows[1], "corrected"), b"png")  # killed before its mark came
    write_correction(run.output_path(rows[2], "corrected"), b"png")
    run.database.set_review(rows[2].id, "accepted")  # as is right
    part = run.path / "corrected" / ".tagmask-1-0123456789abcdef.part"
    part.write_bytes(b"half")
    assert mend_marks(run, run.database) == 2
    assert [run[row.key].review for row in rows[:4]] == ["unseen", "corrected", "accepted", "unseen"]
    assert mend_marks(run, run.database) == 0


def test_a_run_that_was_deleted_is_not_made_anew(run: Run) -> None:
    key = first(run)
    row = run[key]
    (run.path / "run.db").unlink()
    with pytest.raises(OutputError, match="deleted or replaced"):
        keep_correction(run, run.database, row, LABELS)
    assert not (run.path / "corrected").exists()


def test_progress(photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert run_progress(path) == (0, None)
    produce(photos, path)
    assert run_progress(path) == (10, 10)
    with RunFolder.open(path, IDENTITY, CLASSES, network=False) as folder:
        folder.database.redo(iter([(b"x", None, None, 1)]), ())
        assert run_progress(path) == (9, 10)
    assert [file.name for file in path.glob("run.db*")] == ["run.db"]
