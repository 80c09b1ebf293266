"""A run to import into."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tagmask.runs.reader import Run
from tests.importers.made import make_run

Imported = Callable[..., dict[str, np.ndarray]]


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made"))


@pytest.fixture
def run(made_run: Path, tmp_path: Path) -> Iterator[Run]:
    with Run(shutil.copytree(made_run, tmp_path / "run")) as opened:
        yield opened


@pytest.fixture
def imported(run: Run, tmp_path: Path) -> Imported:
    """Imports JSON or a path, and gives the corrected masks."""

    def go(name: str, content: object, **options: object) -> dict[str, np.ndarray]:
        path = content
        if not isinstance(content, Path):
            path = tmp_path / "export.json"
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        run.import_corrections(name, path, **options)
        return {
            row.key.partition("/")[2]: run.mask(row)
            for row in run
            if run.output_path(row, "corrected").exists()
        }

    return go
