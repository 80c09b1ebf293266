"""The loop of every run: one image's fault stays its own, and a signal stops at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path, PurePosixPath

import pytest

from tagmask.errors import ImageError
from tagmask.runs.failures import RepeatedFailure
from tagmask.runs.folder import RunFolder, RunStopped
from tagmask.runs.identity import RunIdentity
from tagmask.runs.planning import ImageTask
from tagmask.runs.producer import Terminated, produce, sigterm_raises
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import FoundImage


@pytest.fixture
def photos(tmp_path: Path) -> list[FoundImage]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(30):
        (folder / f"{i:02}.png").write_bytes(b"x")
    return [FoundImage(path, PurePosixPath(path.name)) for path in sorted(folder.iterdir())]


def opened(tmp_path: Path) -> RunFolder:
    return RunFolder.open(tmp_path / "run", RunIdentity("tag", {"words": ["cat"]}))


@pytest.mark.parametrize("workers", [1, 3])
def test_every_exception_is_its_images(photos: list[FoundImage], tmp_path: Path, workers: int) -> None:
    faults = {
        3: ImageError("bad header"),
        5: AssertionError("palette"),
        9: RecursionError(),
        11: OSError(36, "x"),
    }

    def work(task: ImageTask) -> ImageResult:
        assert threading.current_thread() is not threading.main_thread()
        number = int(task.name)
        if number in faults:
            raise faults[number]
        return ImageResult(tags=[], scores={"cat": float("nan") if number == 7 else 0.5})

    with opened(tmp_path) as run:
        found = list(produce(run, run.plan(photos), work, workers=workers))
    assert [int(each.task.name) for each in found] == list(range(30))
    failed = {int(each.task.name): each.error for each in found if each.error}
    assert set(failed) == {3, 5, 7, 9, 11}
    assert failed[3] == "bad header"
    assert failed[5] == "unexpected AssertionError: palette"
    assert "NaN" in str(failed[7])
    reader = Run(tmp_path / "run")
    assert reader.counts == {"todo": 0, "done": 25, "failed": 5}
    assert "AssertionError: palette" in (tmp_path / "run" / "run.log").read_text()


def test_failures_may_have_records(photos: list[FoundImage], tmp_path: Path) -> None:
    def work(task: ImageTask) -> ImageResult:
        if task.name == "03":
            raise ImageError("bad header")
        return ImageResult(record={"pixels": float("nan") if task.name == "04" else 1})

    def record(error: Exception) -> dict[str, object]:
        return {"failed": type(error).__name__}

    with opened(tmp_path) as run:
        list(produce(run, run.plan(photos), work, failure_record=record))
    with Run(tmp_path / "run") as rows:
        assert [row.record for row in rows][2:6] == [
            {"pixels": 1}, {"failed": "ImageError"}, {"failed": "InputError"}, {"pixels": 1}
        ]  # fmt: skip


def test_the_same_fault_twenty_times_stops_the_run(photos: list[FoundImage], tmp_path: Path) -> None:
    def work(task: ImageTask) -> ImageResult:
        raise ZeroDivisionError(task.name)

    seen = []
    with opened(tmp_path) as run, pytest.raises(RepeatedFailure, match="20 images in a row"):
        seen.extend(produce(run, run.plan(photos), work))
    assert Run(tmp_path / "run").counts["failed"] == 20


def test_a_full_disk_stops_the_run_and_nothing_more_is_computed(
    photos: list[FoundImage], tmp_path: Path
) -> None:
    calls = []

    def work(task: ImageTask) -> ImageResult:
        calls.append(task.name)
        if len(calls) == 4:
            raise RunStopped("the disk is full")
        return ImageResult(tags=[])

    with opened(tmp_path) as run, pytest.raises(RunStopped):
        list(produce(run, run.plan(photos), work))
    assert len(calls) < 8
    assert Run(tmp_path / "run").counts == {"todo": 27, "done": 3, "failed": 0}


def test_sigterm_is_raised_in_the_main_thread_only() -> None:
    def killed() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    with sigterm_raises(), pytest.raises(Terminated):
        killed()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


SCRIPT = """
import os, sys, time
from pathlib import Path, PurePosixPath
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.producer import Terminated, produce, sigterm_raises, workers_finished
from tagmask.runs.rows import ImageResult
from tagmask.runtime.folders import FoundImage

folder = Path(sys.argv[1])
photos = [FoundImage(p, PurePosixPath(p.name)) for p in sorted((folder / "photos").iterdir())]

def work(task):
    if task.name == "05":
        print("busy", flush=True)
        time.sleep(30)  # as one long operation of torch, which no signal interrupts
    return ImageResult(tags=[])

try:
    with sigterm_raises(), RunFolder.open(folder / "run", RunIdentity("tag", {"words": ["cat"]})) as run:
        for _ in produce(run, run.plan(photos), work):
            pass
except (Terminated, KeyboardInterrupt) as error:
    code = 143 if isinstance(error, Terminated) else 130
    if not workers_finished():
        os._exit(code)
    sys.exit(code)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_stops_within_two_seconds_and_keeps_what_is_done(
    photos: list[FoundImage], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == code
    assert time.monotonic() - began < 4  # two seconds, and some for a busy machine
    process.stdout.close()
    counts = Run(tmp_path / "run").counts
    assert 3 <= counts["done"] <= 5  # of the five that were computed, the last may not be recorded yet
    assert (counts["todo"], counts["failed"]) == (30 - counts["done"], 0)
