"""`tagmask export`: the exported file and error messages."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from tagmask.cli.main import app
from tagmask.weak.students.catalogue import build_student
from tagmask.weak.students.student_file import StudentCard, TrainedStudent, save_student


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *(str(argument) for argument in arguments)])


@pytest.fixture
def student(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    card = StudentCard("small", ("background", "cat"), True, {"width": 8})
    save_student(tmp_path / "s.safetensors", TrainedStudent(card, build_student("small", 2, width=8)))
    return tmp_path / "s.safetensors"


@pytest.mark.parametrize("size", ["512", "512,512", "0512x512x3", "axb", ""])
def test_sizes_are_height_by_width(student: Path, size: str) -> None:
    result = run(student, student.with_name("s.onnx"), "--size", size)
    assert result.exit_code == 2
    assert f"Invalid --size {size!r}. Give HEIGHTxWIDTH in pixels" in result.stderr


def test_missing_packages_are_reported_with_the_install_command(
    student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda _: None)
    result = run(student, student.with_name("s.onnx"))
    assert result.exit_code == 2
    assert "tagmask: Exporting needs onnx and onnxscript. Run: pip install 'tagmask[export]'" in result.stderr


def test_missing_student_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tagmask.checks.find_spec", lambda name: name)
    result = run(tmp_path / "none.safetensors", tmp_path / "s.onnx")
    assert result.exit_code == 2
    assert "There is no file" in result.stderr


@pytest.mark.students
@pytest.mark.filterwarnings("ignore")
def test_file_is_written_checked_and_printed(student: Path) -> None:
    out = student.with_name("s.onnx")
    result = run(student, out, "--size", "48x64", "--batch", "1", "--output", "labels")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out)
    assert out.stat().st_size > 10_000
    assert "checked with onnxruntime: probabilities differ from the student's by at most" in result.stderr
