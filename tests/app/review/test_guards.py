"""Who gets an answer: each attack of another page, another program or another user of the machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tagmask.app.review_app import review_app
from tagmask.app.review_session import ReviewSession
from tagmask.app.reviewed_run import ReviewedRun
from tagmask.clip.load import Clip
from tagmask.errors import InputError
from tagmask.runs.reader import Run
from tests.app.review.browser import ADDRESS, SESSION, Browser
from tests.app.review.conftest import Open

CHANGES = [
    ("PUT", "/api/mask"),
    ("DELETE", "/api/mask"),
    ("POST", "/api/review"),
    ("POST", "/api/redraw"),
    ("POST", "/api/jobs"),
    ("DELETE", "/api/jobs"),
]
ROUTES = [
    *CHANGES,
    *(("GET", f"/api/{name}") for name in ("run", "images", "image", "photo", "thumbnail", "mask", "jobs")),
    *(("GET", f"/api/{name}") for name in ("doubt", "superpixels")),
    ("GET", "/"),
    ("GET", "/page/main.js"),
    ("GET", "/openapi.json"),
]


@pytest.fixture(scope="module")
def server(made_run: Path) -> Iterator[TestClient]:
    """One server for all tests: none of them changes anything."""

    def load(_: Run) -> Clip:
        raise InputError("no model is needed")

    with TestClient(
        review_app(ReviewedRun(made_run / "run"), load, SESSION, memory=1), base_url=ADDRESS
    ) as client:
        yield client


@pytest.fixture
def page(server: TestClient) -> Browser:
    return Browser(server)


@pytest.fixture
def stranger(server: TestClient) -> TestClient:
    """A client without the cookie."""
    server.cookies.clear()
    return server


def test_every_route_is_in_the_list(page: Browser) -> None:
    paths = page.json("/openapi.json")["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert found == {(method, path) for method, path in ROUTES if path.startswith("/api/")}


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nothing_without_the_cookie(stranger: TestClient, method: str, path: str) -> None:
    for cookies in ({}, {SESSION.name: ReviewSession().cookie}, {SESSION.name: SESSION.token}):
        headers = {"Origin": ADDRESS, "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
        answer = stranger.request(method, path, headers=headers)
        assert answer.status_code == 401
        assert "tagmask review" in answer.json()["detail"]
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "token", ["", "x", SESSION.token[:-1], f"{SESSION.token}x", "é"], ids=["", "x", "short", "long", "é"]
)
def test_a_wrong_token_opens_nothing(stranger: TestClient, token: str) -> None:
    answer = stranger.get("/", params={"token": token})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_the_token_opens_the_page_and_nothing_else(stranger: TestClient) -> None:
    assert stranger.get("/api/run", params={"token": SESSION.token}).status_code == 401
    assert stranger.post("/", params={"token": SESSION.token}).status_code == 401
    answer = stranger.get("/", params={"token": SESSION.token})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/", SESSION.cookie))
    assert SESSION.token not in cookie
    assert stranger.get("/api/run").status_code == 200


def test_two_servers_have_other_cookies() -> None:
    one, other = ReviewSession(), ReviewSession()
    assert len({one.token, one.cookie, one.name, other.token, other.cookie, other.name}) == 6
    assert one.cookie not in repr(one)
    assert one.token not in repr(one)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", ""]
)
def test_a_foreign_host_gets_nothing(page: Browser, host: str) -> None:
    """As of a name that was made to lead here (DNS rebinding): no cookie is set either."""
    for path in (f"/?token={SESSION.token}", "/api/run"):
        answer = page.client.get(path, headers={"Host": host})
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:8001", "http://localhost:8000"]
)
@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_only_the_page_itself_changes_something(
    page: Browser, method: str, path: str, origin: str | None
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert page.client.request(method, path, headers=headers).status_code == 403


def test_other_sites_read_nothing(page: Browser) -> None:
    answer = page.client.get("/api/run", headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/?token=x", "/api/run", "/api/image?key=none", "/page/main.js", "/nothing"]
)
def test_every_answer_says_what_a_browser_may_do(page: Browser, path: str) -> None:
    for headers in ({}, {"Host": "evil.example"}, {"Cookie": "x=y"}):
        answer = page.client.get(path, headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'; img-src 'self' blob: data:;" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")


@pytest.mark.parametrize(
    "name",
    ["../review_app.py", "..%2freview_app.py", "%2e%2e/review_app.py", "/etc/passwd", "%2fetc/passwd",
     "__init__.py", "main.js%00.py", "main.js/", "photo.html%2f..%2f..%2fserver.py"],
)  # fmt: skip
def test_only_files_of_the_page(page: Browser, name: str) -> None:
    assert page.client.get(f"/page/{name}").status_code == 404


@pytest.mark.parametrize(
    "key", ["../run.json", "/etc/passwd", "photos/../run.json", "photos/none.png", "", "\0"]
)
@pytest.mark.parametrize("route", ["image", "photo", "thumbnail", "mask", "superpixels", "doubt"])
def test_only_images_of_the_run(page: Browser, route: str, key: str) -> None:
    assert page.get(f"/api/{route}", key=key).status_code == 404


def test_large_requests_are_not_read(page: Browser) -> None:
    answer = page.send("POST", "/api/review", {"key": "x" * 2_000_000, "review": None})
    assert answer.status_code == 413

    def parts() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 100_000

    answer = page.client.post("/api/review", content=parts(), headers={"Origin": ADDRESS})
    assert answer.status_code == 413


def test_the_page_is_a_fixed_list(run: Path, open_page: Open, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<p>page</p>")
    (folder / "secret.py").write_text("secret")
    browser = open_page(run, page=folder)
    (folder / "later.js").write_text("later")
    assert browser.get("/").text == "<p>page</p>"
    assert [browser.get(f"/page/{name}").status_code for name in ("secret.py", "later.js")] == [404, 404]
