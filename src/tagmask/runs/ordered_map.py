"""The one thread pool: work on many items at a time, with results in the order of the items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch

from tagmask.checks import check_number
from tagmask.errors import TagmaskError

__all__ = ["Outcome", "ordered_map", "out_of_memory", "shared_threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one item: a result, or the error that took its place."""

    item: Item
    result: Result | None
    error: Exception | None
    """A `TagmaskError`, or an error for which `out_of_memory` holds."""

    @property
    def reason(self) -> str | None:
        """Why there is no result, in words for a user who works on images."""
        if self.error is None:
            return None
        if out_of_memory(self.error):
            return "not enough memory for this image; reduce it, or use another device"
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
    """Do `work` for each item; outcomes come in the order of the items, as the iterator is read.

    What is wrong with one item (a `TagmaskError`, too little memory) becomes its outcome; faults of the
    program itself are raised. Items not begun by then, or when the iterator is closed, never are.

    Args:
        items: read as they are needed.
        work: called from threads where `workers` is over 1, and must bear that.
        workers: items worked on at the same time. One works in the caller's thread, and only as outcomes
            are read.
        ahead: items that wait for a worker while all are busy, so that none is idle when the caller reads
            outcomes slowly; more take more memory.
        threads: torch's, for each worker where there are several. None: as many as the caller has, so that
            every item goes through the same arithmetic however many workers there are. `shared_threads` of
            them is faster.
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
    todo = iter(items)
    begun: deque[Future[Outcome[Item, Result]]] = deque()
    try:
        begun.extend(pool.submit(_outcome, item, work) for item in islice(todo, workers + ahead))
        while begun:
            outcome = begun.popleft().result()
            begun.extend(pool.submit(_outcome, item, work) for item in islice(todo, 1))
            yield outcome
    finally:
        pool.shutdown(wait=not off_thread, cancel_futures=True)


def _outcome(item: Item, work: Callable[[Item], Result]) -> Outcome[Item, Result]:
    try:
        return Outcome(item, work(item), None)
    except TagmaskError as error:
        return Outcome(item, None, error)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        # Without its traceback, whose frames would keep what filled the memory.
        return Outcome(item, None, error.with_traceback(None))


def shared_threads(workers: int) -> int:
    """The caller's threads, dealt out to so many workers."""
    return max(1, torch.get_num_threads() // workers)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that the memory, of whatever device, is full."""
    if not isinstance(error, MemoryError | RuntimeError):
        return False
    # torch has a type of its own for a full GPU, but reports a full main memory as a plain RuntimeError.
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said
