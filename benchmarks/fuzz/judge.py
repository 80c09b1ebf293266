"""Read one input in this process and judge what happened, under a budget of memory and processor time."""

import resource
import shutil
import signal
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import PIL.Image

from benchmarks.fuzz.kind import Believed, Kind
from benchmarks.process_memory import memory_bytes, reset_peak, return_free_memory
from tagmask.errors import TagmaskError

__all__ = ["BUDGET", "GOOD", "VERDICTS", "Budget", "Outcome", "judge", "limit_process"]

OK: Final = "ok"
REFUSED: Final = "refused"
FOREIGN: Final = "foreign"
UNNAMED: Final = "unnamed"
BELIEVED: Final = "believed"
ESCAPED: Final = "escaped"
MEMORY: Final = "memory"
TIME: Final = "time"
CRASH: Final = "crash"

GOOD: Final = (OK, REFUSED)
VERDICTS: Final = {
    OK: "read",
    REFUSED: "a TagmaskError that names the file",
    FOREIGN: "another exception",
    UNNAMED: "a TagmaskError that does not name the file",
    BELIEVED: "damage that is used as if it were good",
    ESCAPED: "the reader wrote files, or ran code of the input",
    MEMORY: "more memory than the budget",
    TIME: "more processor time than the budget, or hung",
    CRASH: "the process ended",
}
"""What each verdict means."""


@dataclass(frozen=True)
class Budget:
    """What reading a file may cost."""

    memory: int = 400_000_000
    """In bytes, in addition to the process before."""
    memory_per_pixel: int = 16
    seconds: float = 5.0
    """Of processor time."""
    seconds_per_megapixel: float = 0.3

    def memory_for(self, pixels: int) -> int:
        """Bytes that an image of this size may take."""
        return self.memory + self.memory_per_pixel * pixels

    def seconds_for(self, pixels: int) -> float:
        """Processor time that an image of this size may take."""
        return self.seconds + self.seconds_per_megapixel * pixels / 1e6

    def most_pixels(self, kind: Kind) -> int:
        """The most pixels that an input of a kind may have."""
        return 0 if kind.claimed_pixels is Kind.claimed_pixels else PIL.Image.MAX_IMAGE_PIXELS or 0


BUDGET: Final = Budget()
"""The budget that SECURITY.md promises."""


@dataclass(frozen=True)
class Outcome:
    """What happened to one input."""

    case: int
    verdict: str
    detail: str = ""
    """The error's type, message and place."""
    memory: int = 0
    """Peak, in addition to the process before."""
    seconds: float = 0.0
    """Processor time."""


def limit_process(kind: Kind, budget: Budget) -> None:
    """Limit this process for good, so that an input cannot take the machine's memory or fill its disk.

    The address space may grow by the budget of the largest image and half a gigabyte that is never used.
    """
    space = memory_bytes("VmSize") + budget.memory_for(budget.most_pixels(kind)) + (1 << 29)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))


def judge(kind: Kind, case: int, content: bytes, folder: Path, budget: Budget) -> Outcome:
    """Write an input to its place in a folder and read it.

    An input that takes far too much processor time ends this process (SIGPROF).

    Args:
        kind: of the input.
        case: its number.
        content: its bytes.
        folder: for this process alone, and the current one; has the files beside the input.
        budget: what reading may cost.
    """
    path = folder / kind.place
    path.write_bytes(content)
    before = _files(folder)
    return_free_memory()
    base = memory_bytes("VmRSS")
    reset_peak()
    most = budget.seconds_for(budget.most_pixels(kind))
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 1.2 * most)
    pixels = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = kind.read(path)
        verdict, detail = OK, ""
    except Believed as error:
        verdict, detail = BELIEVED, str(error)
    except TagmaskError as error:
        named = path.name in str(error) or str(folder) in str(error)
        verdict, detail = (REFUSED if named else UNNAMED), _described(error)
        if kind.quiet:
            verdict = FOREIGN
    except MemoryError as error:
        verdict, detail = MEMORY, _described(error)
    except BaseException as error:
        detail = _described(error)
        verdict = MEMORY if "can't allocate memory" in detail else FOREIGN  # torch raises a RuntimeError
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - start
    memory = max(0, memory_bytes("VmHWM") - base)
    if memory > budget.memory or seconds > budget.seconds:
        pixels = pixels or kind.claimed_pixels(path)
        if memory > budget.memory_for(pixels):
            verdict, detail = MEMORY, f"{memory / 1e6:.0f} MB for {pixels} pixels; {verdict} {detail}"
        elif seconds > budget.seconds_for(pixels):
            verdict, detail = TIME, f"{seconds:.1f} s for {pixels} pixels; {verdict} {detail}"
    if not kind.quiet and (written := _files(folder) - before):
        verdict, detail = ESCAPED, f"written: {', '.join(sorted(written)[:3])}"
        for name in written:
            _remove(folder / name)
    return Outcome(case, verdict, detail[:600], memory, seconds)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _described(error: BaseException) -> str:
    """Describe an error by type, the last line of tagmask that raised it, and message."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "tagmask" in Path(frame.filename).parts] or frames[-1:]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    try:
        message = str(error)
    except Exception:  # an error that cannot be shown is a fault too
        message = "(no message)"
    return f"{type(error).__name__} at {place}: {message}"
