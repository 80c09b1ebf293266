"""Nothing from outside acts on the terminal: it is printed with its control characters escaped."""

import logging
import pickle
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tagmask.cli.console import (
    LogHandler,
    bold,
    green,
    heading,
    message,
    print_path,
    report_errors,
    report_failure,
    show,
)
from tagmask.cli.main import app
from tagmask.errors import InputError

NAME, SHOWN = "a\x1b]0;owned\x07b\n.png", "a\\x1b]0;owned\\x07b\\n.png"


def failing(error: Exception) -> None:
    with report_errors():
        raise error


def test_messages_errors_and_log_records_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    message(f"1 {NAME}")
    with pytest.raises(typer.Exit):
        failing(InputError(f"2 {NAME}"))
    with report_errors():
        logging.getLogger("tagmask.x").warning("3 %s", NAME)
    assert capsys.readouterr() == ("", f"1 {SHOWN}\ntagmask: 2 {SHOWN}\n3 {SHOWN}\n")


@pytest.mark.parametrize("error", [f"{NAME} is damaged", f"{SHOWN} is damaged", "is damaged"])
def test_a_failure_names_its_image_once(error: str, capsys: pytest.CaptureFixture[str]) -> None:
    report_failure(Path(NAME), error)
    said = capsys.readouterr().err
    assert said.startswith(f"failed: {SHOWN}")
    assert said.count("owned") == 1


def test_styles_stay_while_their_text_is_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert bold(NAME) == f"\x1b[1m{SHOWN}\x1b[0m"
    assert green(NAME) == f"\x1b[32m{SHOWN}\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert bold(NAME) == green(NAME) == SHOWN
    heading(NAME)
    assert capsys.readouterr().err == f"{SHOWN}\n"


def test_paths_are_escaped_for_people_and_whole_for_programs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_path(Path(NAME))
    assert capsys.readouterr().out == f"{NAME}\n"
    show(NAME)
    assert capsys.readouterr().out == f"{SHOWN}\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_path(Path(NAME))
    assert capsys.readouterr().out == f"{SHOWN}\n"


def test_escape_sequences_of_a_weights_file_stay_in_it(tmp_path: Path) -> None:
    path = tmp_path / "w\x1b]0;owned\x07.pt"
    # A function of that name: named in the message that refuses it.
    path.write_bytes(pickle.dumps(len, 0).replace(b"len", b"l\x1b]0;owned\x07n"))
    result = CliRunner().invoke(app, ["weights", "check", str(path)])
    assert result.exit_code == 1
    assert "owned" in result.output
    assert "\x1b" not in result.output


def progress(done: int, total: int) -> logging.LogRecord:
    record = logging.LogRecord("tagmask", logging.INFO, "", 0, "encoded %d of %d words", (done, total), None)
    record.progress = (done, total)
    return record


def test_logged_progress_is_a_line_every_30_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("tagmask.cli.console.time.monotonic", lambda: now)
    handler = LogHandler()
    for done in range(1, 8):
        now += 10.0
        handler.emit(progress(done, 7))
    assert capsys.readouterr() == ("", "encoded 3 of 7 words\nencoded 6 of 7 words\n")


def test_logged_progress_is_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    handler = LogHandler()
    handler.emit(progress(3, 7))
    handler.close()  # as after Ctrl-C
    shown = capsys.readouterr().err
    assert "3/7" in shown
    assert "encoded" not in shown
    assert shown.endswith(("\x1b[2K", "\x1b[?25h", "\n", "\r"))  # the bar is gone and the cursor is back
