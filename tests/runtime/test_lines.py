import errno
import json
import os
import threading
from pathlib import Path

import pytest

from tagmask.errors import InputError, OutputError
from tagmask.runtime.lines import atomic_lines, json_lines, partial_path


def test_lines_replace_the_old_file_when_all_are_written(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "tags.jsonl"
    path.parent.mkdir()
    path.write_text("old\n")
    with json_lines(path) as write:
        write({"path": "ä"})
        assert path.read_text() == "old\n"
        assert json.loads(partial_path(path).read_text(encoding="utf-8")) == {"path": "ä"}
        write({"path": "b"})
    assert [json.loads(line)["path"] for line in path.read_text(encoding="utf-8").splitlines()] == ["ä", "b"]
    assert not partial_path(path).exists()


def test_an_interrupted_run_keeps_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text("old\n")

    def interrupted() -> None:
        with json_lines(path) as write:
            write({"path": "a"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old\n"
    assert json.loads(partial_path(path).read_text()) == {"path": "a"}


def test_a_file_in_place_of_the_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), json_lines(tmp_path / "file" / "tags.jsonl"):
        pass


def test_errors_of_the_block_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), json_lines(tmp_path / "tags.jsonl"):
        raise FileNotFoundError("photo.jpg")
    assert list(tmp_path.iterdir()) == []  # no empty file remains


def test_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is a folder\. Give a file"), json_lines(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def write_two(path: Path) -> None:
    with atomic_lines(path) as write:
        write("a")
        write("b")


@pytest.mark.parametrize("link", ["../data/real.txt", "{tmp_path}/data/real.txt"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path, link: str, exists: bool) -> None:
    real, path = tmp_path / "data" / "real.txt", tmp_path / "here" / "tags.txt"
    real.parent.mkdir()
    path.parent.mkdir()
    if exists:
        real.write_text("old\n")
    path.symlink_to(link.format(tmp_path=tmp_path))
    with atomic_lines(path) as write:
        write("a")
        assert partial_path(path) == real.with_name("real.txt.partial")
        assert partial_path(path).read_text() == "a\n"
        assert real.exists() == exists
    assert path.is_symlink()
    assert real.read_text() == "a\n"
    assert not real.is_symlink()
    assert [entry.name for entry in (*path.parent.iterdir(), *real.parent.iterdir())] == [
        "tags.txt",
        "real.txt",
    ]


def test_a_loop_of_links_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OutputError, match="its links lead nowhere"):
        write_two(tmp_path / "a")
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.is_symlink()) == ["a", "b"]


@pytest.mark.parametrize("target", ["precious.txt", "absent.txt", "."])
def test_a_link_in_place_of_the_partial_file_is_not_written_through(tmp_path: Path, target: str) -> None:
    (tmp_path / "precious.txt").write_text("precious\n")
    (tmp_path / "tags.txt.partial").symlink_to(target)
    with pytest.raises(OutputError, match=r"tags\.txt\.partial is in the way"):
        write_two(tmp_path / "tags.txt")
    assert (tmp_path / "precious.txt").read_text() == "precious\n"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["precious.txt", "tags.txt.partial"]


def test_a_second_name_of_an_earlier_partial_file_keeps_its_lines(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("earlier\n")
    os.link(tmp_path / "kept.txt", tmp_path / "tags.txt.partial")
    write_two(tmp_path / "tags.txt")
    assert (tmp_path / "kept.txt").read_text() == "earlier\n"
    assert (tmp_path / "tags.txt").read_text() == "a\nb\n"


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_two(pipe)
    reader.join(10)
    assert read == ["a\nb\n"]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
    assert partial_path(pipe) == pipe


def test_a_pipe_whose_reader_left_is_an_output_error(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.open().close(), daemon=True).start()

    def write_on() -> None:
        with atomic_lines(pipe) as write:
            for _ in range(100_000):
                write("a" * 100)

    with pytest.raises(OutputError, match=r"pipe cannot be written: Broken pipe"):
        write_on()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="devices of Linux")
def test_devices_are_written_to_and_stay(tmp_path: Path) -> None:
    write_two(Path("/dev/null"))
    (tmp_path / "link").symlink_to("/dev/null")
    write_two(tmp_path / "link")
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.partial").exists()
    with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)):
        write_two(Path("/dev/full"))
    with pytest.raises(OutputError, match=r"/dev/nul cannot be written"):
        write_two(Path("/dev/nul"))
    assert not Path("/dev/nul").exists()


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="needs /dev/fd")
def test_what_the_process_has_open_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "redirected").open("ab") as file:
        file.write(b"before\n")
        file.flush()
        write_two(Path(f"/dev/fd/{file.fileno()}"))
        file.write(b"after\n")
    assert (tmp_path / "redirected").read_text() == "before\na\nb\nafter\n"


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tags.txt"
    path.write_text("old\n")

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        write_two(path)
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_writes_that_the_system_cuts_short_are_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1]))
    with atomic_lines(tmp_path / "x") as line:
        line("longer")
    monkeypatch.undo()
    assert (tmp_path / "x").read_text() == "longer\n"


def test_numbers_that_json_lacks_are_never_written(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"

    def write_nan() -> None:
        with json_lines(path) as write:
            write({"scores": {"cat": 0.5}})
            write({"scores": {"cat": float("nan")}})

    with pytest.raises(InputError, match="NaN or infinite"):
        write_nan()
    assert not path.exists()
    assert partial_path(path).read_text() == '{"scores": {"cat": 0.5}}\n'
