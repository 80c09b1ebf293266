"""Servers that send without end, drop by drop, lie, or send elsewhere: bounded time, size and place."""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.request import OpenerDirector, Request

import pytest

from tagmask.clip import web
from tagmask.clip.download import fetch
from tagmask.clip.web import Headers, TransferError, get_bytes, head
from tagmask.errors import DownloadError, OutputError, TagmaskError, WeightsError
from tests.servers import QuietHandler, serving

DATA = bytes(range(256)) * 400  # 100 kB
SHA = hashlib.sha256(DATA).hexdigest()
LIMIT = 150_000

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(autouse=True)
def _short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_WINDOW", 0.5)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "ViT.pt"


class Server:
    """A server that answers every request in one way, for the duration of a block."""

    def __init__(self, answer: Answer) -> None:
        class Handler(QuietHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                answer(self)

            do_HEAD = do_GET

        outer, self.requests = self, list[tuple[str, dict[str, str]]]()
        self._serving = serving(Handler)

    def __enter__(self) -> "Server":
        self.url = self._serving.__enter__() + "/ViT.pt"
        return self

    def __exit__(self, *_: object) -> None:
        self._serving.__exit__(None, None, None)


def begin(handler: BaseHTTPRequestHandler, status: int = 200, **headers: object) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()


def endless(handler: BaseHTTPRequestHandler) -> None:
    begin(handler)
    while True:
        handler.wfile.write(b"x" * 65536)


def endless_chunked(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def large(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, Content_Length=10**15)


def huge_number(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, Content_Length="9" * 5000)
    endless(handler)


def partial_without_end(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, 206)
    while True:
        handler.wfile.write(b"x" * 65536)


@pytest.mark.parametrize("answer", [endless, endless_chunked, large, huge_number, partial_without_end])
@pytest.mark.parametrize("have", [0, 1000])
def test_no_more_than_the_limit_is_written(answer: Answer, have: int, target: Path) -> None:
    target.parent.mkdir()
    if have:
        target.with_name(".ViT.pt.part").write_bytes(b"x" * have)
    with Server(answer) as server, pytest.raises(DownloadError, match=r"Cannot download ViT\.pt from 127"):
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
    assert len(server.requests) == 1
    assert sum(file.stat().st_size for file in target.parent.iterdir()) <= LIMIT


def trickle(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, Content_Length=len(DATA))
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def trickle_of_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.flush_headers()
    while True:
        handler.wfile.write(b"X")
        time.sleep(0.02)


def trickle_of_trailers(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, Transfer_Encoding="chunked")
    handler.wfile.write(b"1\r\nx\r\n0\r\n")
    while True:
        handler.wfile.write(b"A: b\r\n")
        time.sleep(0.02)


def trickle_after_a_redirect(handler: BaseHTTPRequestHandler) -> None:
    if handler.path == "/ViT.pt":
        begin(handler, 302, Location="/slow")
    trickle(handler)


@pytest.mark.parametrize(
    "answer", [trickle, trickle_of_headers, trickle_of_trailers, trickle_after_a_redirect]
)
def test_a_transfer_that_is_too_slow_is_given_up(answer: Answer, target: Path) -> None:
    began = time.monotonic()
    with Server(answer) as server:
        with pytest.raises(DownloadError, match="it sends less than 1 kB a second"):
            fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
        with pytest.raises(TransferError, match="it sends less than 1 kB a second"):
            get_bytes(server.url, LIMIT, Headers())
    assert time.monotonic() - began < 20


def test_a_few_bytes_in_each_connection_are_no_progress(target: Path) -> None:
    def few(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 206, Content_Length=len(DATA))
        handler.wfile.write(b"x")

    with Server(few) as server, pytest.raises(DownloadError, match="the connection ended early"):
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
    assert len(server.requests) == 5


@pytest.mark.parametrize("stated", [len(DATA) // 2, 0])
def test_a_length_that_is_too_small_does_not_pass(stated: int, target: Path) -> None:
    def less(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, Content_Length=stated)
        handler.wfile.write(DATA)

    with Server(less) as server, pytest.raises(WeightsError, match="wrong SHA-256"):
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
    assert not target.exists()


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "gopher://x",
        "http://[",
        "http:///x",
        "//",
        "\xff",
    ],
)
def test_redirects_lead_only_to_http_and_https(location: str, target: Path) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 302, Location=location)

    with Server(redirect) as server, pytest.raises(DownloadError):
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
    assert not target.exists()


def test_a_redirect_from_https_to_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 302, Location=server.url.replace("/ViT.pt", "/other"))

    with Server(redirect) as server:
        opener = web._Guard().opener()
        monkeypatch.setattr(web._Guard, "opener", lambda self: _Opener(opener, server.url))
        with pytest.raises(TransferError, match="it redirects from https to http, which is not safe"):
            get_bytes("https://example.org/ViT.pt", LIMIT, Headers())
    assert len(server.requests) == 1


