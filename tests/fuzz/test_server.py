"""The harness of `make fuzz`, with readers that do what no reader may: each is caught."""

import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("forks, and reads /proc", allow_module_level=True)

from benchmarks.fuzz.judge import Budget, Outcome
from benchmarks.fuzz.kind import Believed, Kind
from benchmarks.fuzz.pickles import trapped
from benchmarks.fuzz.server import Server, batches

from tagmask.errors import InputError

SMALL = Budget(memory=20_000_000, seconds=0.25)


def outcomes(
    read: Callable[[Path], int], count: int = 1, budget: Budget = SMALL, **options: float
) -> list[Outcome]:
    """Read `count` inputs, all of them b"good"."""
    kind = Kind((b"good",), read, (lambda data, others, rng: data,), "input.bin")
    found: list[Outcome] = []
    server = Server({"kind": kind}, budget=budget, **options)  # type: ignore[arg-type]
    server.run(batches({"kind": count}, 8), 1, lambda _, outcome: found.append(outcome))
    assert sorted(outcome.case for outcome in found) == list(range(count))
    return sorted(found, key=lambda outcome: outcome.case)


def good(path: Path) -> int:
    assert path.read_bytes() == b"good"
    return 0


def refuses(path: Path) -> int:
    raise InputError(f"{path} is damaged.")


def fails(path: Path) -> int:
    raise ValueError(f"{path} is damaged.")


def exits(path: Path) -> int:
    sys.exit(f"{path} is damaged.")


def names_nothing(path: Path) -> int:
    raise InputError("The file is damaged.")


def believes(path: Path) -> int:
    raise Believed("NaN")


def takes_memory(path: Path) -> int:
    bytearray(64_000_000)
    return 0


def takes_memory_for_pixels(path: Path) -> int:
    bytearray(64_000_000)
    return 10_000_000


def takes_all_memory(path: Path) -> int:
    bytearray(1 << 40)
    return 0


def spins_in_c(path: Path) -> int:
    sum(range(1 << 40))
    return 0


def is_slow(path: Path) -> int:
    start = time.process_time()
    while time.process_time() < start + 0.27:
        pass
    return 0


def writes(path: Path) -> int:
    (path.parent / "out").mkdir()
    return 0


def crashes(path: Path) -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def leaves(path: Path) -> int:
    os._exit(0)


@pytest.mark.parametrize(
    ("read", "verdict", "detail"),
    [
        (takes_memory, "memory", "MB for 0 pixels"),
        (takes_memory_for_pixels, "ok", ""),
        (takes_all_memory, "memory", "MemoryError"),
    ],
)
def test_memory_beyond_the_budget_is_caught(read: Callable[[Path], int], verdict: str, detail: str) -> None:
    (found,) = outcomes(read, budget=replace(SMALL, seconds=10.0))  # getting memory may take long
    assert found.verdict == verdict, found
    assert detail in found.detail


def test_memory_that_was_freed_before_counts() -> None:
    for _ in range(2):  # an allocator that has seen large blocks freed keeps the next ones
        blocks = [bytearray(1 << 20) for _ in range(300)]
        del blocks[:-1]
    (found,) = outcomes(takes_memory, budget=replace(SMALL, seconds=10.0))
    assert found.verdict == "memory", found


@pytest.mark.parametrize(
    ("read", "verdict", "detail"),
    [
        (good, "ok", ""),
        (refuses, "refused", "InputError"),
        (fails, "foreign", "ValueError at test_server.py"),
        (exits, "foreign", "SystemExit"),
        (names_nothing, "unnamed", "The file is damaged"),
        (believes, "believed", "NaN"),
        (spins_in_c, "time", "SIGPROF, alone too"),
        (is_slow, "time", "s for 0 pixels"),
        (writes, "escaped", "written: out"),
        (crashes, "crash", "SIGSEGV, alone too"),
        (leaves, "crash", "exit code 0, alone too"),
    ],
)
def test_each_fault_is_caught(read: Callable[[Path], int], verdict: str, detail: str) -> None:
    (found,) = outcomes(read)
    assert found.verdict == verdict, found
    assert detail in found.detail


def test_code_that_runs_is_seen() -> None:
    def unpickles(path: Path) -> int:
        pickle.loads(path.read_bytes())
        return 0

    kind = Kind((pickle.dumps({"a": [1]}),), unpickles, (lambda data, _, rng: trapped(data, rng),))
    verdicts = {Server({"kind": kind}).run_alone("kind", [case])[-1].verdict for case in range(8)}
    assert "escaped" in verdicts


def test_a_hanging_reader_is_killed() -> None:
    (found,) = outcomes(lambda path: time.sleep(60), patience=0.5)  # type: ignore[arg-type,return-value]
    assert (found.verdict, found.detail) == ("time", "no answer in 0 s")


def test_a_crash_that_needs_other_inputs_is_found_with_them() -> None:
    calls = []

    def third_crashes(path: Path) -> int:
        calls.append(path)
        if len(calls) % 3 == 0:
            os.kill(os.getpid(), signal.SIGABRT)
        return 0

    found = outcomes(third_crashes, count=8)
    assert [outcome.verdict for outcome in found] == ["ok", "ok", "crash", "ok", "ok", "crash", "ok", "ok"]
    assert found[2].detail == "SIGABRT; not alone, but after the 2 cases before it"


def test_the_rest_of_a_batch_is_read_after_a_crash() -> None:
    def crashes_once(path: Path) -> int:
        if os.environ.get("TAGMASK_FUZZED"):
            return 0
        os.environ["TAGMASK_FUZZED"] = "1"  # of the child alone
        raise ValueError(path.name)

    verdicts = [outcome.verdict for outcome in outcomes(crashes_once, count=12)]
    assert verdicts == ["foreign", *["ok"] * 7, "foreign", *["ok"] * 3]
    assert "TAGMASK_FUZZED" not in os.environ


def test_a_fault_of_the_harness_itself_is_raised() -> None:
    def broken(data: bytes, others: object, rng: object) -> bytes:
        raise ZeroDivisionError

    server = Server({"kind": Kind((b"good",), good, (broken,))})
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        server.run(batches({"kind": 1}, 1), 1, lambda *_: None)


def test_batches_take_turns() -> None:
    work = list(batches({"a": 5, "b": 2}, 2))
    assert [(batch.name, list(batch.cases)) for batch in work] == [
        ("a", [0, 1]), ("b", [0, 1]), ("a", [2, 3]), ("a", [4]),
    ]  # fmt: skip
