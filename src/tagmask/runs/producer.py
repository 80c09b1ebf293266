"""The loop of every run: images are computed in threads and recorded one by one, whatever goes wrong.

The caller's thread records, and only waits besides, so a signal reaches it at once.
"""

import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

from tagmask.errors import InputError
from tagmask.runs.failures import FailureGuard
from tagmask.runs.folder import RunFolder
from tagmask.runs.ordered_map import ordered_map
from tagmask.runs.planning import ImageTask
from tagmask.runs.rows import ImageResult
from tagmask.runs.stages import Stages, computing_pool

__all__ = ["Produced", "Terminated", "produce", "sigterm_raises", "workers_finished"]

Work = Callable[[ImageTask], ImageResult]
"""Computes one image, and writes its mask and overlay; called from threads."""

_WAIT = 1.5
"""Seconds that a stopped run gives its threads to finish."""


@dataclass(frozen=True)
class Produced:
    """What became of one image."""

    task: ImageTask
    result: ImageResult | None
    error: str | None
    """Why there is no result, in one line that a terminal may show."""


class Terminated(BaseException):
    """SIGTERM arrived."""


def produce(
    run: RunFolder,
    tasks: Iterable[ImageTask],
    work: Work | Stages[Any, Any],
    *,
    workers: int = 1,
    threads: int | None = None,
    failure_record: Callable[[Exception], Mapping[str, object]] | None = None,
) -> Iterator[Produced]:
    """Compute images and record each when it is done, in the order of `tasks`, as the iterator is read.

    Any exception while one image is decoded, computed or encoded is recorded as that image's failure.

    Args:
        run: an open run.
        tasks: what is to be done, from `run.plan` or `run.plan_keys`.
        work: see `Work` and `Stages`. With `Stages`, up to as many images again are read or written while
            others are computed.
        workers: images computed at the same time, each in a thread of its own.
        threads: torch's, for each worker; see `ordered_map`.
        failure_record: what to record of a failure besides its reason; JSON.

    Raises:
        RunStopped: nothing more can be written: the disk is full, or the folder is gone.
        RepeatedFailure: 20 images in a row failed in the same unexpected way.
    """
    if isinstance(work, Stages):
        with computing_pool(workers, threads) as pool:
            staged = partial(work.run, pool=pool)
            yield from produce(
                run, tasks, staged, workers=2 * workers, threads=1, failure_record=failure_record
            )
        return
    guard = FailureGuard(run.log)

    def attempt(task: ImageTask) -> ImageResult | Exception:
        began = time.monotonic()
        try:
            result = work(task)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # whose variables would keep the image in memory
            return error
        if result.seconds is None:
            result = replace(result, seconds=round(time.monotonic() - began, 4))
        return result

    for outcome in ordered_map(tasks, attempt, workers=workers, threads=threads, off_thread=True):
        value = outcome.result if outcome.error is None else outcome.error
        assert value is not None  # an outcome has one of the two
        if isinstance(value, ImageResult):
            try:
                run.done(outcome.item, value)
            except InputError as error:  # NaN in its scores: this image's failure
                value = error
        if isinstance(value, ImageResult):
            guard.succeeded()
            yield Produced(outcome.item, value, None)
            continue
        record = None if failure_record is None else failure_record(value)
        reason = run.fail(outcome.item, value, record=record)
        yield Produced(outcome.item, None, reason)
        guard.failed(value)


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM, as Python raises KeyboardInterrupt on SIGINT.

    Only Python's main thread gets signals; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def workers_finished(seconds: float = _WAIT) -> bool:
    """Wait a little for the threads of a run that was stopped.

    Returns:
        False if one is still in a long operation: then only `os._exit` ends the process at once.
    """
    deadline = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name.startswith("tagmask") and thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                return False
    return True
