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


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS, TAGS, FAILED)
    assert list(read_journal(path)) == [PIXELS, TAGS, FAILED]
    assert len(path.read_text().splitlines()) == 4


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS)
    assert write(path, TAGS, resume=True) == {"a"}
    assert list(read_journal(path)) == [PIXELS, TAGS]


def test_a_torn_line_and_failures_are_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS, FAILED, TAGS)
    whole = path.read_bytes()
    for cut in range(whole.rindex(b'{"id":"b"') + 1, len(whole)):
        path.write_bytes(whole[:cut])
        assert list(read_journal(path)) == [PIXELS, FAILED]
        assert write(path, resume=True) == {"a"}
        assert list(read_journal(path)) == [PIXELS]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS)
    with pytest.raises(InputError, match="give --resume"):
        write(path, TAGS)
    assert list(read_journal(path)) == [PIXELS]


def test_other_results_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS)
    with pytest.raises(InputError, match="other weights: they cannot be mixed"):
        open_journal(path, {**HEADER, "weights": "2"}, resume=True)
    with pytest.raises(InputError, match="other recipe, weights"):
        open_journal(path, {"recipe": {}, "weights": "2"}, resume=True)
    assert list(read_journal(path)) == [PIXELS]


@pytest.mark.parametrize("content", [b"", b"[1]\n", b"{}", b"no json\n", b"\xff\xfe\n"])
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"give another --out"):
        write(path, PIXELS, resume=True)
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    write(path, PIXELS, TAGS)
    lines = path.read_text().splitlines()
    lines[1] = json.dumps({"id": "a", "pixels": [[1]]})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"line 2 of .* is damaged"):
        list(read_journal(path))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write(tmp_path / "file" / "images.jsonl", PIXELS)
