"""Who may use the review page: whoever has the address that the command printed, from this machine only."""

import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tagmask.app.guards import refuse

__all__ = ["OPEN_ADVICE", "ReviewSession", "SessionGuard"]

OPEN_ADVICE: Final = "Open the address that `tagmask review` printed."
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class ReviewSession:
    """The secrets of one start of the server."""

    token: str = field(default_factory=_secret, repr=False)
    """In the address that opens the page."""
    cookie: str = field(default_factory=_secret, repr=False)
    """What the browser sends from then on."""
    name: str = field(default_factory=lambda: f"tagmask-{secrets.token_hex(4)}")
    """Of the cookie: browsers share cookies between the servers of a machine."""

    def has_token(self, scope: Scope) -> bool:
        """Whether a request's address has the token."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return any(_same(given, self.token) for given in query.get("token", ()))

    def has_cookie(self, headers: Headers) -> bool:
        """Whether a request has the cookie."""
        try:
            sent = SimpleCookie(headers.get("cookie", "")).get(self.name)
        except CookieError:
            return False
        return sent is not None and _same(sent.value, self.cookie)


class SessionGuard:
    """Refuses requests without the session's cookie, which the page's address with the token sets.

    Requests that change something must come from the page itself: their `Origin` is that of the server.
    """

    def __init__(self, app: ASGIApp, session: ReviewSession) -> None:
        self._app, self._session = app, session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        session, headers = self._session, Headers(scope=scope)
        opens = scope["path"] == "/" and scope["method"] == "GET" and session.has_token(scope)
        if not opens and not session.has_cookie(headers):
            await refuse(send, 401, OPEN_ADVICE)
        elif scope["method"] not in _SAFE and headers.get("origin") != f"http://{headers.get('host')}":
            await refuse(send, 403, "Only the review page itself may change something.")
        elif opens:
            await self._app(scope, receive, self._setting_cookie(send))
        else:
            await self._app(scope, receive, send)

    def _setting_cookie(self, send: Send) -> Send:
        cookie = f"{self._session.name}={self._session.cookie}; Path=/; HttpOnly; SameSite=Strict"

        async def with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Set-Cookie", cookie)
            await send(message)

        return with_cookie


def _same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())
