"""The commands of docs/tools.md run unchanged, and what they write is where the page says."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagmask.cli.main import app
from tests.exporters.made_runs import masks, write_photos, write_run

PAGE = (Path(__file__).parents[1] / "docs" / "tools.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, flags=re.DOTALL)
EXPORTS = sorted(
    {line for _, block in BLOCKS for line in block.splitlines() if line.startswith("tagmask export")}
)


@pytest.mark.parametrize("command", EXPORTS)
def test_exports(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {name: labels for name, labels in masks().items() if name in ("holes.png", "empty.jpg")}
    words = ("background", "cat", "dog")
    write_run(tmp_path / "RUN", write_photos(tmp_path / "photos", labels), labels, words)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    written = {str(path.relative_to(tmp_path)) for path in (tmp_path / "RUN").rglob("*")}
    opened = {
        name
        for _, block in BLOCKS
        if command in block
        for name in re.findall(r"RUN/[\w./-]*\w", block.replace(command, ""))
    }
    assert opened
    assert opened <= written


def test_programs_are_python() -> None:
    programs = [block for kind, block in BLOCKS if kind == "python"]
    assert len(programs) >= 3
    for program in programs:
        compile(program, "docs/tools.md", "exec")
