import json
from pathlib import Path

import pytest

from tagmask.errors import OutputError
from tagmask.runtime.lines import json_lines, partial_path


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
