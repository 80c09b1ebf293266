"""What commands that write a run folder share: the loop, its report, its end."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from tagmask.cli.console import message, report, report_failure, with_progress
from tagmask.errors import OutputError
from tagmask.runs.failures import RepeatedFailure
from tagmask.runs.folder import RunFolder, RunStopped
from tagmask.runs.ordered_map import shared_threads
from tagmask.runs.planning import Plan
from tagmask.runs.producer import Produced, Terminated, Work, produce, sigterm_raises, workers_finished
from tagmask.runs.stages import Stages

__all__ = ["ONLY_BACKGROUND", "Totals", "run_images", "stops_reported"]

_LEAST_CONFIDENT = 5
ONLY_BACKGROUND = "Lower --threshold, give --no-background, or check the words and the weights."
"""What to do where every image came out as background."""


@dataclass
class Totals:
    """What a run did this time."""

    done: int = 0
    failed: int = 0
    only_background: int = 0
    doubtful: list[tuple[float, str]] = field(default_factory=list)
    """The least confident images: confidence and name."""


def run_images(
    run: RunFolder,
    plan: Plan,
    work: Work | Stages[Any, Any],
    *,
    workers: int,
    show: Callable[[Produced], str] | None,
    hint: str = ONLY_BACKGROUND,
) -> Totals:
    """Compute the images of a plan, print each result, and a summary at the end.

    Args:
        run: an open run.
        plan: its plan.
        work: computes one image and writes its files.
        workers: images at once.
        show: the line to print for an image that was done; None: print none.
        hint: what to do where every image came out as background.

    Returns:
        Counts of this time; images that an earlier run did are not in them.

    Raises:
        RunStopped: nothing more can be written.
        RepeatedFailure: the same unexpected failure again and again.
    """
    totals = Totals()
    began = time.monotonic()
    if plan.done or plan.vanished:
        message(f"{plan.summary()}.")
    # By the images given, not by those left: torch's rounding depends on its threads, and a run that goes on
    # must record what an uninterrupted one does.
    workers = max(1, min(workers, plan.total))
    produced = produce(run, plan, work, workers=workers, threads=shared_threads(workers))
    for each in with_progress(produced, plan.todo, failures=lambda: totals.failed):
        if each.result is None:
            totals.failed += 1
            report_failure(each.task.found.path, each.error)
            continue
        totals.done += 1
        result = each.result
        if result.shares is not None and set(result.shares) <= {"background"}:
            totals.only_background += 1
        if result.confidence is not None:
            totals.doubtful.append((result.confidence, each.task.name))
            totals.doubtful = sorted(totals.doubtful)[:_LEAST_CONFIDENT]
        if show is not None:
            typer.echo(show(each))
    _summary(run, plan, totals, time.monotonic() - began, hint)
    return totals


def _summary(run: RunFolder, plan: Plan, totals: Totals, seconds: float, hint: str) -> None:
    if plan.total == 1 and not totals.failed:
        return
    failed = f", {totals.failed} failed" if totals.failed else ""
    earlier = f", {plan.done} were done before" if plan.done else ""
    speed = f" in {_duration(seconds)}" if totals.done else ""
    message(f"{totals.done} of {plan.total} images done{speed}{earlier}{failed}.")
    if totals.doubtful and plan.total > _LEAST_CONFIDENT:
        shown = ", ".join(f"{name} ({confidence:.2f})" for confidence, name in totals.doubtful)
        message(f"Least confident: {shown}.")
    if totals.done and totals.only_background == totals.done:
        message(f"Every image came out as background. {hint}")
    message(f"Results are in {run.path}.")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
    )


@contextmanager
def stops_reported(out: Path, go_on: str = "run the same command") -> Iterator[None]:
    """End a run that is stopped by a signal, a full disk or a fault: say how to go on, and exit.

    Args:
        out: where its results are.
        go_on: what to do to go on.

    Exit codes: 130 for SIGINT, 143 for SIGTERM, 2 for everything else.
    """
    try:
        with sigterm_raises():
            yield
    except (KeyboardInterrupt, Terminated) as error:
        message(f"Stopped. What is done is kept in {out}; {go_on} to go on.")
        _exit(143 if isinstance(error, Terminated) else 130)
    except (RunStopped, RepeatedFailure, OutputError) as error:
        report(error)
        _exit(2)


def _exit(code: int) -> None:
    """Exit now, even if a thread is in an operation that nothing interrupts."""
    if workers_finished():
        raise typer.Exit(code)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
