"""Run the programs and the command of docs/deploy.md unchanged (make students-test)."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from typer.testing import CliRunner

from tagmask.cli.main import app
from tagmask.weak.export import INPUTS, OUTPUTS
from tagmask.weak.students.catalogue import STUDENTS, build_student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, save_student

TEXT = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text(encoding="utf-8")
WITH_TAGMASK, ALONE = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
[COMMAND] = re.findall(r"^tagmask export .*$", TEXT, flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    card = StudentCard("small", ("background", "cat", "dog"), True, {"width": 8})
    save_student(tmp_path / "student.safetensors", TrainedStudent(card, build_student("small", 3, width=8)))
    pixels = np.random.default_rng(0).integers(0, 256, (75, 100, 3), dtype=np.uint8)
    PILImage.fromarray(pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_program_with_tagmask(folder: Path) -> None:
    exec(compile(WITH_TAGMASK, "deploy.md", "exec"), {})
    for name in ("mask.png", "overlay.png"):
        with PILImage.open(folder / name) as image:
            assert image.size == (100, 75)


def test_all_students_and_choices_are_documented() -> None:
    for name in STUDENTS:
        assert f"`{name}`" in TEXT or f"`-{name.split('-')[1]}`" in TEXT
    assert "--pixels normalised" in TEXT
    assert "--output labels" in TEXT
    assert (INPUTS, OUTPUTS) == (("bytes", "normalised"), ("softmax", "labels"))


@pytest.mark.students
@pytest.mark.filterwarnings("ignore")
def test_the_command_and_the_program_without_tagmask(folder: Path) -> None:
    result = CliRunner().invoke(app, shlex.split(COMMAND)[1:])
    assert result.exit_code == 0, result.output
    exec(compile(ALONE, "deploy.md", "exec"), {})
    exec(compile(WITH_TAGMASK, "deploy.md", "exec"), {})
    alone, expected = (np.array(PILImage.open(folder / name)) for name in ("labels.png", "mask.png"))
    assert (alone != expected).mean() < 0.001
