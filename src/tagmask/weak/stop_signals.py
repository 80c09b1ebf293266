"""SIGINT and SIGTERM during training: held back until the step is done and its checkpoint is written."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["signals_held"]


@contextmanager
def signals_held() -> Iterator[Callable[[], bool]]:
    """Hold back SIGINT and SIGTERM; when the block ends, the caller's handlers get the signal.

    A second signal is not held back. Only Python's main thread gets signals; in others this does nothing.

    Yields:
        A function that tells whether a signal is held.

    Raises:
        KeyboardInterrupt: a signal was held, and its handler returned.
    """
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)
        if len(held) > 1:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    # A signal that is ignored stays so; None: its handler is not Python's.
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM)
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    for number in before:
        signal.signal(number, hold)
    try:
        yield lambda: bool(held)
    finally:
        restore()
    if held:
        signal.raise_signal(held[0])
        raise KeyboardInterrupt
