"""Download progress on stderr: a bar on a terminal, else a line every 30 seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from tagmask.cli.console import message
from tagmask.printable import printable

__all__ = ["download_progress"]

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def download_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yield the progress callback for `load`. Nothing is shown until a download starts."""
    with ExitStack() as stack:
        yield _bars(stack) if sys.stderr.isatty() else _lines()


def _bars(stack: ExitStack) -> Callable[[str, int, int | None], None]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    tasks: dict[str, TaskID] = {}

    def show(name: str, done: int, total: int | None) -> None:
        if not tasks:
            stack.enter_context(progress)
        if name not in tasks:
            tasks[name] = progress.add_task(printable(name), total=total)
        progress.update(tasks[name], completed=done, total=total)

    return show


def _lines() -> Callable[[str, int, int | None], None]:
    last = time.monotonic()

    def show(name: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            message(f"{name}: {done / 1e6:.0f}" + (f" of {total / 1e6:.0f} MB" if total else " MB"))

    return show
