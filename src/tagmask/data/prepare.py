"""Write converted files. Existing files are kept, so an interrupted run resumes; writes are atomic."""

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
    """A file to write."""

    target: Path
    make: Callable[[], bytes]
    """Returns the content; raises TagmaskError if the source is missing or damaged."""


@dataclass(frozen=True)
class Done:
    """The result of a job."""

    target: Path
    made: bool
    """Whether the file was written; False if it existed or the job failed."""
    error: str | None = None


def convert(jobs: Sequence[Job], *, workers: int = 1, again: bool = False) -> Iterator[Done]:
    """Run jobs and yield their results, in order.

    Args:
        jobs: as `jobs_of` gives them.
        workers: number of processes; 1 runs in this process.
        again: overwrite existing files.

    Raises:
        InputError: `workers` under 1.
        OutputError: a file cannot be written. Files written before are kept.
    """
    check_number("workers", workers, 1, whole=True)
    if workers == 1:
        yield from (_run(job, again) for job in jobs)
        return
    # Spawn, since a process forked while threads run may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(_run, jobs, [again] * len(jobs), chunksize=16)
        finally:
            pool.shutdown(cancel_futures=True)


def _run(job: Job, again: bool) -> Done:
    if job.target.exists() and not again:
        return Done(job.target, made=False)
    try:
        content = job.make()
    except TagmaskError as error:
        return Done(job.target, made=False, error=str(error))
    write_bytes(job.target, content)
    return Done(job.target, made=True)
