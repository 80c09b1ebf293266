"""The work on one image in three parts, so that images are read and written while others are computed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch

from tagmask.runs.planning import ImageTask
from tagmask.runs.rows import ImageResult

__all__ = ["Stages", "computing_pool"]

Read = TypeVar("Read")
Computed = TypeVar("Computed")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Stages(Generic[Read, Computed]):
    """The work on one image in three parts; all are called from threads.

    Only `compute` may use torch: it has threads of its own, which wait for no disk and no decoder.
    """

    read: Callable[[ImageTask], Read]
    """Decodes the image."""
    compute: Callable[[ImageTask, Read], Computed]
    write: Callable[[ImageTask, Read, Computed], ImageResult]
    """Encodes and writes its files."""

    def run(self, task: ImageTask, pool: ThreadPoolExecutor) -> ImageResult:
        """Do the work on one image: read and write in this thread, compute in the pool.

        Returns:
            What `write` returned, with the seconds of the three parts; they do not count the wait for a free
            thread of the pool.
        """
        image, reading = _timed(lambda: self.read(task))
        computed, computation = pool.submit(_timed, lambda: self.compute(task, image)).result()
        result, writing = _timed(lambda: self.write(task, image, computed))
        return replace(result, seconds=round(reading + computation + writing, 4))


@contextmanager
def computing_pool(workers: int, threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Make the threads that compute; what has not begun at the end is not computed.

    Args:
        workers: images computed at once.
        threads: torch's, for each of them; None: as many as the caller has.
    """
    pool = ThreadPoolExecutor(
        workers,
        "tagmask-compute",
        initializer=torch.set_num_threads,
        initargs=(threads or torch.get_num_threads(),),
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _timed(part: Callable[[], Value]) -> tuple[Value, float]:
    began = time.monotonic()
    value = part()
    return value, time.monotonic() - began
