"""Places for requests that wait for a model: a limited number, and more are refused."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.responses import JSONResponse, Response

__all__ = ["BusyError", "RequestQueue", "busy_answer"]


class BusyError(Exception):
    """Too many requests wait."""


class RequestQueue:
    """Counts the requests that wait or are computed.

    Args:
        places: most of them.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Requests that wait or are computed now."""
        return self._waiting

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            BusyError: none is free.
        """
        with self._lock:
            if self._waiting >= self._places:
                raise BusyError
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1


def busy_answer(retry_seconds: int) -> Response:
    """Return the answer to a request for which there is no place."""
    return JSONResponse(
        {"detail": "Too many requests are waiting. Try again later."},
        status_code=503,
        headers={"Retry-After": str(retry_seconds)},
    )
