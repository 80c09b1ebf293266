"""Files from anywhere: archives that lead out, swell or lie; pipes and devices."""

import os
import struct
import zipfile
from pathlib import Path

import pytest

from tagmask.errors import InputError
from tagmask.importers.source import Source
from tests.importers.made import packed


def test_a_folder_and_an_archive_are_alike(tmp_path: Path) -> None:
    files = {"a/b.json": b"1", "c.txt": b"\xef\xbb\xbftext"}
    archive = packed(tmp_path / "x.zip", dict(files))
    for name, content in {**files, ".DS_Store": b"", "__MACOSX/a/b.json": b""}.items():
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(content)
    for path in (archive, tmp_path / "x"):
        with Source(path) as source:
            assert list(source.names) == ["a/b.json", "c.txt"]
            assert source.named(".json") == ["a/b.json"]
            assert source.read("a/b.json", 5) == b"1"
            assert source.text("c.txt") == "text"
            assert not source.is_file
            with pytest.raises(InputError, match=r"too large|more than"):
                source.read("c.txt", 3)


@pytest.mark.parametrize(
    "name", ["../up.json", "/absolute.json", "a/../../up.json", "a\\..\\up.json", "a//b.json"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="leads out of it"):
        Source(packed(tmp_path / "x.zip", {name: b""}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a", b"1")
        archive.writestr("a", b"2")
    with pytest.raises(InputError, match="the name 'a' twice"):
        Source(tmp_path / "x.zip")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    archive = packed(tmp_path / "x.zip", {"a.json": bytes(100_000_000)})
    with Source(archive) as source, pytest.raises(InputError, match="it has more than 64000000 bytes"):
        source.read("a.json", 2_000_000_000)


def test_sizes_that_lie_are_not_believed(tmp_path: Path) -> None:
    data = packed(tmp_path / "x.zip", {"a.json": b"x" * 1000}).read_bytes()
    (tmp_path / "y.zip").write_bytes(data.replace(struct.pack("<I", 1000), struct.pack("<I", 10)))
    with Source(tmp_path / "y.zip") as source, pytest.raises(InputError, match="damaged"):
        source.read("a.json", 500)


def test_every_cut_is_refused(tmp_path: Path) -> None:
    data = packed(tmp_path / "x.zip", {"a.json": b"1", "b.json": b"2"}).read_bytes()
    for end in range(4, len(data) - 1, 7):
        (tmp_path / "cut.zip").write_bytes(data[:end])
        with pytest.raises(InputError, match=r"cut\.zip"):
            Source(tmp_path / "cut.zip").read("a.json", 10)


def test_encrypted_and_unusual_archives(tmp_path: Path) -> None:
    data = bytearray(packed(tmp_path / "x.zip", {"a": b"1"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(InputError, match="the encrypted file 'a'"):
        Source(tmp_path / "secret.zip")
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"1")
    with Source(tmp_path / "lzma.zip") as source, pytest.raises(InputError, match="packed in an unusual way"):
        source.read("a", 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_what_is_not_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it is a pipe"):
        Source(tmp_path / "pipe")
    os.mkfifo(tmp_path / "x.json")
    with Source(tmp_path) as source, pytest.raises(InputError, match="it is a pipe"):
        source.read("x.json", 9)
    with pytest.raises(InputError, match="There is no file or folder"):
        Source(tmp_path / "absent")


def test_a_file_without_a_name_is_refused(tmp_path: Path) -> None:
    data = packed(tmp_path / "x.zip", {"a": b"1"}).read_bytes()
    end = data.index(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    nameless = data[directory : directory + 28] + b"\0\0" + data[directory + 30 : directory + 46]
    tail = data[end : end + 12] + struct.pack("<I", len(nameless)) + data[end + 16 :]
    (tmp_path / "y.zip").write_bytes(data[:directory] + nameless + tail)
    with pytest.raises(InputError, match="the name '', which leads out of it"):
        Source(tmp_path / "y.zip")
