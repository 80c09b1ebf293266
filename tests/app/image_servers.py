"""Servers of images, and the hosts that may be asked."""

import contextlib
from collections.abc import Iterator

from tagmask.app.addresses import parse_allowed_host
from tagmask.app.image_access import ImageAccess
from tests.servers import QuietHandler, serving

Answers = dict[str, tuple[int, dict[str, str], bytes]]


@contextlib.contextmanager
def answering(answers: Answers) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server of a few paths, and the requests it got: method, path, authorization."""
    requests: list[tuple[str, str, str]] = []

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            requests.append((self.command, self.path, self.headers.get("Authorization", "")))
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as url:
        yield url, requests


def host(url: str) -> str:
    return url.removeprefix("http://")


def allowing(*hosts: str, **options: object) -> ImageAccess:
    return ImageAccess(allowed_hosts=tuple(map(parse_allowed_host, hosts)), **options)  # type: ignore[arg-type]
