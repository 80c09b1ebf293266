"""A small local hub."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers import QuietHandler, serving

COMMIT = "1234567890" * 4

SIZES = {"width": 64, "layers": 1, "patch": 8, "side": 16, "embed": 24, "text_width": 64, "text_layers": 1}


@dataclass
class Hub:
    """Repositories by name, each with its files, and the files requested so far."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refusal: tuple[int, str] | None = None
    damage: bytes = b""
    """Replaces the end of every large file."""
    tags: dict[str, str] = field(default_factory=dict)
    """ETags by file, instead of the SHA-256."""
    commit: str = COMMIT
    more: bytes = b""
    """Follows every answer, beyond its stated length."""
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(QuietHandler):
        def do_HEAD(self) -> None:
            self.respond(body=False)

        def do_GET(self) -> None:
            self.respond(body=True)

        def respond(self, *, body: bool) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if state.refusal:
                self.reply(state.refusal[0], b"", {"X-Error-Code": state.refusal[1]}, body)
            elif parts[:2] == ["api", "models"]:
                repo = "/".join(parts[2:4])
                files = [{"rfilename": name} for name in state.files[repo]]
                info = {"id": repo, "sha": state.commit, "siblings": files}
                self.reply(200, json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            else:
                repo, name = "/".join(parts[:2]), parts[-1]
                data = state.files[repo][name]
                if body:
                    state.requests.append(name)
                tag = state.tags.get(name, hashlib.sha256(data).hexdigest())
                if state.damage and len(data) > 100_000:
                    data = data[: -len(state.damage)] + state.damage
                self.reply(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body)

        def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data + state.more)

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serving(Handler) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield state
