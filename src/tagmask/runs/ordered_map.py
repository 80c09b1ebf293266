"""The thread pool: process several items at once, with results in the order of the items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch

from tagmask.checks import check_number
from tagmask.errors import TagmaskError

__all__ = ["Outcome", "ordered_map", "out_of_memory", "shared_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

_LONGEST_WAIT = 0.2
"""Seconds after which a waiting caller sees a signal that did not wake it."""


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """The result of one item, or the error that prevented it."""

    item: Item
    result: Result | None
    error: Exception | None
    """A `TagmaskError`, or an out-of-memory error (see `out_of_memory`)."""

    @property
    def reason(self) -> str | None:
        """Why there is no result, as a message for the user; None if there is one."""
        if self.error is None:
            return None
        if out_of_memory(self.error):
            return "Not enough memory for this image. Reduce its size, or use another device."
        return str(self.error)


def ordered_map(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    workers: int = 1,
    ahead: int = 1,
    threads: int | None = None,
    off_thread: bool = False,
) -> Iterator[Outcome[Item, Result]]:
    """Apply `work` to each item; yield the outcomes in the order of the items.

    An error of one item (a `TagmaskError`, out of memory) becomes its outcome; other errors are raised. Items
    that have not started by then, or when the iterator is closed, are not processed.

    Args:
        items: read lazily.
        work: must be thread-safe if `workers` is over 1.
        workers: items processed at once. A single worker runs in the caller's thread, one item per outcome
            read.
        ahead: items queued while all workers are busy, so that no worker is idle when the caller reads
            outcomes slowly; more need more memory.
        threads: torch threads per worker, if there are several workers. None: as many as the caller has, so
            that results do not depend on the number of workers. `shared_threads(workers)` is faster.
        off_thread: compute in another thread even with one worker, and do not wait for running items when the
            iterator is closed, so that a signal stops the caller at once.

    Raises:
        InputError: `workers` under 1, or `ahead` under 0.

    Example:
        >>> [outcome.result for outcome in ordered_map([1, 2, 3], lambda item: item * item, workers=2)]
        [1, 4, 9]
    """
    check_number("workers", workers, 1, whole=True)
    check_number("ahead", ahead, 0, whole=True)
    if workers == 1 and not off_thread:
        for item in items:
            yield _outcome(item, work)
        return
    pool = ThreadPoolExecutor(
        workers, "tagmask", initializer=torch.set_num_threads, initargs=(threads or torch.get_num_threads(),)
    )
    remaining = iter(items)
    started: deque[Future[Outcome[Item, Result]]] = deque()
    try:
        started.extend(pool.submit(_outcome, item, work) for item in islice(remaining, workers + ahead))
        while started:
            outcome = _result_of(started.popleft())
            started.extend(pool.submit(_outcome, item, work) for item in islice(remaining, 1))
            yield outcome
    finally:
        pool.shutdown(wait=not off_thread, cancel_futures=True)


def _result_of(future: Future[Result]) -> Result:
    """Wait for a result, and let a signal's exception through meanwhile.

    A wait without a limit may miss a signal: one that another thread catches, or that arrives after Python
    last looked for signals and before the system puts the thread to sleep. On Windows none interrupts it.
    """
    while not future.done():
        wait((future,), timeout=_LONGEST_WAIT)
    return future.result()


def _outcome(item: Item, work: Callable[[Item], Result]) -> Outcome[Item, Result]:
    try:
        return Outcome(item, work(item), None)
    except TagmaskError as error:
        return Outcome(item, None, error)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        # Drop the traceback, whose frames would keep the large tensors alive.
        return Outcome(item, None, error.with_traceback(None))


def shared_threads(workers: int) -> int:
    """Divide the caller's torch threads among the workers; at least 1 each."""
    return max(1, torch.get_num_threads() // workers)


def out_of_memory(error: Exception) -> bool:
    """Whether an error means that the memory of some device is full."""
    if not isinstance(error, MemoryError | RuntimeError):
        return False
    # torch has a separate error type for a full GPU, but raises a plain RuntimeError for full main memory.
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
