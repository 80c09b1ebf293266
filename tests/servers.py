"""A local web server for the duration of a test."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that does not log to stderr, which tests check."""

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server and yield its address. An error in the handler fails the test; a client may disconnect."""
    errors: list[BaseException | None] = []

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            error = sys.exception()
            if not isinstance(error, ConnectionError):
                errors.append(error)

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert errors == []


@contextmanager
def serving_file(file: Path) -> Iterator[str]:
    """Run a server of one file and yield its address; 404 while there is no file."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            if not file.is_file():
                self.send_error(404)
                return
            data = file.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as url:
        yield f"{url}/{file.name}"
