import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from tagmask.cli.main import app
from tagmask.clip.load import Clip
from tests.app.conftest import CONFIG, request, task
from tests.cli.conftest import Command

_FORGET = dict.fromkeys(("TAGMASK_PASSWORD", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[FastAPI]:
    """The applications that commands would have run."""
    apps: list[FastAPI] = []

    def run_server(
        make_app: Callable[[Callable[[BaseException], None]], FastAPI], bound: socket.socket
    ) -> None:
        apps.append(make_app(lambda _: None))

    monkeypatch.setattr("tagmask.app.server.run_server", run_server)
    return apps


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--local-files-root", "."], {}, "are for --label-studio. Add it."),
        (["--host", "0.0.0.0"], {}, "Others can reach this server at 0.0.0.0, so it needs a password."),
        (["--host", "::"], {}, "it needs a password"),
        (["--host", "no such host"], {}, "There is no address no such host"),
        (["--user", "ann"], {}, "--user needs a password. Set TAGMASK_PASSWORD."),
        (["--user", "a:b"], {"TAGMASK_PASSWORD": "x"}, "has a colon"),
        ([], {"TAGMASK_PASSWORD": "x"}, "Give --user NAME."),
        (["--method", "scilp"], {}, "Did you mean sclip?"),
        (["--allow-image-host", "http://x"], {}, "Invalid host 'http://x'."),
        (
            [],
            {"LABEL_STUDIO_URL": "localhost:8080"},
            "Give Label Studio's address, as in http://localhost:8080.",
        ),
    ],
)
def test_unusable_options_are_refused_at_once(
    arguments: list[str], environment: dict[str, str], message: str, served: list[FastAPI]
) -> None:
    options = ["--port", "0"] if "Add it" in message else ["--label-studio", "--port", "0"]
    result = CliRunner().invoke(app, ["serve", *options, *arguments], env={**_FORGET, **environment})
    assert result.exit_code == 2
    assert message in result.output
    assert served == []


def test_a_port_in_use_is_refused(served: list[FastAPI]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = CliRunner().invoke(app, ["serve", "--label-studio", "--port", port], env=_FORGET)
    assert result.exit_code == 2
    assert f"The server cannot use port {port} of 127.0.0.1" in result.output


def test_options_reach_the_server(
    served: list[FastAPI], few_photos: Path, sclip_model: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []

    def load(*options: Any) -> Clip:
        loaded.append(options)
        return sclip_model

    monkeypatch.setattr("tagmask.cli.serve.load_weights", load)
    options = ["--label-studio", "--port=0", "--weights=some:weights", "--method=naclip", "--no-background"]
    options += ["--user=ann", "--host=0.0.0.0", "--local-files-root", str(few_photos)]
    result = CliRunner().invoke(app, ["serve", *options], env={**_FORGET, "TAGMASK_PASSWORD": "pw"})
    assert result.exit_code == 0, result.output
    assert "ML backend for Label Studio: http://0.0.0.0:" in result.output
    body = request(
        task("/data/local-files/?d=sub/a.png"), config=CONFIG[: CONFIG.index("<Choices")] + "</View>"
    )
    with TestClient(served[0]) as client:
        assert client.get("/health").status_code == 401
        client.auth = ("ann", "pw")
        (answer,) = client.post("/predict", json=body).json()["results"]
    assert answer["model_version"] == "tagmask naclip some:weights"
    assert {each["type"] for each in answer["result"]} == {"brushlabels"}
    assert loaded[0][0] == "some:weights"


def test_it_ends_where_the_weights_cannot_be_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in _FORGET:
        monkeypatch.delenv(name, raising=False)
    result = command("serve", "--label-studio", "--port", "0", "--weights", "missing.pt", code=2)
    assert any("missing.pt" in line for line in result.output.splitlines())
