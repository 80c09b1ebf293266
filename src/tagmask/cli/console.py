"""Messages, errors and progress on stderr; stdout is for results.

Control characters of names, and of whatever else comes from outside, are escaped before they are printed.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from tagmask.errors import TagmaskError
from tagmask.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = [
    "LogHandler",
    "bold",
    "green",
    "heading",
    "message",
    "print_path",
    "print_summary",
    "report",
    "report_errors",
    "report_failure",
    "report_if_stopped",
    "show",
    "with_progress",
]

_SECONDS_BETWEEN_LINES = 30.0

Item = TypeVar("Item")


def message(text: str) -> None:
    """Print one line on stderr."""
    typer.echo(printable(text), err=True)


def heading(text: str) -> None:
    """Print one bold line on stderr."""
    typer.echo(bold(text), err=True)


def show(text: str) -> None:
    """Print one line on stdout, for people to read."""
    typer.echo(printable(text))


def print_path(path: Path) -> None:
    """Print a result's path on stdout: as it is, for other programs to read, unless that is a terminal."""
    typer.echo(printable(str(path)) if sys.stdout.isatty() else str(path))


def report(error: TagmaskError) -> None:
    """Print an error on stderr: what is wrong in the first line, then the details."""
    problem, *details = error.lines
    message(f"tagmask: {problem}")
    for line in details:
        message(line)


@contextmanager
def report_errors() -> Iterator[None]:
    """Turn an expected error into one message and exit code 2."""
    try:
        with _forward_logs():
            yield
            sys.stdout.flush()
    except TagmaskError as error:
        report(error)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        message("tagmask: stopped")
        raise typer.Exit(130) from error
    except OSError as error:
        # It can only be stdout: all other files raise a TagmaskError.
        _close_stdout()
        if isinstance(error, BrokenPipeError):  # the reader has stopped, as in `| head`
            raise typer.Exit(141) from error
        message(f"tagmask: Results cannot be written to stdout: {error.strerror}.")
        raise typer.Exit(2) from error


def _close_stdout() -> None:
    """Prevent a second error when the interpreter flushes a broken stdout at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _forward_logs() -> Iterator[None]:
    """Print the library's log records on stderr while a command runs."""
    handler = LogHandler(logging.INFO)
    logger = logging.getLogger("tagmask")
    previous_level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous_level)
        handler.close()


class LogHandler(logging.Handler):
    """Prints log records on stderr.

    A record with the attribute `progress`, the numbers of what is done and of all, is shown as progress: a
    bar on a terminal, else a line every 30 seconds.
    """

    def __init__(self, level: int = logging.INFO) -> None:
        super().__init__(level)
        self._bar: Progress | None = None
        self._last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        done, total = getattr(record, "progress", (0, 0))
        if not total:
            message(record.getMessage())
            self._last = time.monotonic()
        elif sys.stderr.isatty():
            self._update_bar(done, total)
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            message(record.getMessage())

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        super().close()

    def _update_bar(self, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        if self._bar is None:
            columns = (BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(
                *columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()
            )
            self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self._bar.stop()
            self._bar = None


@contextmanager
def report_if_stopped(results: Path | None) -> Iterator[None]:
    """If the user stops the run, print where its results so far are."""
    try:
        yield
    except KeyboardInterrupt:
        if results is not None:
            message(f"results so far are in {results}")
        raise


def report_failure(path: Path, error: str | None) -> None:
    """Print why an image failed, without repeating its path."""
    shown, reason = printable(str(path)), printable(error or "unknown reason")
    message(f"failed: {reason}" if reason.startswith(shown) else f"failed: {shown}: {reason}")


def bold(text: str) -> str:
    """Return bold text for terminals; plain if NO_COLOR is set."""
    return printable(text) if os.environ.get("NO_COLOR") else typer.style(printable(text), bold=True)


def green(text: str) -> str:
    """Return green text for terminals; plain if NO_COLOR is set."""
    return printable(text) if os.environ.get("NO_COLOR") else typer.style(printable(text), fg="green")


def print_summary(images: int, failed: int, out: Path | None) -> None:
    """Print the closing lines: how many images succeeded and failed, and where the results are."""
    if images > 1 or failed:
        message(f"{images - failed} of {images} images done" + (f", {failed} failed" if failed else ""))
    if out is not None and failed < images:
        message(f"written to {out}")


def with_progress(
    items: Iterable[Item], total: int, *, failures: Callable[[], int] | None = None
) -> Iterator[Item]:
    """Yield the items with progress: a bar on a terminal, else a line every 30 seconds.

    Args:
        items: what is processed.
        total: how many there are.
        failures: the number of items that have failed so far, to be shown.
    """
    if total < 2:
        yield from items
    elif sys.stderr.isatty():
        yield from _with_bar(items, total, failures or (lambda: 0))
    else:
        yield from _with_lines(items, total, failures or (lambda: 0))


def _with_bar(items: Iterable[Item], total: int, failures: Callable[[], int]) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Results printed meanwhile go above the bar if stdout is the same terminal, else to stdout as usual.
    progress = Progress(
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    )
    with progress:
        task = progress.add_task("", total=total, speed="", failed="")
        began = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            failed = failures()
            progress.update(
                task,
                completed=done,
                speed=_speed(done, time.monotonic() - began),
                failed=f"{failed} failed" if failed else "",
            )


def _with_lines(items: Iterable[Item], total: int, failures: Callable[[], int]) -> Iterator[Item]:
    began = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            left = (now - began) / done * (total - done)
            failed = f", {failures()} failed" if failures() else ""
            message(
                f"{done} of {total} images, {_speed(done, now - began)}, {left / 60:.0f} min left{failed}"
            )


def _speed(done: int, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    return f"{rate:.1f} images/s" if rate >= 1 or not done else f"{1 / rate:.1f} s/image"
