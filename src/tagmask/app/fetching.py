"""One HTTP request to a given address, bounded in time and size. Redirects are not followed here."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult

from tagmask import __version__
from tagmask.app.addresses import Address, origin_of
from tagmask.errors import ImageError
from tagmask.printable import shortened

__all__ = ["Answer", "send"]

_CHUNK: Final = 1 << 16
_SILENCE: Final = 10.0
"""Seconds to wait for a connection, and for the next bytes."""


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    location: str | None
    """Where a redirect leads."""
    body: bytes
    """Nothing unless the status is 200."""


def send(
    parts: SplitResult,
    address: Address,
    headers: Mapping[str, str],
    *,
    limit: int,
    deadline: float,
    body: bytes | None = None,
) -> Answer:
    """Send a GET request, or a POST request if it has a body, and return the answer.

    Args:
        parts: of the URL.
        address: of the server; the host's name is not resolved again, so that what was checked is asked.
        headers: besides those that every request has.
        limit: largest body of the answer, in bytes.
        deadline: of `time.monotonic`: when to give up.
        body: JSON to post.

    Raises:
        ImageError: no answer in time, or a larger one.
    """
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    common = {"User-Agent": f"tagmask/{__version__}", "Accept-Encoding": "identity"}
    if body is not None:
        common["Content-Type"] = "application/json"
    connection = _Connection(parts, address)
    try:
        with _ending(connection, deadline):
            connection.request("POST" if body is not None else "GET", target, body, {**common, **headers})
            answer = connection.getresponse()
            content = _body(answer, limit, deadline) if answer.status == 200 else b""
            return Answer(answer.status, answer.headers.get("Location"), content)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = "it takes too long" if time.monotonic() >= deadline else str(error) or type(error).__name__
        raise ImageError(f"{shortened(parts.hostname)} does not answer: {shortened(reason)}.") from error
    finally:
        connection.close()


def _body(answer: http.client.HTTPResponse, limit: int, deadline: float) -> bytes:
    received = bytearray()
    while chunk := answer.read1(_CHUNK):
        received += chunk
        if len(received) > limit:
            raise ImageError(f"The answer has more than {limit / 1e6:g} MB.")
        if time.monotonic() >= deadline:
            raise TimeoutError
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    if time.monotonic() >= deadline:  # the connection was ended, which looks like the end of the body
        raise TimeoutError
    return bytes(received)


class _Connection(http.client.HTTPConnection):
    """A connection to an address that is already known, with TLS for https."""

    def __init__(self, parts: SplitResult, address: Address) -> None:
        origin = origin_of(parts)
        super().__init__(origin.host, origin.port, timeout=_SILENCE)
        self._address, self._secure = str(address), origin.scheme == "https"
        self.open_socket: socket.socket | None = None

    def connect(self) -> None:
        self.sock = self.open_socket = socket.create_connection((self._address, self.port), _SILENCE)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = self.open_socket = context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()


@contextmanager
def _ending(connection: _Connection, deadline: float) -> Iterator[None]:
    """End the connection at the deadline, in whatever phase: a server may send a byte every few seconds."""

    def end() -> None:
        if connection.open_socket is not None:
            with suppress(OSError):
                # Not TLS's own shutdown, which would wait for the server.
                socket.socket.shutdown(connection.open_socket, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
