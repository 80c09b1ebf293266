import contextlib
import ipaddress
import os
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tagmask.app import image_access
from tagmask.app.addresses import Address, Origin, check_public, parse_allowed_host
from tagmask.app.image_access import ImageAccess
from tagmask.app.label_studio_files import LabelStudioServer
from tagmask.errors import ImageError, InputError
from tests.app.image_servers import Answers, allowing, answering, host
from tests.servers import serving


def at(*addresses: str) -> Callable[[Origin], list[Address]]:
    """A resolver that gives every host these addresses."""
    return lambda _: [ipaddress.ip_address(each) for each in addresses]


# -- Other hosts ---------------------------------------------------------------------------------------------


def test_an_allowed_host_is_asked() -> None:
    answers: Answers = {"/a%20b/%D1%84.png?x=1": (200, {}, b"image")}
    with answering(answers) as (url, requests):
        # The address is private, and named.
        assert allowing(host(url)).read(f"{url}/a b/ф.png?x=1") == b"image"
        with pytest.raises(ImageError, match=f"give --allow-image-host {host(url)}"):
            ImageAccess().read(f"{url}/a.png")
        with pytest.raises(ImageError, match=r"port .* is not allowed"):
            allowing("127.0.0.1").read(f"{url}/a.png")  # port 80 alone
        with pytest.raises(ImageError, match="status 404"):
            allowing(host(url)).read(f"{url}/other.png?signature=secret")
    assert [path for _, path, _ in requests] == ["/a%20b/%D1%84.png?x=1", "/other.png?signature=secret"]


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://allowed.example/x",
        "gopher://allowed.example/x",
        "data:image/png;base64,AAAA",
        "allowed.example/x.png",
        "//evil.example/x.png",
        "/\\evil.example/x.png",
        "http:///x.png",
        "http://allowed.example:0/x.png",
        "http://allowed.example:99999/x.png",
        "http://allowed.example@evil.example/x.png",
        "http://evil.example\\@allowed.example/x.png",
        "http://allowed.example\r\nHost: evil.example/x.png",
        "http://[::1/x.png",
        "http://%65vil.example/x.png",
        "http://evil.example#@allowed.example/",
        "http://evil.example?@allowed.example/",
        "http://allowed.example.evil.example/",
        "https://allowed.example:80/x.png",
        "http://ållowed.example/x.png",
        "",
        "http://allowed.example/" + "a" * 9000,
    ],
)
def test_no_other_host_is_resolved(location: str) -> None:
    def never(_: Origin) -> list[Address]:
        raise AssertionError("resolved")

    with pytest.raises(ImageError):
        allowing("allowed.example", resolve=never).read(location)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",  # 6to4
        "64:ff9b::7f00:1",  # NAT64
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo, of 192.0.2.45
    ],
)
def test_private_addresses_of_allowed_hosts_are_refused_unless_named(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    with pytest.raises(ImageError, match="not on the public internet"):
        check_public(parsed, frozenset())
    check_public(parsed, frozenset({str(parsed)}))
    # One private address among public ones is enough.
    access = allowing("allowed.example", resolve=at("93.184.216.34", address))
    with pytest.raises(ImageError, match=r"allowed\.example is refused"):
        access.read("http://allowed.example/x.png")


def test_public_addresses_are_not_refused() -> None:
    for address in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"):
        check_public(ipaddress.ip_address(address), frozenset())


def test_a_name_of_a_private_address_is_asked_if_the_address_is_named() -> None:
    with answering({"/x.png": (200, {}, b"image")}) as (url, _):
        port = url.rsplit(":", 1)[1]
        with pytest.raises(ImageError, match=r"also give --allow-image-host 127\.0\.0\.1"):
            allowing(f"photos.example:{port}", resolve=at("127.0.0.1")).read(
                f"http://photos.example:{port}/x.png"
            )
        access = allowing(f"photos.example:{port}", "127.0.0.1", resolve=at("127.0.0.1"))
        assert access.read(f"http://Photos.Example.:{port}/x.png") == b"image"


def test_redirects_are_checked_like_the_first_address() -> None:
    with answering({"/secret": (200, {}, b"secret")}) as (inner, inner_requests):
        answers: Answers = {
            "/inside": (302, {"Location": f"{inner}/secret"}, b""),
            "/file": (302, {"Location": "file:///etc/passwd"}, b""),
            "/user": (302, {"Location": f"http://{host(inner)}@127.0.0.1/"}, b""),
            "/loop": (307, {"Location": "/loop"}, b""),
            "/ok": (301, {"Location": "x.png"}, b""),
            "/x.png": (200, {}, b"image"),
        }
        with answering(answers) as (url, _):
            access = allowing(host(url))
            assert access.read(f"{url}/ok") == b"image"
            for path in ("/inside", "/file", "/user"):
                with pytest.raises(ImageError):
                    access.read(url + path)
            with pytest.raises(ImageError, match="again and again"):
                access.read(f"{url}/loop")
            assert inner_requests == []
            assert allowing(host(url), host(inner)).read(f"{url}/inside") == b"secret"


def test_the_checked_address_is_the_one_that_is_asked() -> None:
    """A name server may give another address to a second question."""
    asked = 0

    def changing(_: Origin) -> list[Address]:
        nonlocal asked
        asked += 1
        return [ipaddress.ip_address("127.0.0.2" if asked > 1 else "127.0.0.1")]

    with answering({"/x.png": (200, {}, b"image")}) as (url, _):
        port = url.rsplit(":", 1)[1]
        access = allowing(f"photos.example:{port}", "127.0.0.1", resolve=changing)
        assert access.read(f"http://photos.example:{port}/x.png") == b"image"
    assert asked == 1


def test_size_and_time_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.close_connection = True
            if self.path == "/header":
                for byte in b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 500:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
                return
            self.send_response(200)
            if self.path == "/short":
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"short")
                return
            self.end_headers()
            for _ in range(500):
                self.wfile.write(b"a" * (100_000 if self.path == "/large" else 1))
                time.sleep(0 if self.path == "/large" else 0.02)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(image_access, "_MAX_BYTES", 1_000_000)
    with serving(Handler) as url:
        access = allowing(host(url))
        with pytest.raises(ImageError, match="more than 1 MB"):
            access.read(f"{url}/large")
        with pytest.raises(ImageError, match="does not answer"):
            access.read(f"{url}/short")
        monkeypatch.setattr(image_access, "_SECONDS", 0.3)
        for path in ("/header", "/body"):
            start = time.monotonic()
            with pytest.raises(ImageError, match="takes too long"):
                access.read(url + path)
            assert time.monotonic() - start < 5


