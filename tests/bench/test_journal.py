import json
from pathlib import Path

import pytest

from tagmask.bench.journal import Record, open_journal, read_journal
from tagmask.errors import InputError, OutputError

HEADER = {"recipe": {"name": "a/b", "layers": (8, 9)}, "weights": "1"}
PIXELS = Record(id="a", pixels=((0, 1, 7), (2, 2, 1)))
TAGS = Record(id="b", scores=(0.1, 0.25), chosen=(1,))
FAILED = Record(id="c", failed="image", reason="a word with ünïcode and a \udcff byte")


def write(path: Path, *records: Record, resume: bool = False) -> frozenset[str]:
    with open_journal(path, HEADER, resume=resume) as journal:
        for record in records:
            journal.write(record)
        return journal.done


def test_records_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS, TAGS, FAILED)
    assert list(read_journal(path)) == [PIXELS, TAGS, FAILED]
    assert len(path.read_text().splitlines()) == 4


def test_resume_continues_the_file(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS)
    assert write(path, TAGS, resume=True) == {"a"}
    assert list(read_journal(path)) == [PIXELS, TAGS]


def test_resume_removes_incomplete_line_and_failures(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS, FAILED, TAGS)
    whole = path.read_bytes()
    for length in range(whole.rindex(b'{"id":"b"') + 1, len(whole)):
        path.write_bytes(whole[:length])
        assert list(read_journal(path)) == [PIXELS, FAILED]
        assert write(path, resume=True) == {"a"}
        assert list(read_journal(path)) == [PIXELS]


def test_existing_records_need_resume(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS)
    with pytest.raises(InputError, match="Give --resume"):
        write(path, TAGS)
    assert list(read_journal(path)) == [PIXELS]


def test_records_of_other_runs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS)
    with pytest.raises(InputError, match=r"different settings \(weights\)"):
        open_journal(path, {**HEADER, "weights": "2"}, resume=True)
    with pytest.raises(InputError, match=r"different settings \(recipe, weights\)"):
        open_journal(path, {"recipe": {}, "weights": "2"}, resume=True)
    assert list(read_journal(path)) == [PIXELS]


@pytest.mark.parametrize("content", [b"", b"[1]\n", b"{}", b"no json\n", b"\xff\xfe\n"])
def test_other_files_are_not_overwritten(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"Give another --out"):
        write(path, PIXELS, resume=True)
    assert path.read_bytes() == content


def test_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS, TAGS)
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({"id": "a", "pixels": [[1]]})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"Line 2 of .* is damaged"):
        list(read_journal(path))


def test_unwritable_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write(tmp_path / "file" / "images.jsonl", PIXELS)
