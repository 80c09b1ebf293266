"""Converted models in the cache folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.engines.stored_model import read_model, write_model
from tagmask.files import cache_dir

KEY, OTHER = "a" * 64, "b" * 64


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMASK_HOME", str(tmp_path / "home"))


def save(target: Path) -> None:
    target.write_text("<net/>")
    target.with_suffix(".bin").write_bytes(b"1234")


def folder(key: str = KEY) -> Path:
    return cache_dir() / "engines" / key


def test_a_model_is_read_as_it_was_written() -> None:
    assert read_model(KEY) is None
    write_model(KEY, save)
    path = read_model(KEY)
    assert path == folder() / "model.xml"
    assert path.with_suffix(".bin").read_bytes() == b"1234"
    assert [file.name for file in folder().parent.iterdir()] == [KEY]  # nothing temporary is left


def change(name: str, content: bytes) -> Callable[[], object]:
    return lambda: (folder() / name).write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        change("model.xml", b"<net />"),
        change("model.bin", b"1235"),
        change("model.bin", b""),
        change("sha256", b""),
        lambda: (folder() / "model.bin").unlink(),
        lambda: (folder() / "sha256").unlink(),
        lambda: (folder() / "model.bin").rename(folder() / "x") and (folder() / "model.bin").symlink_to("x"),
    ],
)
def test_a_damaged_model_is_not_read_and_is_replaced(damage: Callable[[], object]) -> None:
    write_model(KEY, save)
    damage()
    assert read_model(KEY) is None
    write_model(KEY, save)
    assert read_model(KEY) is not None


def test_a_model_under_another_name_is_not_read() -> None:
    write_model(KEY, save)
    folder().rename(folder(OTHER))
    assert read_model(OTHER) is None


def test_a_model_that_cannot_be_written_leaves_nothing_and_is_no_error() -> None:
    def fail(target: Path) -> None:
        save(target)
        raise RuntimeError("no space left")

    write_model(KEY, fail)
    assert list(folder().parent.iterdir()) == []
    folder().parent.rmdir()
    folder().parent.write_text("a file in the way")
    write_model(KEY, save)
    assert read_model(KEY) is None
