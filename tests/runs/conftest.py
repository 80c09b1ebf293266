"""Folders of made-up photos: the stub producer reads their bytes alone."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten files in two folders."""
    folder = tmp_path / "photos"
    for i in range(10):
        path = folder / ("a" if i % 2 else "b") / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([i] * 20))
    return folder


@pytest.fixture
def tree() -> Callable[[Path], dict[str, str]]:
    """Hash of every file below a folder, by relative path."""

    def hashes(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return hashes


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Where a run is to be; nothing is there yet."""
    return tmp_path / "run"
