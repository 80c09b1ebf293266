"""HTTP requests whose time, size and redirects are bounded, whatever the server does."""

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import partial
from typing import Final, cast
from urllib.parse import urljoin, urlsplit

__all__ = [
    "_MIN_RATE",
    "_WINDOW",
    "Headers",
    "Response",
    "TransferError",
    "get_bytes",
    "head",
    "host_of",
    "open_url",
]

_CHUNK: Final = 1 << 20
_TIMEOUT: Final = 20.0
"""Seconds to wait for the next bytes. Less than `_WINDOW`, so that a connection that stops is tried again."""
_WINDOW = 30.0
_MIN_RATE: Final = 1000
"""A transfer of fewer bytes a second, over `_WINDOW` seconds, is given up."""
_MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class TransferError(Exception):
    """A request that failed.

    Args:
        reason: why, as the end of a sentence.
        status: of HTTP; 0 if there was no answer.
        code: the hub's own name of the error.
        retry: whether another attempt may succeed.
    """

    def __init__(self, reason: object, status: int = 0, code: str = "", *, retry: bool = False) -> None:
        super().__init__(str(reason))
        self.status, self.code, self.retry = status, code, retry


@dataclass(frozen=True)
class Headers:
    """Headers of a request."""

    public: Mapping[str, str] = field(default_factory=dict)
    private: Mapping[str, str] = field(default_factory=dict)
    """For the first server only: not sent along with a redirect to another."""


class Response:
    """The answer to a request, open for reading."""

    def __init__(self, answer: http.client.HTTPResponse, guard: "_Guard") -> None:
        self._answer, self._guard = answer, guard
        self.status: int = answer.status
        self.headers: Message = answer.headers

    @property
    def length(self) -> int | None:
        """Size of the body as the header states it; None if it states none."""
        return parse_length(self.headers.get("Content-Length"))

    def chunks(self, limit: int) -> Iterator[bytes]:
        """Yield the body, in parts as they arrive.

        Raises:
            TransferError: the body has more than `limit` bytes, arrives too slowly, or the connection ends.
        """
        received = 0
        with _translated(self._guard):
            # Not `read`, which would wait until a whole chunk is complete.
            while chunk := self._answer.read1(_CHUNK):
                received += len(chunk)
                self._guard.received += len(chunk)
                if received > limit:
                    raise TransferError(f"it sends more than {limit / 1e6:.0f} MB")
                yield chunk
        self._guard.check()


@contextmanager
def open_url(url: str, headers: Headers, method: str = "GET") -> Iterator[Response]:
    """Send a request, following redirects: http to http or https, and https to https only.

    The redirect of a HEAD request to another server is not followed: its own headers are the answer.

    Raises:
        TransferError: no answer, an error status, or a redirect that is not followed.
    """
    with _Guard() as guard:
        answer = _answer(url, headers, method, guard)
        try:
            guard.check()
            yield Response(answer, guard)
        finally:
            answer.close()


def get_bytes(url: str, limit: int, headers: Headers) -> bytes:
    """Return the body of a small answer.

    Raises:
        TransferError: as for `open_url`, or it has more than `limit` bytes.
    """
    with open_url(url, headers) as response:
        data = b"".join(response.chunks(limit))
        if response.length is not None and len(data) < response.length:
            raise TransferError("the connection ended early", retry=True)
        return data


def head(url: str, headers: Headers) -> Message:
    """Return the headers of an answer.

    Raises:
        TransferError: as for `open_url`.
    """
    with open_url(url, headers, "HEAD") as response:
        return response.headers


def slowest() -> float:
    """The fewest bytes that a transfer must receive in each window of time."""
    return _WINDOW * _MIN_RATE


def host_of(url: str) -> str:
    """The server's name in a URL, for messages."""
    return urlsplit(url).hostname or url


def parse_length(text: str | None) -> int | None:
    """Parse a size in a header; None if it is absent or no size.

    Example:
        >>> parse_length("12"), parse_length("-1"), parse_length("²"), parse_length("9" * 5000)
        (12, None, None, None)
    """
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 19 else None


def _answer(url: str, headers: Headers, method: str, guard: "_Guard") -> http.client.HTTPResponse:
    first = _origin(url)
    for _ in range(_MAX_REDIRECTS + 1):
        guard.check()
        given = {**headers.public, **(headers.private if _origin(url) == first else {})}
        with _translated(guard):
            request = urllib.request.Request(url, headers=given, method=method)
            try:
                answer: http.client.HTTPResponse = guard.opener().open(request, timeout=_TIMEOUT)
                return answer
            except urllib.error.HTTPError as error:
                with ExitStack() as stack:
                    stack.callback(error.close)
                    location = error.headers.get("Location") if error.code in _REDIRECTS else None
                    if location is None:
                        raise _refusal(error) from error
                    target = urljoin(url, location)
                    if method == "HEAD" and _origin(target) != _origin(url):
                        stack.pop_all()
                        return cast(http.client.HTTPResponse, error.fp)
        before, after = urlsplit(url).scheme, urlsplit(target).scheme
        if after != "https" and (before, after) != ("http", "http"):
            raise TransferError(f"it redirects from {before} to {after or 'nowhere'}, which is not safe")
        url = target
    raise TransferError("it redirects again and again")


def _refusal(error: urllib.error.HTTPError) -> TransferError:
    retry = error.code >= 500 or error.code in (408, 429)
    code = error.headers.get("X-Error-Code") or ""
    return TransferError(f"HTTP status {error.code}", error.code, code, retry=retry)


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


@contextmanager
def _translated(guard: "_Guard") -> Iterator[None]:
    """Raise the many errors of the network as `TransferError`."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an invalid address
        guard.check()
        invalid = isinstance(error, ValueError | http.client.InvalidURL)
        reason = getattr(error, "reason", None) or error
        raise TransferError(str(reason) or type(error).__name__, retry=not invalid) from error


class _Guard:
    """Ends the connections of a request that is too slow, in whatever phase: headers, body or its frames."""

    def __init__(self) -> None:
        self.received, self.slow = 0, False
        self.sockets: list[socket.socket] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Guard":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def check(self) -> None:
        """Raise the error of a transfer that was too slow: its end looks like any other.

        Raises:
            TransferError: it was ended.
        """
        if self.slow:
            raise TransferError(f"it sends less than {_MIN_RATE / 1000:g} kB a second")

    def opener(self) -> urllib.request.OpenerDirector:
        """An opener for http and https alone: no files, no FTP, no redirects."""
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _HttpHandler(self),
            _HttpsHandler(self),
        ):
            opener.add_handler(handler)
        return opener

    def _watch(self) -> None:
        before = 0
        while not self._done.wait(_WINDOW):
            if self.received - before < slowest():
                self.slow = True
                for each in self.sockets:
                    with suppress(OSError):
                        # Not TLS's own shutdown, which would wait for the server.
                        socket.socket.shutdown(each, socket.SHUT_RDWR)
                return
            before = self.received


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpConnection, guard=self._guard), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, guard: _Guard) -> None:
        super().__init__()
        self._guard = guard

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_HttpsConnection, guard=self._guard), req)


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, host: str, *, timeout: float, guard: _Guard) -> None:
        super().__init__(host, timeout=timeout)
        self._sockets = guard.sockets

    def connect(self) -> None:
        super().connect()
        self._sockets.append(self.sock)


class _HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, timeout: float, guard: _Guard) -> None:
        super().__init__(host, timeout=timeout)
        self._sockets = guard.sockets

    def connect(self) -> None:
        super().connect()
        self._sockets.append(self.sock)
