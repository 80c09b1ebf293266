"""What a request must satisfy before any route sees it, and headers of every answer: ASGI middleware."""

import base64
import binascii
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagmask.strict_json import json_text

__all__ = ["BodyLimit", "Credentials", "HostGuard", "PasswordGuard", "SecurityHeaders", "refuse"]

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Credentials:
    """A user's name and password."""

    user: str
    password: str = field(repr=False)

    def match(self, header: str) -> bool:
        """Whether they are those of an Authorization header of basic authentication."""
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        wanted = f"{self.user}:{self.password}".encode()
        return secrets.compare_digest(given, wanted) and scheme.lower() == "basic"


class PasswordGuard:
    """Refuses requests without the right name and password."""

    def __init__(self, app: ASGIApp, credentials: Credentials) -> None:
        self._app, self._credentials = app, credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan" or self._credentials.match(
            Headers(scope=scope).get("authorization", "")
        ):
            await self._app(scope, receive, send)
        else:
            await refuse(send, 401, "Name and password are needed.", (b"www-authenticate", b"Basic"))


class HostGuard:
    """Refuses requests that a web page of another site makes in a browser of this machine.

    Such a request has the page's own host in `Host`, if its name was made to lead here, or its site in
    `Origin`.

    Args:
        app: the application.
        allowed: names besides those of the local machine.
        advice: what to do.
    """

    def __init__(
        self, app: ASGIApp, allowed: Collection[str] = (), advice: str = "See --allowed-host."
    ) -> None:
        self._app, self._allowed = app, _LOOPBACK | {name.lower() for name in allowed}
        self._advice = advice

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan" or self._is_allowed(Headers(scope=scope)):
            await self._app(scope, receive, send)
        else:
            await refuse(send, 403, f"This host or origin is not allowed. {self._advice}")

    def _is_allowed(self, headers: Headers) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        if _hostname(f"//{host}") not in self._allowed:
            return False
        return origin is None or origin in (f"http://{host}", f"https://{host}")


class BodyLimit:
    """Refuses bodies that are too large: by their stated length at once, else when they have become so.

    Args:
        app: the application.
        limit: in bytes.
        larger: limits of single routes, by method and path.
    """

    def __init__(
        self, app: ASGIApp, limit: int, larger: Mapping[tuple[str, str], int] = MappingProxyType({})
    ) -> None:
        self._app, self._limit, self._larger = app, limit, larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._larger.get((scope["method"], scope["path"]), self._limit)
        stated = Headers(scope=scope).get("content-length", "0")
        if not (stated.isascii() and stated.isdecimal()) or len(stated) > 18 or int(stated) > limit:
            await _refuse_size(send, limit)
            return
        received, started, refused = 0, False, False

        async def counted() -> Message:
            nonlocal received, refused
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                refused = True
                raise _TooLargeError
            return message

        async def noticing(message: Message) -> None:
            nonlocal started
            if refused:  # the application's own words about a body that it could not read
                return
            started = started or message["type"] == "http.response.start"
            await send(message)

        with suppress(_TooLargeError):
            await self._app(scope, counted, noticing)
        if refused and not started:
            await _refuse_size(send, limit)


class SecurityHeaders:
    """Adds to every answer what keeps a browser from loading, framing, guessing or keeping anything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class _TooLargeError(Exception):
    """The body is too large."""


async def _refuse_size(send: Send, limit: int) -> None:
    await refuse(send, 413, f"The body has more than {limit / 1e6:g} MB.")


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def refuse(send: Send, status: int, detail: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer a request with a status and a sentence."""
    body = json_text({"detail": detail}).encode()
    sizes = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*sizes, *headers]})
    await send({"type": "http.response.body", "body": body})
