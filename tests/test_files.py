"""Atomic writes: a complete file or none, whatever fails while it is written."""

import errno
import hashlib
import os
import re
import stat
import threading
from pathlib import Path

import pytest

from tagmask.errors import InputError, OutputError
from tagmask.files import atomic_open, cache_dir, file_hash, write_bytes


@pytest.fixture
def _umask_027():
    old = os.umask(0o027)
    yield
    os.umask(old)


def listing(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["a.bin", "new/deep/a.bin", "x" * 255])
@pytest.mark.parametrize("as_str", [False, True])
def test_write_and_replace(tmp_path: Path, name: str, as_str: bool) -> None:
    path = tmp_path / name
    for data in (b"first\0", b"", b"x" * 100_000):
        write_bytes(str(path) if as_str else path, data)
        assert path.read_bytes() == data
        assert listing(path.parent) == [path.name]


def test_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_bytes("a.bin", b"x")
    assert listing(tmp_path) == ["a.bin"]


def test_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with atomic_open(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert [name.startswith(".") for name in listing(tmp_path)] == [True, False]
        file.seek(0)
        file.write(b"N")
    assert path.read_bytes() == b"New"


def test_the_temporary_file_names_its_process_and_is_on_the_disk_before_it_replaces_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.extend(listing(tmp_path)), fsync(fd)))
    write_bytes(tmp_path / "a.bin", b"x")
    (name,) = flushed
    assert re.fullmatch(rf"\.tagmask-{os.getpid()}-[0-9a-f]{{16}}\.part", name)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_block_fails(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def fail() -> None:
        with atomic_open(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["a.bin"]


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"a\.bin cannot be written: No space left"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert listing(tmp_path) == ["a.bin"]


def test_write_errors_carry_no_file_name() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    device = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
    with device, pytest.raises(OSError, match="No space") as caught:
        device.write(b"x")
    assert caught.value.filename is None  # how `atomic_open` recognises a write error


def test_error_about_another_file_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_open(tmp_path / "a.bin"):
        (tmp_path / "gone").read_bytes()
    assert listing(tmp_path) == []


@pytest.mark.parametrize("below", ["file/a.bin", "file/deep/er/a.bin"])
def test_parent_is_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"a\.bin cannot be written: a file is where the folder"):
        write_bytes(tmp_path / below, b"x")


def test_target_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder cannot be written: Is a directory"):
        write_bytes(tmp_path / "folder", b"x")
    assert listing(tmp_path) == ["folder"]


@pytest.mark.parametrize("name", ["a\0b", "x" * 256])
def test_impossible_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / name, b"x")
    assert listing(tmp_path) == []


def test_no_permission(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputError, match=r"a\.bin cannot be written: Permission denied"):
        write_bytes(tmp_path / "a.bin", b"x")


@pytest.mark.usefixtures("_umask_027")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.bin", b"x")
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640


def test_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_bytes() == b"old"
    assert (tmp_path / "link").read_bytes() == b"new"


def test_many_writers_one_file(tmp_path: Path) -> None:
    """A reader always finds the complete content of one writer."""
    path = tmp_path / "a.bin"
    contents = [bytes([i]) * 50_000 for i in range(6)]
    write_bytes(path, contents[0])
    torn = []

    def write(content: bytes) -> None:
        for _ in range(5):
            write_bytes(path, content)
            if path.read_bytes() not in contents:
                torn.append(content[:1])

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not torn
    assert listing(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TAGMASK_HOME": "/t", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/t"),
        ({"TAGMASK_HOME": "~/t", "HOME": "/h"}, "/h/t"),
        ({"TAGMASK_HOME": "", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/tagmask"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/tagmask"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/tagmask"),
        ({"HOME": "/h"}, "/h/.cache/tagmask"),
    ],
)
def test_cache_dir(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("TAGMASK_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)
    assert not cache_dir().exists()


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAGMASK_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless(path: object) -> str:
        return "~"

    monkeypatch.setattr(os.path, "expanduser", homeless)
    with pytest.raises(InputError, match="Set TAGMASK_HOME"):
        cache_dir()


def test_file_hash_depends_on_contents_and_order(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"ab")
    second.write_bytes(b"c")
    expected = hashlib.sha256(hashlib.sha256(b"ab").digest() + hashlib.sha256(b"c").digest()).hexdigest()
    assert file_hash(first, second) == expected
    assert file_hash(second, first) != expected
    first.write_bytes(b"a")
    second.write_bytes(b"bc")  # the same bytes, divided elsewhere
    assert file_hash(first, second) != expected
    with pytest.raises(InputError, match="none cannot be read: No such file"):
        file_hash(tmp_path / "none")
