"""The commands and the program of docs/runs.md run unchanged, in their order."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner

from tagmask.cli.main import app

PAGE = (Path(__file__).parents[1] / "docs" / "runs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, flags=re.DOTALL)


def test_commands_and_program(
    tmp_path: Path,
    shapes: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(shapes):
        PILImage.fromarray(pixels[::3, ::3]).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    kinds = [kind for kind, _ in BLOCKS]
    assert (kinds.count("sh"), kinds[-1]) == (5, "python")
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "docs/runs.md", "exec"), {})
            continue
        for line in block.splitlines():
            result = CliRunner().invoke(app, shlex.split(line)[1:])
            assert result.exit_code == 0, result.output
    assert "mask ('background', 'tree', 'hat') {'todo': 0, 'done': 3, 'failed': 0}" in capsys.readouterr().out
    for name in ("run/annotations.json", "run/images.csv", "tags/run.json", "tags.csv"):
        assert (tmp_path / name).exists()


def test_transcripts_fit_eighty_columns() -> None:
    for block in re.findall(r"```console\n(.*?)```", PAGE, flags=re.DOTALL):
        assert all(len(line) <= 80 for line in block.splitlines())
