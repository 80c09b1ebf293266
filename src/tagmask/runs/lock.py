"""`run.lock`: one producer a run.

The file says who holds it: host, process and since when. On a local disk it is locked by the system, which
lets go of it when the process dies. Where locks cannot be relied on (network file systems, or no `flock`),
the file's existence is the lock: its holder touches it every few seconds, and one that was not touched for
minutes, or whose process on this machine is dead, is taken over.
"""

import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tagmask.errors import InputError, OutputError
from tagmask.files import unwritable
from tagmask.printable import printable
from tagmask.reading import TEXT_LIMIT, UnfitFileError, read_regular
from tagmask.strict_json import json_text, parse_json

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["HEARTBEAT_SECONDS", "STALE_SECONDS", "Holder", "RunLock", "holder_of", "process_is_alive"]

HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 300.0
"""Without a heartbeat for so long, a holder on another machine counts as dead."""

_TRIES = 20


@dataclass(frozen=True)
class Holder:
    """Who holds a lock."""

    host: str
    pid: int
    since: str
    """Local time with its offset, ISO 8601."""
    began: str = ""
    """When the process began, as the system counts it: tells it from a later process of the same number."""
    token: str = ""
    """Different for each time that a lock is taken."""

    def __post_init__(self) -> None:
        texts = (self.host, self.since, self.began, self.token)
        if type(self.pid) is not int or not all(isinstance(text, str) for text in texts):
            raise TypeError("a holder has a number and texts")

    def __str__(self) -> str:
        return f"process {self.pid} on {printable(self.host)}, since {printable(self.since)}"


class RunLock:
    """A lock that is held; made by `take`."""

    def __init__(self, path: Path, holder: Holder, file: int) -> None:
        self.path = path
        self.holder = holder
        self._file = file  # kept open, so that no later file can have its number
        self._identity = _identity(os.fstat(file))
        self._stop = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="tagmask-lock", daemon=True)
        self._heart.start()

    @classmethod
    def take(cls, path: Path, *, network: bool) -> "RunLock":
        """Take the lock of a run, or say who has it.

        Args:
            path: the lock's file, in a folder that is there.
            network: it lies on a network file system.

        Raises:
            InputError: another producer has it, or the file is not a lock of tagmask.
            OutputError: it cannot be written.
        """
        me = Holder(
            host=socket.gethostname(),
            pid=os.getpid(),
            since=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            began=_began(os.getpid()) or "",
            token=secrets.token_hex(8),
        )
        try:
            for _ in range(_TRIES):
                lock = _exclusive_file(path, me) if network or fcntl is None else _flock(path, me)
                if lock is not None:
                    return lock
        except OSError as error:
            raise unwritable(path, error) from error
        raise InputError(f"{path} changes too fast to be taken; try again when other runs have begun.")

    def check(self) -> None:
        """See that the run's folder and this lock are still there.

        Raises:
            OutputError: they were deleted, replaced or taken over while this run was going on.
        """
        try:
            same = _identity(self.path.stat()) == self._identity
        except OSError:
            same = False
        if not same:
            raise OutputError(
                f"{self.path.parent} was deleted, moved or taken over during the run; nothing more is "
                "written. Run the command again, and leave its folder alone."
            )

    def release(self) -> None:
        """Let go of it, and remove its file if that is still this lock."""
        self._stop.set()
        self._heart.join()
        # Removed while it is held: whoever waits for this very file sees that it is gone, and begins anew.
        with suppress(OSError, OutputError):
            self.check()
            self.path.unlink()
        os.close(self._file)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with suppress(OSError, OutputError):
                self.check()
                os.utime(self.path)


def holder_of(path: Path) -> Holder | None:
    """Who holds the lock of a run, if a living producer does.

    Returns:
        None for no lock, and for one whose holder is dead.
    """
    try:
        holder = _read(path)
    except (OSError, InputError):
        return None
    if holder is None:
        return None
    return holder if _alive(path, holder) else None


def process_is_alive(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    return _began(pid) is not None


def _flock(path: Path, me: Holder) -> RunLock | None:
    """Take it on a local disk. None: the file was replaced meanwhile, try again."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refused(path, _read(path)) from None
        except OSError:  # this file system has no such locks
            os.close(file)
            file = -1
            return _exclusive_file(path, me)
        if not path.exists() or _identity(os.fstat(file)) != _identity(path.stat()):
            return None
        holder = _read(path)
        # Free here, but a machine that sees this disk over a network holds it by the file alone.
        if holder is not None and holder.host != me.host and _alive(path, holder):
            raise _refused(path, holder)
        os.ftruncate(file, 0)
        os.pwrite(file, _encode(me), 0)
        os.fsync(file)
        kept, file = file, -1
        return RunLock(path, me, kept)
    finally:
        if file >= 0:
            os.close(file)


def _exclusive_file(path: Path, me: Holder) -> RunLock | None:
    """Take it where only making a file is certain to be exclusive. None: try again."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        try:
            holder = _read(path)
        except FileNotFoundError:
            return None
        if _alive(path, holder):
            raise _refused(path, holder) from None
        _remove_stale(path, holder)
        return None
    try:
        os.write(file, _encode(me))
        os.fsync(file)
    except OSError:
        os.close(file)
        path.unlink(missing_ok=True)
        raise
    return RunLock(path, me, file)


def _remove_stale(path: Path, stale: Holder | None) -> None:
    """Remove a dead holder's lock, but not one that a third process took in the meantime."""
    aside = path.with_name(f".tagmask-{secrets.token_hex(8)}.part")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside) != stale:
        with suppress(OSError):  # put back; where that fails its holder notices, and stops
            os.link(aside, path)
    aside.unlink()


def _alive(path: Path, holder: Holder | None) -> bool:
    """Whether a lock's holder may still be at work."""
    if holder is not None and holder.host == socket.gethostname():
        began = _began(holder.pid)
        if began != "":
            return began is not None and began == holder.began
    # Compared with a file made now, as clocks of machines differ.
    probe = path.with_name(f".tagmask-{secrets.token_hex(8)}.part")
    try:
        try:
            probe.touch()
            now = probe.stat().st_mtime
        except OSError:
            now = time.time()
        return now - path.stat().st_mtime < STALE_SECONDS
    except OSError:
        return False
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)


def _began(pid: int) -> str | None:
    """When a process of this machine began; None if it does not exist, empty if the system does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except OSError:
        return ""
    else:
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    if os.name == "nt":
        return ""  # os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""


def _read(path: Path) -> Holder | None:
    """Who a lock's file names; None while it is empty, between being made and being written.

    Raises:
        InputError: the file is not a lock of tagmask.
    """
    try:
        data = read_regular(path, TEXT_LIMIT, links=False)
        if not data.strip():
            return None
        described = parse_json(data)["tagmask_lock"]
        return Holder(**{name: described[name] for name in Holder.__dataclass_fields__})
    except (UnfitFileError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a lock that tagmask wrote. Choose another folder, or move that file away."
        ) from error


def _encode(holder: Holder) -> bytes:
    return (json_text({"tagmask_lock": asdict(holder)}) + "\n").encode("ascii")


def _refused(path: Path, holder: Holder | None) -> InputError:
    who = str(holder or "another process, which has just begun")
    return InputError(
        f"{path.parent} is being written by {who}. Wait until it ends, stop it, or choose another folder."
    )


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino
