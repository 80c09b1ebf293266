"""A real Label Studio, used as people's browsers and scripts use it."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "build" / "bridges" / "labelstudio" / "bin" / "label-studio"
BROWSER_PYTHON = ROOT / "build" / "bridges" / "browser" / "bin" / "python"
_USER, _PASSWORD = "ann@example.com", "a-Password-1"
_STARTS_WITHIN = 900.0
"""Seconds. It takes 20 on an idle machine."""
_PROTECTIONS = ("SSRF_PROTECTION_ENABLED", "USE_DEFAULT_BANNED_SUBNETS")
"""With these, Label Studio refuses an ML backend on this machine."""


class Site:
    """A running Label Studio, with its only user logged in."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx2.Client(base_url=url, timeout=300)

    def __enter__(self) -> "Site":
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def log_in(self) -> None:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self._client.get("/user/login/").text)
        assert token
        form = {"email": _USER, "password": _PASSWORD, "csrfmiddlewaretoken": token[1]}
        assert self._client.post("/user/login/", data=form).status_code == 302

    @property
    def cookies(self) -> dict[str, str]:
        return dict(self._client.cookies)

    def get(self, path: str, **query: Any) -> httpx2.Response:
        return self._client.get(path, params=query)

    def post(self, path: str, status: int = 201, **body: Any) -> Any:
        headers = {"X-CSRFToken": self._client.cookies["csrftoken"], "Referer": self.url}
        answer = self._client.post(path, headers=headers, **body)
        assert answer.status_code == status, answer.text[:2000]
        return answer.json()

    def personal_access_token(self) -> str:
        token: str = self.post("/api/token/")["token"]
        return token

    def create_project(self, title: str, config: str) -> int:
        body = {"title": title, "label_config": config, "show_collab_predictions": True}
        number: int = self.post("/api/projects/", json=body)["id"]
        return number

    def upload(self, project: int, name: str, data: bytes) -> None:
        self.post(f"/api/projects/{project}/import", files={"file": (name, data, "image/png")})

    def import_tasks(self, project: int, tasks: list[dict[str, Any]]) -> None:
        self.post(f"/api/projects/{project}/import", json=tasks)

    def tasks(self, project: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/tasks/", project=project, fields="all").json()["tasks"]
        return sorted(found, key=lambda task: task["id"])

    def predictions(self, task: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/predictions/", task=task).json()
        return found

    def act(self, action: str, project: int) -> Any:
        body = {"selectedItems": {"all": True, "excluded": []}, "ordering": [], "project": project}
        return self.post(f"/api/dm/actions?id={action}&project={project}", 200, json=body)

    def export(self, project: int, kind: str) -> bytes:
        answer = self.get(f"/api/projects/{project}/export", exportType=kind)
        assert answer.status_code == 200, answer.text[:2000]
        return answer.content


@contextmanager
def running(
    program: list[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the duration of a test; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(program, stdout=output, stderr=output, env={**os.environ, **environment})
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


@contextmanager
def label_studio(folder: Path) -> Iterator[Site]:
    """Run a Label Studio whose data are in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = f"{PROGRAM} start --no-browser --port {port} --internal-host 127.0.0.1".split()
    program += ["--username", _USER, "--password", _PASSWORD]
    environment = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "HOME": str(folder),
        **dict.fromkeys(_PROTECTIONS, "false"),
    }
    site = Site(f"http://127.0.0.1:{port}")
    log = folder / "label-studio.log"
    with running(program, log, environment) as process:
        _wait(site.url, process, log)
        site.log_in()
        with site:
            yield site


@contextmanager
def tagmask_serve(site: Site, key: str, log: Path, *options: str) -> Iterator[str]:
    """Run `tagmask serve --label-studio` with the miniature model, and yield its address."""
    program = [sys.executable, "-m", "tagmask", "serve", "--label-studio", "--port", "0"]
    program += ["--weights", "miniature", *options]
    environment = {"LABEL_STUDIO_URL": site.url, "LABEL_STUDIO_API_KEY": key}
    with running(program, log, environment) as process:
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        _wait(found[0], process, log)
        yield found[0]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + _STARTS_WITHIN
    while True:
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < end, log.read_text()[-4000:]
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{url}/health", timeout=10).status_code in (200, 401):  # 401: it wants a password
                return
        time.sleep(0.5)
