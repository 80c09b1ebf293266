"""Reading and writing overlap with the computing of other images, and change nothing else."""

import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import torch

from tagmask.errors import ImageError
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.planning import ImageTask
from tagmask.runs.producer import Produced, produce, workers_finished
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageResult
from tagmask.runs.stages import Stages
from tagmask.runtime.folders import FoundImage

PATIENCE = 20.0
"""Seconds that a step waits for another before it fails; none is waited if the two overlap."""


@pytest.fixture
def photos(tmp_path: Path) -> list[FoundImage]:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i:02}.png").write_bytes(b"x")
    return [FoundImage(path, PurePosixPath(path.name)) for path in sorted(folder.iterdir())]


def staged(
    read: Callable[[int], Any] = lambda number: number,
    compute: Callable[[int], Any] = lambda number: number,
    write: Callable[[int], Any] = lambda number: None,
) -> Stages[Any, Any]:
    """Stages of steps that know the image's number."""

    def finish(task: ImageTask, image: Any, computed: Any) -> ImageResult:
        write(int(task.name))
        return ImageResult(record={"read": image, "computed": computed})

    return Stages(lambda task: read(int(task.name)), lambda task, image: compute(int(task.name)), finish)


def produced(
    photos: list[FoundImage], tmp_path: Path, stages: Stages[Any, Any], **options: Any
) -> list[Produced]:
    with RunFolder.open(tmp_path / "run", RunIdentity("tag", {"words": ["cat"]})) as run:
        return list(produce(run, run.plan(photos), stages, **options))


@pytest.mark.parametrize("workers", [1, 2])
def test_each_part_gets_what_the_one_before_returned(
    photos: list[FoundImage], tmp_path: Path, workers: int
) -> None:
    stages = staged(lambda number: number + 100, lambda number: number + 200)
    found = produced(photos, tmp_path, stages, workers=workers)
    records = [each.result and each.result.record for each in found]
    assert records == [{"read": i + 100, "computed": i + 200} for i in range(12)]


def test_images_are_read_and_written_while_another_is_computed(
    photos: list[FoundImage], tmp_path: Path
) -> None:
    read, writing, computing = (threading.Event() for _ in range(3))

    def read_one(number: int) -> None:
        if number == 1:
            read.set()

    def compute(number: int) -> None:
        if number == 0:
            assert read.wait(PATIENCE), "image 1 is not read while image 0 is computed"
        if number == 1:
            computing.set()
            assert writing.wait(PATIENCE), "image 0 is not written while image 1 is computed"

    def write(number: int) -> None:
        if number == 0:
            writing.set()
            assert computing.wait(PATIENCE), "image 1 is not computed while image 0 is written"

    found = produced(photos, tmp_path, staged(read_one, compute, write))
    assert [each.error for each in found] == [None] * 12


@pytest.mark.parametrize(("workers", "threads"), [(1, 3), (2, 1), (3, 2)])
def test_workers_and_threads_are_those_of_the_computing(
    photos: list[FoundImage], tmp_path: Path, workers: int, threads: int
) -> None:
    lock, now, most, used = threading.Lock(), [0], [0], set()

    def compute(number: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            used.add(torch.get_num_threads())
        time.sleep(0.02)
        with lock:
            now[0] -= 1

    produced(photos, tmp_path, staged(compute=compute), workers=workers, threads=threads)
    assert most[0] == workers
    assert used == {threads}


@pytest.mark.parametrize("part", ["read", "compute", "write"])
def test_an_exception_in_any_part_is_its_images(photos: list[FoundImage], tmp_path: Path, part: str) -> None:
    def fail(number: int) -> int:
        if number in (2, 5):
            raise ImageError("bad header") if number == 2 else AssertionError("palette")
        return number

    found = produced(photos, tmp_path, staged(**{part: fail}), workers=2)
    failed = {int(each.task.name): each.error for each in found if each.error}
    assert failed == {2: "bad header", 5: "unexpected AssertionError: palette"}
    assert Run(tmp_path / "run").counts == {"todo": 0, "done": 10, "failed": 2}


def test_the_wait_for_a_worker_is_not_the_images_time(photos: list[FoundImage], tmp_path: Path) -> None:
    stages = staged(compute=lambda number: time.sleep(0.3 if number == 0 else 0))
    found = produced(photos[:2], tmp_path, stages)
    seconds = [each.result.seconds for each in found if each.result and each.result.seconds is not None]
    assert seconds[0] >= 0.3
    assert seconds[1] < 0.2  # it was read at once, and waited for the first


def test_after_a_stop_nothing_more_is_computed(photos: list[FoundImage], tmp_path: Path) -> None:
    waiting, stopped = threading.Event(), threading.Event()
    read: list[int] = []
    computed: list[int] = []

    def read_one(number: int) -> None:
        read.append(number)
        if len(read) == 3:
            waiting.set()

    def compute(number: int) -> None:
        computed.append(number)
        if len(computed) == 2:
            assert stopped.wait(PATIENCE)

    with RunFolder.open(tmp_path / "run", RunIdentity("tag", {"words": ["cat"]})) as run:
        outcomes = produce(run, run.plan(photos), staged(read_one, compute))
        next(outcomes)
        assert waiting.wait(PATIENCE)  # the third image is read, and waits until the second is computed
        time.sleep(0.1)
        outcomes.close()  # type: ignore[attr-defined]  # as an exception of the caller does
        stopped.set()
    assert workers_finished(PATIENCE)
    assert len(computed) == 2
