"""`tagmask review`: its options, its address, and what is refused before a server runs."""

import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from tagmask.cli.main import app
from tests.cli.conftest import Command


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FastAPI, int]]:
    """The applications that commands would have run, with their ports."""
    apps: list[tuple[FastAPI, int]] = []

    def run_server(make_app: Callable[[Any], FastAPI], bound: socket.socket) -> None:
        apps.append((make_app(lambda _: None), bound.getsockname()[1]))

    monkeypatch.setattr("tagmask.app.server.run_server", run_server)
    monkeypatch.setattr("tagmask.cli.review_command._open_browser", lambda address: opened.append(address))
    opened.clear()
    return apps


opened: list[str] = []


@pytest.mark.parametrize("browser", [True, False])
def test_the_address_opens_the_page(
    few_photos: Path, tmp_path: Path, command: Command, served: list[tuple[FastAPI, int]], browser: bool
) -> None:
    command("mask", few_photos, "-w", "cat", "-b", "wall", "-o", tmp_path / "run")
    result = command("review", tmp_path / "run", *([] if browser else ["--no-browser"]))
    found = re.fullmatch(r"Review .*: (http://127\.0\.0\.1:(\d+)/\?token=\S+)", result.stdout.strip())
    assert found is not None
    ((application, port),) = served
    assert int(found[2]) == port
    assert opened == ([found[1]] if browser else [])
    with TestClient(application, base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/api/run").status_code == 401
        assert client.get(found[1]).status_code == 200
        assert client.get("/api/images").json()["count"] == 3
        origin = {"Origin": f"http://127.0.0.1:{port}"}
        body = {"key": "photos/a.png", "words": ["boat"]}
        assert client.post("/api/redraw", json=body, headers=origin).json()["words"] == ["background", "boat"]
    assert sorted(path.name for path in (tmp_path / "run").glob("run.db*")) == ["run.db"]


@pytest.mark.parametrize("keeps", [True, False])
def test_features_are_kept_on_request(
    few_photos: Path, tmp_path: Path, command: Command, served: list[tuple[FastAPI, int]], keeps: bool
) -> None:
    command("mask", few_photos, "-w", "cat", "-b", "wall", "-o", tmp_path / "run")
    result = command("review", tmp_path / "run", *(["--keep-features"] if keeps else []))
    ((application, port),) = served
    base = f"http://127.0.0.1:{port}"
    with TestClient(application, base_url=base) as client:
        client.get(result.stdout.split(": ", 1)[1].strip())
        body = {"key": "photos/a.png", "words": ["boat"]}
        assert client.post("/api/redraw", json=body, headers={"Origin": base}).status_code == 200
    assert len(list((tmp_path / "run").glob("features/**/*.safetensors"))) == keeps


def test_what_is_no_run_is_refused(
    tmp_path: Path, command: Command, served: list[tuple[FastAPI, int]]
) -> None:
    assert "is not a run: it has no run.json" in command("review", tmp_path, code=2).output
    assert not served


def test_a_port_in_use_is_refused(
    tmp_path: Path, command: Command, served: list[tuple[FastAPI, int]]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = command("review", tmp_path, "--port", other.getsockname()[1], code=2)
    assert "Give another --port." in result.output


def test_the_packages_are_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["review", str(tmp_path)])
    assert result.exit_code == 2
    assert "pip install 'tagmask[app]'" in result.output


@pytest.mark.parametrize(
    ("screen", "platform", "opens"), [("", "linux", False), (":0", "linux", True), ("", "darwin", True)]
)
def test_browsers_are_opened_on_a_screen_only(
    screen: str, platform: str, opens: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tagmask.cli.review_command import _open_browser

    started: list[str] = []

    class Thread:
        def __init__(self, **options: Any) -> None:
            self.address = options["args"][0]

        def start(self) -> None:
            started.append(self.address)

    monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setattr("threading.Thread", Thread)
    _open_browser("http://127.0.0.1/")
    assert started == (["http://127.0.0.1/"] if opens else [])
