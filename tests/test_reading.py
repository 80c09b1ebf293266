"""Files from outside: no pipe or device stops a read, and none is larger than its limit."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tagmask.errors import InputError
from tagmask.reading import TEXT_LIMIT, UnfitFileError, open_regular, read_regular, read_text


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def terminal(path: Path) -> None:
    path.symlink_to("/dev/ptmx")


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1_000_000_000)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (fifo, "it is a pipe, not a regular file"),
        (folder, "it is a folder, not a regular file"),
        (device, "it is a device, not a regular file"),
        (terminal, "it is a device, not a regular file"),
        (large, "it has more than 16 MB"),
    ],
)
def test_only_regular_files_up_to_the_limit_are_read(
    make: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "words.txt"
    make(path)
    with pytest.raises(UnfitFileError) as caught:
        read_regular(path, TEXT_LIMIT)
    assert caught.value.strerror == reason
    with pytest.raises(InputError) as told:
        read_text(path, "The words file", "Give @FILE.")
    assert str(told.value) == f"The words file {path} cannot be read: {reason}. Give @FILE."


def test_a_link_is_followed_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"
    with pytest.raises(UnfitFileError, match="it is a link"):
        open_regular(tmp_path / "link", links=False)


@pytest.mark.parametrize("name", ["a\0b", "a\udfffb"])
def test_a_name_that_no_file_can_have_is_an_oserror(name: str) -> None:
    with pytest.raises(OSError):  # noqa: PT011 - with or without the system's own words
        open_regular(name)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xfec\x00a\x00t\x00", "it is not UTF-8 text"),
        (b"caf\xe9", "it is not UTF-8 text"),
        (b"c\0a\0t\0", "it holds zero bytes, so it is no text"),
    ],
)
def test_other_than_utf8_text_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(data)
    with pytest.raises(InputError, match=f"words.txt cannot be read: {reason}. Give"):
        read_text(tmp_path / "words.txt", "The words file", "Give @FILE.")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"\xef\xbb\xbfcat")
    assert read_text(tmp_path / "words.txt", "The words file", "Give @FILE.") == "cat"


def test_a_stream_that_the_process_has_open_is_read_up_to_the_limit() -> None:
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(b"cat\ndog")

    thread = threading.Thread(target=write)
    thread.start()
    assert read_text(f"/dev/fd/{reader}", "The words file", "Give @FILE.") == "cat\ndog"
    thread.join()
    os.close(reader)
    endless = os.open("/dev/zero", os.O_RDONLY)
    with pytest.raises(InputError, match=r"it has more than 1e-06 MB"):
        read_text(f"/dev/fd/{endless}", "The words file", "Give @FILE.", 1)
    os.close(endless)
