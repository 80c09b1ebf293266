"""Many images: one bad image never stops the rest, and several may be in work at the same time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import torch

from tagmask.checks import check_number
from tagmask.errors import TagmaskError
from tagmask.runtime.folders import FoundImage

__all__ = ["Outcome", "out_of_memory", "run"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one image: a result, or the reason why there is none."""

    image: FoundImage
    result: Result | None
    error: str | None


def run(
    images: Iterable[FoundImage], work: Callable[[FoundImage], Result], *, in_flight: int = 1
) -> Iterator[Outcome[Result]]:
    """Do `work` for each image; outcomes come in order, as the iterator is read.

    Errors of one image (unreadable, unwritable, too large for the memory at hand) become its outcome; faults
    of the program itself are raised, and images not begun by then never are.

    Args:
        images: read as they are needed.
        work: called from threads where `in_flight` is over 1, and must bear that.
        in_flight: images worked on at the same time. One is decoded or written while another computes, and
            the threads of torch are shared out among them.

    Raises:
        InputError: `in_flight` under 1.
    """
    check_number("in_flight", in_flight, 1, whole=True)
    if in_flight == 1:
        for image in images:
            yield _outcome(image, work)
        return
    share = max(1, torch.get_num_threads() // in_flight)
    pool = ThreadPoolExecutor(in_flight, "image", torch.set_num_threads, (share,))
    waiting = iter(images)
    running: deque[Future[Outcome[Result]]] = deque()
    try:
        # One more than are worked on, so that no thread waits; no more, so that memory stays flat.
        running.extend(pool.submit(_outcome, image, work) for image in islice(waiting, in_flight + 1))
        while running:
            outcome = running.popleft().result()
            running.extend(pool.submit(_outcome, image, work) for image in islice(waiting, 1))
            yield outcome
    finally:
        pool.shutdown(cancel_futures=True)


def _outcome(image: FoundImage, work: Callable[[FoundImage], Result]) -> Outcome[Result]:
    try:
        return Outcome(image, work(image), None)
    except TagmaskError as error:
        return Outcome(image, None, str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return Outcome(image, None, "not enough memory for this image; reduce it, or use another device")


def out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether an error says that the memory, of whatever device, is full."""
    # torch has a type of its own for a full GPU, but reports a full main memory as a plain RuntimeError.
    said = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in said or "can't allocate memory" in said
