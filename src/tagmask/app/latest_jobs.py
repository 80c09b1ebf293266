"""A thread that computes: of the jobs that wait under one name, only the newest is run."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

__all__ = ["LatestJobs", "SupersededError", "TooManyJobsError"]

_WAITING: Final = 32
"""Names under which jobs may wait."""

Result = TypeVar("Result")


class SupersededError(Exception):
    """A newer job of the same name came before this one began."""


class TooManyJobsError(Exception):
    """Too many jobs are waiting."""


class LatestJobs:
    """Runs jobs one after the other, those that came last first: they are of what a person sees now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, tuple[Callable[[], Any], Future[Any]]] = OrderedDict()
        self._stopped = False
        # A daemon: nothing interrupts a long operation, and nothing waits for its result any more.
        self._thread = threading.Thread(target=self._run, name="tagmask-live", daemon=True)
        self._thread.start()

    def submit(self, name: str, job: Callable[[], Result]) -> Future[Result]:
        """Run a job in the thread, in place of one of the same name that has not begun.

        The future of the replaced job raises `SupersededError`.

        Raises:
            TooManyJobsError: too many are waiting.
        """
        future: Future[Result] = Future()
        with self._changed:
            replaced = self._waiting.pop(name, None)
            if replaced is None and len(self._waiting) >= _WAITING:
                raise TooManyJobsError
            self._waiting[name] = (job, future)
            self._changed.notify()
        if replaced is not None:
            replaced[1].set_exception(SupersededError())
        return future

    def stop(self) -> None:
        """Drop the jobs that have not begun."""
        with self._changed:
            self._stopped = True
            dropped = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify()
        for _, future in dropped:
            future.set_exception(SupersededError())

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                _, (job, future) = self._waiting.popitem()
            try:
                result = job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
