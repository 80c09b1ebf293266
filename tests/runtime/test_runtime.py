import json
from pathlib import Path, PurePosixPath

import pytest

from tagmask.errors import ImageError, OutputError
from tagmask.runtime.folders import FoundImage
from tagmask.runtime.jobs import run
from tagmask.runtime.lines import json_lines, partial_path

IMAGES = [FoundImage(Path(name), PurePosixPath(name)) for name in ("a", "b", "c", "d")]


@pytest.mark.parametrize(
    "full",
    [
        MemoryError("no room"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 TB"),
        RuntimeError("CUDA out of memory. Tried to allocate 4 TiB"),
    ],
)
def test_one_bad_image_never_stops_the_rest(full: Exception) -> None:
    def work(image: FoundImage) -> str:
        if image.path.name == "b":
            raise ImageError("b is no image")
        if image.path.name == "c":
            raise full
        return image.path.name.upper()

    outcomes = list(run(IMAGES, work))
    assert [outcome.result for outcome in outcomes] == ["A", None, None, "D"]
    errors = [outcome.error for outcome in outcomes]
    assert errors[:2] == [None, "b is no image"]
    assert str(errors[2]).startswith("not enough memory")


@pytest.mark.parametrize("fault", [KeyError("x"), RuntimeError("shapes do not fit"), NotImplementedError()])
def test_a_fault_of_the_program_is_not_hidden(fault: Exception) -> None:
    def work(image: FoundImage) -> str:
        raise fault

    with pytest.raises(type(fault)):
        list(run(IMAGES, work))


def test_images_are_worked_on_as_outcomes_are_read() -> None:
    seen: list[str] = []
    outcomes = run(IMAGES, lambda image: seen.append(image.path.name))
    next(outcomes)
    assert seen == ["a"]


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
