"""Runs that are changed, and a folder that nobody may write to."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tagmask.exporters import EXPORTERS, ExportOptions
from tagmask.masks import index_png
from tagmask.runs.merge import merge_runs
from tagmask.runs.reader import Run
from tests.runs.stub_producer import produce


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
