"""Images that Label Studio keeps: its paths, keys and tokens."""

import base64
import json
import threading
import time

import pytest

from tagmask.app.image_access import ImageAccess
from tagmask.app.label_studio_files import LabelStudioServer
from tagmask.errors import ImageError, InputError
from tests.app.image_servers import Answers, allowing, answering, host
from tests.servers import QuietHandler, serving


def test_its_own_paths_get_the_key_and_no_others_do() -> None:
    with answering({"/x.png": (200, {}, b"image")}) as (other, other_requests):
        answers: Answers = {
            "/studio/data/upload/1/x.png": (200, {}, b"image"),
            "/studio/tasks/3/resolve/?fileuri=abc": (303, {"Location": f"{other}/x.png"}, b""),
            "/studio/data/upload/login.png": (302, {"Location": "/studio/user/login/?next=x"}, b""),
        }
        with answering(answers) as (url, requests):
            server = LabelStudioServer(f"{url}/studio/", "legacy")
            access = allowing(host(other), label_studio=server)
            assert access.read("/data/upload/1/x.png") == b"image"
            assert access.read("/studio/data/upload/1/x.png") == b"image"
            assert access.read(f"{url}/studio/data/upload/1/x.png") == b"image"
            assert access.read("/tasks/3/resolve/?fileuri=abc") == b"image"
            with pytest.raises(ImageError, match="check LABEL_STUDIO_API_KEY"):
                access.read("/data/upload/login.png")
            asked = len(requests)
            for path in (
                "/api/users",
                "/",
                "/data/../api/users",
                "/data/%2e%2e/api/users",
                "/data/..%2fapi/users",
                "/tasks/3/",
                "/data/local-files?d=x",
            ):
                with pytest.raises(ImageError, match="is not where Label Studio keeps images"):
                    access.read(path)
            assert len(requests) == asked
    assert {key for _, _, key in requests} == {"Token legacy"}
    assert {key for _, _, key in other_requests} == {""}
    assert "legacy" not in repr(access)


def jwt(**payload: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(payload).encode()).rstrip(b"=").decode()
    return f"e30.{body}.sig"


def test_personal_access_tokens_are_exchanged_and_renewed() -> None:
    exchanged: list[str] = []
    current = ""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            nonlocal current
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/api/token/refresh/"
            exchanged.append(json.loads(body)["refresh"])
            current = jwt(exp=time.time() + 300, number=len(exchanged))
            self.answer(200, json.dumps({"access": current}).encode())

        def do_GET(self) -> None:
            valid = self.headers.get("Authorization") == f"Bearer {current}"
            self.answer(200 if valid else 401, b"image")

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    key = jwt(token_type="refresh")
    with serving(Handler) as url:
        access = ImageAccess(LabelStudioServer(url, key))
        assert access.read("/data/upload/1/x.png") == b"image"
        assert access.read("/data/upload/1/x.png") == b"image"
        assert exchanged == [key]
        current = "revoked"
        assert access.read("/data/upload/1/x.png") == b"image"
        assert exchanged == [key, key]
        threads = [threading.Thread(target=access.read, args=["/data/upload/1/x.png"]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert exchanged == [key, key]


@pytest.mark.parametrize(
    "answer",
    [
        (401, b"{}"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b"<html>"),
        (200, b'{"access": "a\\r\\nX: y"}'),
        (500, b""),
    ],
)
def test_a_key_that_is_not_accepted(answer: tuple[int, bytes]) -> None:
    class Handler(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

    with serving(Handler) as url, pytest.raises(ImageError, match="does not accept LABEL_STUDIO_API_KEY"):
        ImageAccess(LabelStudioServer(url, jwt())).read("/data/upload/1/x.png")


def test_a_legacy_key_that_is_not_accepted() -> None:
    with (
        answering({"/data/x.png": (401, {}, b"")}) as (url, requests),
        pytest.raises(ImageError, match="Set LABEL_STUDIO_API_KEY to a key"),
    ):
        ImageAccess(LabelStudioServer(url, "legacy")).read("/data/x.png")
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("localhost:8080", ""),
        ("ftp://x", ""),
        ("http://user:pw@x", ""),
        ("http://x/?a", ""),
        ("http://x", "a b"),
        ("http://x", "a\nb"),
    ],
)
def test_addresses_and_keys_of_label_studio_are_checked(url: str, key: str) -> None:
    with pytest.raises(InputError, match="Label Studio's"):
        LabelStudioServer(url, key)
