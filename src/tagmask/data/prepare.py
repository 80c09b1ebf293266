"""Making files: what is there is left alone, so a stopped run goes on; a file is whole or not there."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from tagmask.checks import check_number
from tagmask.errors import TagmaskError
from tagmask.files import write_bytes

__all__ = ["Done", "Job", "convert"]


@dataclass(frozen=True)
class Job:
    """A file to be made."""

    target: Path
    make: Callable[[], bytes]
    """Gives its content; raises TagmaskError where what it is made from is absent or damaged."""


@dataclass(frozen=True)
class Done:
    """What became of a job."""

    target: Path
    made: bool
    """False: it was there, or it failed."""
    error: str | None = None


def convert(jobs: Sequence[Job], *, workers: int = 1, again: bool = False) -> Iterator[Done]:
    """Do jobs, and say of each what became of it, in their order.

    Args:
        jobs: as `jobs_of` gives them.
        workers: processes; 1 works in this one.
        again: make files anew that are there.

    Raises:
        InputError: `workers` under 1.
        OutputError: a file cannot be written. What was made stays.
    """
    check_number("workers", workers, 1, whole=True)
    if workers == 1:
        yield from (_do(job, again) for job in jobs)
        return
    # A fresh interpreter for each: one that is copied while threads run may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(_do, jobs, [again] * len(jobs), chunksize=16)
        finally:
            pool.shutdown(cancel_futures=True)


def _do(job: Job, again: bool) -> Done:
    if job.target.exists() and not again:
        return Done(job.target, made=False)
    try:
        content = job.make()
    except TagmaskError as error:
        return Done(job.target, made=False, error=str(error))
    write_bytes(job.target, content)
    return Done(job.target, made=True)
