"""Talk on stderr: notes, errors, progress. Never on stdout, which is for results."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import typer

from tagmask.errors import TagmaskError

__all__ = ["bold", "errors_reported", "green", "say", "say_failed", "sum_up", "watched"]

_SECONDS_BETWEEN_LINES = 30.0

Item = TypeVar("Item")


def say(text: str) -> None:
    """One line on stderr."""
    typer.echo(text, err=True)


@contextmanager
def errors_reported() -> Iterator[None]:
    """Turn an error that the user can mend into one message and exit code 2."""
    try:
        yield
    except TagmaskError as error:
        say(f"tagmask: {error}")
        raise typer.Exit(2) from error


def say_failed(path: Path, error: str | None) -> None:
    """One image's reason, with its path said once."""
    reason = error or "no reason known"
    say(f"failed: {reason}" if str(path) in reason else f"failed: {path}: {reason}")


def bold(text: str) -> str:
    """For terminals; NO_COLOR leaves it plain."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, bold=True)


def green(text: str) -> str:
    """For terminals; NO_COLOR leaves it plain."""
    return text if os.environ.get("NO_COLOR") else typer.style(text, fg="green")


def sum_up(images: int, failed: int, out: Path | None) -> None:
    """One closing line: how many images, how many failed, where the results are."""
    if images > 1 or failed:
        say(f"{images - failed} of {images} images done" + (f", {failed} failed" if failed else ""))
    if out is not None:
        say(f"written to {out}")


def watched(items: Iterable[Item], total: int) -> Iterator[Item]:
    """Pass items on, with a bar where stderr is a terminal and a line now and then where it is not."""
    if total < 2:
        yield from items
    elif sys.stderr.isatty():
        yield from _with_bar(items, total)
    else:
        yield from _with_lines(items, total)


def _with_bar(items: Iterable[Item], total: int) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Results printed meanwhile must go above the bar if they share its terminal, and stay on stdout if not.
    progress = Progress(
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
        redirect_stderr=True,
    )
    with progress:
        yield from progress.track(items, total=total)


def _with_lines(items: Iterable[Item], total: int) -> Iterator[Item]:
    last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            say(f"{done} of {total} images")
