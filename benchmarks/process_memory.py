"""Memory of a process, as Linux reports it in /proc."""

import ctypes
from contextlib import suppress
from pathlib import Path

__all__ = ["memory_bytes", "reset_peak", "return_free_memory"]


def memory_bytes(field: str, process: int | str = "self") -> int:
    """Bytes of a process: "VmRSS" now, "VmHWM" at the peak (`getrusage` includes the parent's peak)."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return 1024 * int(kilobytes)


def reset_peak() -> None:
    """Reset "VmHWM" to the current memory."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def return_free_memory() -> None:
    """Give memory that was freed back to the system: what is taken next would not raise the peak."""
    with suppress(AttributeError):  # only the GNU C library has it
        ctypes.CDLL(None).malloc_trim(0)
