import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from tagmask.errors import ImageError, InputError
from tagmask.runs.ordered_map import ordered_map, out_of_memory, shared_threads

FULL = [
    MemoryError("no room"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 4 TB"),
    RuntimeError("CUDA out of memory. Tried to allocate 4 TiB"),
]


@pytest.mark.parametrize("full", FULL)
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_one_bad_item_never_stops_the_rest(full: Exception, workers: int) -> None:
    def work(name: str) -> str:
        if name == "b":
            raise ImageError("b is not an image.")
        if name == "c":
            raise full
        return name.upper()

    outcomes = list(ordered_map("abcd", work, workers=workers))
    assert [outcome.item for outcome in outcomes] == list("abcd")
    assert [outcome.result for outcome in outcomes] == ["A", None, None, "D"]
    assert [outcome.reason for outcome in outcomes[:2]] == [None, "b is not an image."]
    assert outcomes[2].error is full
    assert str(outcomes[2].reason).startswith("Not enough memory")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fault", [KeyError("x"), RuntimeError("shapes do not fit"), NotImplementedError()])
def test_other_errors_are_raised(fault: Exception, workers: int) -> None:
    def work(item: int) -> str:
        raise fault

    with pytest.raises(type(fault)):
        list(ordered_map(range(4), work, workers=workers))


def test_only_full_memory_is_out_of_memory() -> None:
    assert all(map(out_of_memory, FULL))
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ImageError("the photo of a card that says: out of memory"))


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (3, 0), (3, 1), (3, 3)])
def test_outcomes_are_in_order_and_few_items_are_read_ahead(workers: int, ahead: int) -> None:
    lock, now, most, read = threading.Lock(), [0], [0], [0]

    def work(item: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02 if item % 3 == 0 else 0.005)
        with lock:
            now[0] -= 1
        return item

    def items() -> Iterator[int]:
        for item in range(12):
            read[0] += 1
            yield item

    for i, outcome in enumerate(ordered_map(items(), work, workers=workers, ahead=ahead)):
        assert outcome.result == i
        assert read[0] <= i + 1 + (workers + ahead if workers > 1 else 0)
    assert read[0] == 12
    assert most[0] == workers


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_the_iterator_starts_no_more_items(workers: int) -> None:
    started = []

    def work(item: int) -> None:
        started.append(item)
        time.sleep(0.01)

    outcomes = ordered_map(range(50), work, workers=workers, ahead=20)
    next(outcomes)
    outcomes.close()
    so_far = len(started)
    assert so_far <= 2 * workers + 3
    time.sleep(0.05)
    assert len(started) == so_far


@pytest.mark.skipif(os.name == "nt", reason="pthread_kill")
def test_a_signal_that_does_not_wake_the_caller_is_seen_soon() -> None:
    """Caught by another thread, as it may be, it leaves the caller asleep in its wait for the result."""
    ended = threading.Event()

    def work(item: str) -> None:
        time.sleep(0.1)  # the caller is asleep by now
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        ended.wait(10)

    outcomes = ordered_map("a", work, off_thread=True)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            next(outcomes)
        assert time.monotonic() - began < 5
    finally:
        ended.set()


def test_a_single_worker_runs_in_the_callers_thread() -> None:
    calls = []
    outcomes = ordered_map("abc", lambda item: calls.append((item, threading.current_thread())))
    next(outcomes)
    assert calls == [("a", threading.current_thread())]


def test_workers_use_as_many_threads_as_the_caller() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        outcomes = ordered_map(range(4), lambda item: torch.get_num_threads(), workers=2)
        assert [outcome.result for outcome in outcomes] == [3, 3, 3, 3]
        assert (shared_threads(2), shared_threads(5)) == (1, 1)
        shared = ordered_map(range(3), lambda item: torch.get_num_threads(), workers=2, threads=1)
        assert [outcome.result for outcome in shared] == [1, 1, 1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("options", "message"), [({"workers": 0}, "workers is 0"), ({"ahead": -1}, "ahead is -1")]
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        next(ordered_map("abc", str.upper, **options))
