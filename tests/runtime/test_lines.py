import json
from pathlib import Path

import pytest

from tagmask.errors import OutputError
from tagmask.runtime.lines import json_lines, partial_path


def test_lines_replace_the_old_file_when_all_are_there(tmp_path: Path) -> None:
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


def test_a_run_that_is_stopped_leaves_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text("old\n")

    def stopped() -> None:
        with json_lines(path) as write:
            write({"path": "a"})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old\n"
    assert json.loads(partial_path(path).read_text()) == {"path": "a"}


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), json_lines(tmp_path / "file" / "tags.jsonl"):
        pass


def test_errors_of_the_block_are_left_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), json_lines(tmp_path / "tags.jsonl"):
        raise FileNotFoundError("photo.jpg")
    assert list(tmp_path.iterdir()) == []  # and nothing empty is left behind


def test_a_folder_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder; give a file"), json_lines(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
