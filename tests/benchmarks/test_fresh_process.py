import os
import time

from benchmarks.fresh_process import in_fresh_process


def test_the_call_runs_in_another_process() -> None:
    assert in_fresh_process(os.getpid, limit=60) not in (None, os.getpid())


def test_a_call_that_takes_too_long_is_ended() -> None:
    start = time.monotonic()
    assert in_fresh_process(time.sleep, 120, limit=0.5) is None
    assert time.monotonic() - start < 60
