"""Standard output and error: encodings, a closed pipe, a full disk, an interruption."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tagmask
from tests.cli.running import run


def test_results_go_to_stdout_and_messages_to_stderr(photos: Path, sclip_weights: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from tagmask.cli.main import main; main()",
        "tag",
        str(photos),
        "-w",
        "cat",
    ]
    done = subprocess.run(
        [*command, "--json", "--weights", str(sclip_weights)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 2
    assert "images done" in done.stderr


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tagmask", *(str(argument) for argument in arguments)]


def test_file_name_that_is_not_text(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    undecodable = os.fsencode(photos) + b"/caf\xe9.png"
    with open(undecodable, "wb") as file:  # noqa: PTH123 (Path takes no bytes)
        file.write((photos / "sub" / "b.png").read_bytes())
    out = tmp_path / "tags.jsonl"
    arguments = command("tag", photos, "-w", "cat", "--weights", sclip_weights, "--json", "--out", out)[3:]
    for done in in_each_encoding(arguments):
        assert len([json.loads(line) for line in done.splitlines()]) == 3
    names = [json.loads(line)["path"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert os.fsdecode(undecodable) in names


def in_each_encoding(arguments: list[str]) -> list[str]:
    """Run the command once per terminal encoding, in one process, and return each stdout."""
    code = """
import sys
from tagmask.cli.main import main
for encoding in ("utf-8", "latin-1", "ascii"):
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding, errors="strict")
    try:
        main()
    except SystemExit as error:
        assert not error.code, error.code
    print("next")
"""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
    parts = done.stdout.split(b"next\n")
    assert (len(parts), parts[-1]) == (4, b"")
    return [part.decode("ascii") for part in parts[:-1]]


def test_closed_stdout_ends_the_run_quietly(photos: Path, sclip_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "tags.jsonl"
    with subprocess.Popen(
        command("tag", photos, "-w", "cat", "--weights", sclip_weights, "--json", "--out", out),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        stderr = process.stderr.read().decode()
    assert process.returncode == 141
    assert "Traceback" not in stderr
    assert "cannot be written" not in stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_stdout_is_reported(photos: Path, sclip_weights: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("tag", photos, "-w", "cat", "--weights", sclip_weights),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "Results cannot be written to stdout" in done.stderr
    assert "Traceback" not in done.stderr


def test_interrupted_run_reports_its_results(
    photos: Path, sclip_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def tag(self: tagmask.Tagger, image: Path) -> tagmask.Tags:
        if done:
            raise KeyboardInterrupt
        done.append(image)
        return original(self, image)

    original = tagmask.Tagger.__call__
    monkeypatch.setattr(tagmask.Tagger, "__call__", tag)
    out = tmp_path / "tags.jsonl"
    result = run("tag", photos, "-w", "cat", "--weights", sclip_weights, "--out", out)
    assert result.exit_code == 130
    assert f"results so far are in {out}.partial" in result.stderr
    assert len((tmp_path / "tags.jsonl.partial").read_text().splitlines()) == 1
    assert not out.exists()
