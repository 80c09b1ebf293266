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
            raise ImageError("b is no image")
        if name == "c":
            raise full
        return name.upper()

    outcomes = list(ordered_map("abcd", work, workers=workers))
    assert [outcome.item for outcome in outcomes] == list("abcd")
    assert [outcome.result for outcome in outcomes] == ["A", None, None, "D"]
    assert [outcome.reason for outcome in outcomes[:2]] == [None, "b is no image"]
    assert outcomes[2].error is full
    assert str(outcomes[2].reason).startswith("not enough memory")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("fault", [KeyError("x"), RuntimeError("shapes do not fit"), NotImplementedError()])
def test_a_fault_of_the_program_is_not_hidden(fault: Exception, workers: int) -> None:
    def work(item: int) -> str:
        raise fault

    with pytest.raises(type(fault)):
        list(ordered_map(range(4), work, workers=workers))


def test_out_of_memory_is_said_of_full_memories_only() -> None:
    assert all(map(out_of_memory, FULL))
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ImageError("the photo of a card that says: out of memory"))


@pytest.mark.parametrize(("workers", "ahead"), [(1, 1), (3, 0), (3, 1), (3, 3)])
def test_outcomes_come_in_order_and_few_items_are_ahead(workers: int, ahead: int) -> None:
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
def test_items_not_begun_are_never_begun_when_the_reader_stops(workers: int) -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)

    outcomes = ordered_map(range(50), work, workers=workers, ahead=20)
    next(outcomes)
    outcomes.close()
    so_far = len(begun)
    assert so_far <= 2 * workers + 3
    time.sleep(0.05)
    assert len(begun) == so_far


def test_one_worker_is_the_caller_as_outcomes_are_read() -> None:
    seen = []
    outcomes = ordered_map("abc", lambda item: seen.append((item, threading.current_thread())))
    next(outcomes)
    assert seen == [("a", threading.current_thread())]


def test_workers_compute_with_as_many_threads_as_the_caller() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        found = ordered_map(range(4), lambda item: torch.get_num_threads(), workers=2)
        assert [outcome.result for outcome in found] == [3, 3, 3, 3]
        assert (shared_threads(2), shared_threads(5)) == (1, 1)
        shared = ordered_map(range(3), lambda item: torch.get_num_threads(), workers=2, threads=1)
        assert [outcome.result for outcome in shared] == [1, 1, 1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("given", "said"), [({"workers": 0}, "workers is 0"), ({"ahead": -1}, "ahead is -1")]
)
def test_numbers_out_of_range_are_refused(given: dict[str, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        next(ordered_map("abc", str.upper, **given))
