import json
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from tagmask.errors import ImageError, InputError, OutputError
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
@pytest.mark.parametrize("in_flight", [1, 2, 4])
def test_one_bad_image_never_stops_the_rest(full: Exception, in_flight: int) -> None:
    def work(image: FoundImage) -> str:
        if image.path.name == "b":
            raise ImageError("b is no image")
        if image.path.name == "c":
            raise full
        return image.path.name.upper()

    outcomes = list(run(IMAGES, work, in_flight=in_flight))
    assert [outcome.result for outcome in outcomes] == ["A", None, None, "D"]
    errors = [outcome.error for outcome in outcomes]
    assert errors[:2] == [None, "b is no image"]
    assert str(errors[2]).startswith("not enough memory")


@pytest.mark.parametrize("in_flight", [1, 3])
@pytest.mark.parametrize("fault", [KeyError("x"), RuntimeError("shapes do not fit"), NotImplementedError()])
def test_a_fault_of_the_program_is_not_hidden(fault: Exception, in_flight: int) -> None:
    def work(image: FoundImage) -> str:
        raise fault

    with pytest.raises(type(fault)):
        list(run(IMAGES, work, in_flight=in_flight))


def test_no_more_images_are_in_work_than_asked_for() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(image: FoundImage) -> str:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return image.path.name

    many = [FoundImage(Path(str(i)), PurePosixPath(str(i))) for i in range(12)]
    read = []
    taken = (read.append(image) or image for image in many)
    outcomes = run(taken, work, in_flight=3)
    assert next(outcomes).result == "0"
    assert len(read) <= 5  # the one given out, three in work, one that waits
    assert [outcome.result for outcome in outcomes] == [str(i) for i in range(1, 12)]
    assert most[0] == 3


def test_images_not_begun_are_never_begun_when_the_reader_stops() -> None:
    begun = []

    def work(image: FoundImage) -> str:
        begun.append(image)
        return image.path.name

    many = [FoundImage(Path(str(i)), PurePosixPath(str(i))) for i in range(50)]
    outcomes = run(many, work, in_flight=2)
    next(outcomes)
    outcomes.close()
    assert len(begun) <= 5


def test_none_in_flight_is_refused() -> None:
    with pytest.raises(InputError, match="in_flight is 0"):
        next(run(IMAGES, lambda image: 1, in_flight=0))


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
