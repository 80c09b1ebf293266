"""The README's commands and programs run unchanged, in a folder with the files they name."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner

from tagmask.cli.main import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.startswith("tagmask ")
]
NEEDS = {"export": ("--out run",), "import": ("--out run", "export run")}
"""Earlier commands of the page that a command needs, by what they contain."""
PROGRAMS = [block for kind, block in BLOCKS if kind == "python"]


@pytest.fixture
def folder(
    tmp_path: Path, tagclip_weights: Path, shapes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> Path:
    (tmp_path / "photos").mkdir()
    for name, pixels in zip(("photo.jpg", "photos/a.png", "photos/b.webp"), shapes, strict=True):
        PILImage.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "tags.txt").write_text("a 0\nb 1 0\n")
    monkeypatch.setenv("TAGMASK_WEIGHTS", str(tagclip_weights))  # the default is a download
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_readme_has_commands_and_programs() -> None:
    assert len(COMMANDS) >= 2
    assert any("--out run" in command for command in COMMANDS)
    assert len(PROGRAMS) >= 2


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.cli.demo._SEEDS", (1, 10))  # all scenes: tests/cli/test_demo.py
    for earlier in COMMANDS[: COMMANDS.index(command)]:
        if any(part in earlier for part in NEEDS.get(command.split()[1], ())):
            assert CliRunner().invoke(app, shlex.split(earlier)[1:]).exit_code == 0
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout
    if "--out run" in command:
        assert (folder / "run" / "masks" / "a.png").exists()
        assert (folder / "run" / "overlays" / "b.jpg").exists()
        assert (folder / "run" / "classes.json").exists()


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, folder: Path) -> None:
    exec(compile(program, "README.md", "exec"), {})
    if "mask.png" in program:
        assert (folder / "mask.png").exists()
        assert (folder / "overlay.png").exists()


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([\w-]+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_linked_files_exist() -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
