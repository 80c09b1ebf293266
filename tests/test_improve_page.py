"""The commands and the programs of docs/improve.md run unchanged, in their order."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from typer.testing import CliRunner

from tagmask.cli.main import app
from tagmask.masks import index_png

PAGE = (Path(__file__).parents[1] / "docs" / "improve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, flags=re.DOTALL)


def test_commands_and_programs(
    tmp_path: Path,
    shapes: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    checked = tmp_path / "checked" / "masks"
    checked.mkdir(parents=True)
    (tmp_path / "checked" / "classes.txt").write_text("background\ntree\nhat\n")
    for folder in ("photos", "more"):
        (tmp_path / folder).mkdir()
        for number, pixels in enumerate(shapes):
            image = pixels[::3, ::3]
            PILImage.fromarray(image).save(tmp_path / folder / f"{number}.png")
            bright = (image.mean(axis=2) > image.mean()).astype(np.uint8)
            (checked / f"{number}.png").write_bytes(index_png(2 * bright))
    monkeypatch.chdir(tmp_path)
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "python", "python"]
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "docs/improve.md", "exec"), {})
            continue
        for line in block.splitlines():
            result = CliRunner().invoke(app, shlex.split(line)[1:])
            assert result.exit_code == 0, result.output
    assert "MB" in capsys.readouterr().out
    masks = [(tmp_path / run / "masks" / "0.png").read_bytes() for run in ("run", "better", "more-masks")]
    assert masks[0] != masks[1] == masks[2]
