from pathlib import Path, PurePosixPath

import pytest

from tagmask.errors import ImageError
from tagmask.runs.failures import FailureGuard, RepeatedFailure, reason_of, recorded_reason
from tagmask.runtime.folders import FoundImage


def fault(name, kind=KeyError):
    try:
        raise kind(name)
    except kind as error:
        return error


def test_one_kind_of_unexpected_failure_in_a_row_stops_the_run_and_leaves_its_traceback_once(tmp_path):
    guard = FailureGuard(tmp_path / "run.log", limit=20)
    for i in range(19):
        guard.failed(fault(f"image {i}"))
    with pytest.raises(RepeatedFailure, match=r"20 images.*run\.log"):
        guard.failed(fault("image 19"))
    log = (tmp_path / "run.log").read_text()
    assert log.count("Traceback") == 1
    assert "in fault" in log


@pytest.mark.parametrize(
    "between",
    [
        lambda guard: guard.succeeded(),
        lambda guard: guard.failed(ImageError("not an image")),
        lambda guard: guard.failed(fault("x", TypeError)),
        lambda guard: guard.failed(MemoryError()),
    ],
)
def test_anything_in_between_begins_the_count_anew(tmp_path, between):
    guard = FailureGuard(tmp_path / "run.log", limit=3)
    for _ in range(3):
        guard.failed(fault("a"))
        guard.failed(fault("b"))
        between(guard)


def test_errors_that_a_user_can_cause_never_stop_it_nor_fill_the_log(tmp_path):
    guard = FailureGuard(tmp_path / "run.log", limit=3)
    for _ in range(10):
        guard.failed(ImageError("cut short"))
    assert not (tmp_path / "run.log").exists()


def test_reasons_are_one_line_without_control_characters():
    assert reason_of(ImageError("a\x1b[1m\n b")) == "a\\x1b[1m b"
    assert "memory" in reason_of(RuntimeError("CUDA out of memory"))
    assert reason_of(ValueError()) == "unexpected ValueError"


@pytest.mark.parametrize("folder", ["/home/ann/photos", "/home/ann/my  photos\x07"])
def test_recorded_reasons_name_no_folder_of_the_machine(folder):
    image = FoundImage(Path(folder, "a/1.png"), PurePosixPath("a/1.png"))
    assert recorded_reason(ImageError(f"{image.path} is damaged"), image) == "a/1.png is damaged"
    assert recorded_reason(ImageError("damaged"), image) == "damaged"
