"""Unexpected failures: one is its image's, the same one many times in a row is a fault of the program."""

import os
import time
import traceback
from pathlib import Path

from tagmask.errors import TagmaskError
from tagmask.printable import printable
from tagmask.runs.ordered_map import out_of_memory
from tagmask.runtime.folders import FoundImage

__all__ = ["FailureGuard", "RepeatedFailure", "reason_of", "recorded_reason"]


_NO_LINK_NO_WAIT = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class RepeatedFailure(TagmaskError):
    """A run that was stopped because every image failed in the same unexpected way."""


class FailureGuard:
    """Watches the outcomes of a run, in their order."""

    def __init__(self, log: Path, limit: int = 20) -> None:
        self.log = log
        self.limit = limit
        self._last: tuple[object, ...] | None = None
        self._times = 0
        self._logged: set[tuple[object, ...]] = set()

    def succeeded(self) -> None:
        """Note that an image was done."""
        self._last, self._times = None, 0

    def failed(self, error: BaseException) -> None:
        """Note that an image failed.

        The traceback of each kind of unexpected failure goes to the log once.

        Raises:
            RepeatedFailure: for the last of so many identical unexpected failures in a row.
        """
        if not _unexpected(error):
            self.succeeded()
            return
        kind = _kind(error)
        self._times = self._times + 1 if kind == self._last else 1
        self._last = kind
        if kind not in self._logged:
            self._logged.add(kind)
            self._write(error)
        if self._times >= self.limit:
            raise RepeatedFailure(
                f"Stopped: {self._times} images in a row failed in the same way ({reason_of(error)}). This "
                f"is a fault of tagmask, not of the images. Please report the traceback in {self.log}."
            ) from error

    def _write(self, error: BaseException) -> None:
        lines = "".join(traceback.format_exception(error))
        when = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            # Not through a link, and without waiting for whoever reads a pipe.
            file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_LINK_NO_WAIT, 0o666)
            with os.fdopen(file, "a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"{when}\n{lines}\n")
        except OSError:
            return  # what cannot be logged is still reported, image by image


def reason_of(error: BaseException) -> str:
    """Why an image failed, in one line that a terminal may show.

    Example:
        >>> reason_of(KeyError("cat"))
        "unexpected KeyError: 'cat'"
    """
    if isinstance(error, Exception) and out_of_memory(error):
        return "not enough memory for this image; reduce it, or use another device"
    said = printable(" ".join(str(error).split()))
    if isinstance(error, TagmaskError):
        return said
    name = type(error).__name__
    return f"unexpected {name}: {said}" if said else f"unexpected {name}"


def recorded_reason(error: BaseException, found: FoundImage) -> str:
    """Why an image failed, as a run records it: without the image's folder, as runs and reports are shared.

    Example:
        >>> from pathlib import PurePosixPath
        >>> from tagmask.errors import ImageError
        >>> image = FoundImage(Path("/home/ann/photos/a/1.png"), PurePosixPath("a/1.png"))
        >>> recorded_reason(ImageError("/home/ann/photos/a/1.png is damaged"), image)
        'a/1.png is damaged'
    """
    path, name = (printable(" ".join(str(each).split())) for each in (found.path, found.name))
    return reason_of(error).replace(path, name)


def _unexpected(error: BaseException) -> bool:
    return not isinstance(error, TagmaskError) and not (isinstance(error, Exception) and out_of_memory(error))


def _kind(error: BaseException) -> tuple[object, ...]:
    """Equal for errors of one type raised at one place; their messages may name the image."""
    frames = traceback.extract_tb(error.__traceback__)
    place = (frames[-1].filename, frames[-1].lineno) if frames else str(error)
    return type(error), place
