"""One application of several routers, and the server that runs it."""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from types import MappingProxyType
from typing import Final

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from tagmask import __version__
from tagmask.app.guards import BodyLimit, Credentials, HostGuard, PasswordGuard, SecurityHeaders
from tagmask.app.limits import MAX_BODY
from tagmask.app.review_session import OPEN_ADVICE, ReviewSession, SessionGuard
from tagmask.errors import InputError, TagmaskError

__all__ = ["create_app", "listen", "run_server"]

_LOG = logging.getLogger(__name__)
_CONNECTIONS: Final = 128
_GRACE: Final = 3
"""Seconds for requests to end when the server is stopped."""


def create_app(
    routers: Sequence[APIRouter],
    *,
    credentials: Credentials | None = None,
    allowed_hosts: Collection[str] = (),
    max_body: int = MAX_BODY,
    larger_bodies: Mapping[tuple[str, str], int] = MappingProxyType({}),
    session: ReviewSession | None = None,
    start: Callable[[], None] = lambda: None,
    stop: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Return the application.

    Args:
        routers: what it answers.
        credentials: what every request must have; without them only requests to the local machine's own
            names are answered.
        allowed_hosts: further names that requests may be addressed to.
        max_body: largest body of a request, in bytes.
        larger_bodies: other limits of single routes, by method and path.
        session: what every request must belong to, besides.
        start: called before the first request.
        stop: called after the last.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        start()
        yield
        stop()

    # FastAPI's own pages of documentation load scripts from another server.
    app = FastAPI(title="tagmask", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(TagmaskError, _explain)
    app.add_exception_handler(RequestValidationError, _explain_request)
    app.add_exception_handler(Exception, _explain_fault)
    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyLimit, limit=max_body, larger=larger_bodies)
    if session is not None:
        app.add_middleware(SessionGuard, session=session)
        app.add_middleware(HostGuard, allowed=allowed_hosts, advice=OPEN_ADVICE)
    elif credentials is None:
        app.add_middleware(HostGuard, allowed=allowed_hosts)
    else:
        app.add_middleware(PasswordGuard, credentials=credentials)
    app.add_middleware(SecurityHeaders)
    return app


async def _explain(request: Request, error: Exception) -> Response:
    """Answer an error that the request caused, or that the model did; Label Studio does not show the text."""
    _LOG.warning("%s: %s", request.url.path, error)
    return JSONResponse({"detail": str(error)}, status_code=400 if isinstance(error, InputError) else 503)


async def _explain_request(_: Request, error: Exception) -> Response:
    """Answer a request that does not have the form that its route reads, in one sentence."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"detail": f"{where}: {first['msg']}."}, status_code=422)


async def _explain_fault(_: Request, error: Exception) -> Response:
    """Answer what must not happen; the server's log has the traceback."""
    return JSONResponse({"detail": "The server met an error that it did not expect."}, status_code=500)


def listen(host: str, port: int, *, has_password: bool) -> socket.socket:
    """Return a socket that is bound to an address; port 0 is any free port.

    Raises:
        InputError: it cannot be bound, or others could reach it and there is no password.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise InputError(f"There is no address {host}: {error.strerror}. Give --host 127.0.0.1.") from error
    if not has_password and not ipaddress.ip_address(str(address[0]).split("%")[0]).is_loopback:
        raise InputError(
            f"Others can reach this server at {host}, so it needs a password. Give --user NAME and set "
            "TAGMASK_PASSWORD; or leave out --host."
        )
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_CONNECTIONS)  # a browser that is opened now waits for the server, and is not refused
    except OSError as error:
        bound.close()
        raise InputError(
            f"The server cannot use port {port} of {host}: {error.strerror}. Give another --port."
        ) from error
    return bound


def run_server(make_app: Callable[[Callable[[BaseException], None]], FastAPI], bound: socket.socket) -> None:
    """Answer requests until a signal ends it, or a part of it fails.

    Args:
        make_app: returns the application, given what it is to call when it cannot work.
        bound: from `listen`; closed at the end.

    Raises:
        Exception: the error that the application could not work with.
    """
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    config = uvicorn.Config(
        make_app(fail),
        log_config=None,
        access_log=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
        server_header=False,
        ws="none",
    )
    server = uvicorn.Server(config)
    with closing(bound):
        asyncio.run(server.serve([bound]))
    if failures:
        raise failures[0]