def test_a_host_that_does_not_answer() -> None:
    with contextlib.closing(socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    with pytest.raises(ImageError, match="does not answer"):
        allowing(f"127.0.0.1:{port}").read(f"http://127.0.0.1:{port}/x.png")


@pytest.mark.parametrize(
    "text", ["", "http://x", "x/y", "x?y", "x y", "a@b", "x:y", "x:99999", "x:0", "[::1", "*"]
)
def test_hosts_are_checked(text: str) -> None:
    if text == "*":  # is a name like any other, and no pattern
        assert not parse_allowed_host(text).covers(Origin("http", "x", 80))
        return
    with pytest.raises(InputError, match="Give HOST or HOST:PORT"):
        parse_allowed_host(text)


# -- Local files ---------------------------------------------------------------------------------------------


def test_local_files_are_read_below_their_folder_only(folder: Path, photo: bytes) -> None:
    access = ImageAccess(LabelStudioServer("http://127.0.0.1:1"), folder)
    for location in (
        "/data/local-files/?d=a%20b/fish.png",
        "/data/local-files/?d=a+b/fish.png",
        "/data/local-files/?d=a b/fish.png",
        "/data/local-files/?d=/a b/fish.png",
        "http://127.0.0.1:1/data/local-files/?d=a%20b/fish.png",
    ):
        assert access.read(location) == photo
    (folder.parent / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "inside.png").symlink_to(folder / "a b" / "fish.png")
    os.mkfifo(folder / "pipe.png")
    assert access.read("/data/local-files/?d=inside.png") == photo
    for name in (
        "../secret.png",
        "a b/../../secret.png",
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        str(folder.parent / "secret.png"),
        "link.png",
        "loop.png",
        "pipe.png",
        "a b",
        "missing.png",
        "%00",
        "",
    ):
        with pytest.raises(ImageError, match="below --local-files-root"):
            access.read(f"/data/local-files/?d={name}")


def test_local_files_need_a_folder() -> None:
    with pytest.raises(ImageError, match="Give --local-files-root"):
        ImageAccess(LabelStudioServer("http://127.0.0.1:1")).read("/data/local-files/?d=x.png")
