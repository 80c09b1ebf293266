"""Commands of tagmask that the page starts: each in a process of its own, one at a time."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tagmask.errors import InputError, OutputError
from tagmask.printable import printable
from tagmask.runs.progress import run_progress

__all__ = ["Job", "JobPlan", "Jobs", "free_folder"]

_PATIENCE: Final = 15.0
"""Seconds that a stopped command has to end by itself."""
_LONGEST: Final = 400
"""Letters of a message."""


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job is to do."""

    kind: str
    arguments: Sequence[str]
    """Of the command, without the folder that it writes."""
    out: Path
    """A new folder for its results."""
    total: int | None = None
    """Results to print; None: the images of the run that it makes."""


@dataclass
class Job:
    """A command that was started."""

    id: str
    plan: JobPlan
    state: str = "running"
    """Then done, failed or stopped."""
    printed: int = 0
    message: str = ""
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    is_stopped: bool = False

    def described(self) -> dict[str, object]:
        """What the page shows."""
        plan = self.plan
        done, total = (self.printed, plan.total) if plan.total is not None else run_progress(plan.out)
        result = str(plan.out) if self.state == "done" or (self.state == "stopped" and done) else None
        return {
            "id": self.id,
            "kind": plan.kind,
            "state": self.state,
            "done": done,
            "total": total,
            "message": self.message,
            "result": result,
        }


class Jobs:
    """The commands of one server, in the order in which they were started.

    Args:
        program: what is started, before the arguments.
    """

    def __init__(self, program: Sequence[str] = (sys.executable, "-m", "tagmask")) -> None:
        self._program = program
        self._jobs: list[Job] = []
        self._lock = threading.Lock()

    def list(self) -> list[dict[str, object]]:
        """Return every job."""
        return [job.described() for job in self._jobs]

    def start(self, make_plan: Callable[[], JobPlan]) -> str:
        """Start a job, and return its id.

        Args:
            make_plan: called if none is running; makes the folder.

        Raises:
            InputError: one is running.
            OutputError: the folder or the process cannot be made.
        """
        with self._lock:
            if any(job.state == "running" for job in self._jobs):
                raise InputError("Another job is running. Stop it, or wait until it ends.")
            plan = make_plan()
            job = Job(str(len(self._jobs) + 1), plan)
            command = [*self._program, *plan.arguments, "--out", str(plan.out)]
            try:
                job.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    encoding="utf-8",
                    errors="replace",
                    env={**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
                )
            except OSError as error:
                _remove_if_empty(plan.out)
                raise OutputError(f"The command cannot be started: {error.strerror}.") from error
            self._jobs.append(job)
        threading.Thread(
            target=self._follow, args=(job, job.process), name="tagmask-job", daemon=True
        ).start()
        return job.id

    def stop(self, job_id: str | None = None) -> None:
        """Stop a job, or whichever is running; what it has done stays.

        Raises:
            InputError: there is no such job.
        """
        found = [job for job in self._jobs if job_id in (None, job.id)]
        if job_id is not None and not found:
            raise InputError("There is no such job.")
        for job in found:
            if job.state == "running" and job.process is not None:
                job.is_stopped = True
                _interrupt(job.process)
                killer = threading.Timer(_PATIENCE, job.process.kill)
                killer.daemon = True
                killer.start()

    def _follow(self, job: Job, process: "subprocess.Popen[str]") -> None:
        with process:  # closes its pipes
            assert process.stdout is not None  # both are pipes
            assert process.stderr is not None
            said = threading.Thread(target=_read_messages, args=(job, process.stderr), daemon=True)
            said.start()
            for _ in process.stdout:
                job.printed += 1
            said.join()
            code = process.wait()
        job.message = job.message.removeprefix("tagmask: ")
        job.state = "stopped" if job.is_stopped and code else "done" if code in (0, 1) else "failed"
        if job.state != "done":
            _remove_if_empty(job.plan.out)


def free_folder(run: Path, what: str) -> Path:
    """Make a new folder beside a run: RUN-what, or RUN-what-2 and so on.

    Raises:
        OutputError: it cannot be made.
    """
    run = run.resolve()
    number = 1
    while True:
        folder = run.with_name(f"{run.name}-{what}{'' if number == 1 else f'-{number}'}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        except OSError as error:
            raise OutputError(f"{folder} cannot be made: {error.strerror}.") from error
        else:
            return folder


def _read_messages(job: Job, stream: Iterable[str]) -> None:
    for line in stream:
        if line.strip():
            job.message = printable(line.strip())[:_LONGEST]


def _interrupt(process: "subprocess.Popen[str]") -> None:
    if os.name == "nt":
        process.terminate()
    else:
        process.send_signal(signal.SIGINT)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