class _Opener:
    """Sends every request to one address, whatever it asks for."""

    def __init__(self, opener: OpenerDirector, url: str) -> None:
        self._opener, self._url = opener, url

    def open(self, request: Request, timeout: float) -> object:
        return self._opener.open(Request(self._url), timeout=timeout)


def test_redirects_end(target: Path) -> None:
    def around(handler: BaseHTTPRequestHandler) -> None:
        begin(handler, 307, Location=handler.path + "x")

    with Server(around) as server, pytest.raises(DownloadError, match="it redirects again and again"):
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
    assert len(server.requests) == 6


def test_the_token_is_for_the_first_server_only() -> None:
    with Server(lambda handler: begin(handler, Content_Length=0)) as other:

        def redirect(handler: BaseHTTPRequestHandler) -> None:
            where = "/again" if handler.path == "/ViT.pt" else other.url.replace("127.0.0.1", "localhost")
            begin(handler, 302, Location=where)

        with Server(redirect) as server:
            get_bytes(server.url, LIMIT, Headers({"User-Agent": "tagmask"}, {"Authorization": "Bearer x"}))
            assert [seen.get("Authorization") for _, seen in server.requests] == ["Bearer x", "Bearer x"]
            assert [seen.get("Authorization") for _, seen in other.requests] == [None]
            assert other.requests[0][1]["User-Agent"] == "tagmask"
            # A HEAD request is answered by the first server that sends it elsewhere.
            assert head(server.url, Headers())["Location"] == other.url.replace("127.0.0.1", "localhost")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd", "", "data:,x"])
def test_other_addresses_are_refused(url: str, target: Path) -> None:
    with pytest.raises(DownloadError, match="neither http nor https"):
        fetch(url, target, SHA, limit=LIMIT)
    assert not target.parent.exists()


def whole(handler: BaseHTTPRequestHandler) -> None:
    begin(handler, Content_Length=len(DATA))
    handler.wfile.write(DATA)


@pytest.mark.parametrize("ending", ["part", "lock"])
@pytest.mark.parametrize("kind", ["symbolic", "hard", "dangling", "pipe"])
def test_links_in_the_way_are_removed_and_never_written_through(
    kind: str, ending: str, tmp_path: Path, target: Path
) -> None:
    precious, way = tmp_path / "precious", target.with_name(f".ViT.pt.{ending}")
    precious.write_bytes(b"precious" * 100)
    way.parent.mkdir()
    if kind == "symbolic":
        way.symlink_to(precious)
    elif kind == "hard":
        os.link(precious, way)
    elif kind == "dangling":
        way.symlink_to(tmp_path / "new")
    else:
        os.mkfifo(way)
    with Server(whole) as server:
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)
        assert "Range" not in server.requests[0][1]
    assert target.read_bytes() == DATA
    assert not target.is_symlink()
    assert precious.read_bytes() == b"precious" * 100
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("ending", ["part", "lock"])
def test_a_folder_in_the_way_is_reported(ending: str, target: Path) -> None:
    target.with_name(f".ViT.pt.{ending}").mkdir(parents=True)
    with Server(whole) as server, pytest.raises(OutputError, match=r"ViT\.pt cannot be written"):
        fetch(server.url, target, SHA, pause=0.0, limit=LIMIT)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 999999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nx",
        b"HTTP/1.1 302 x\r\nLocation: \x00\r\n\r\n",
        b"\x16\x03\x01\x00\x05",
    ],
)
def test_what_is_not_http_is_one_error(answer: bytes, target: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(TagmaskError):
            fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/x", target, SHA, pause=0.0, limit=LIMIT)
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
    assert not target.exists()
