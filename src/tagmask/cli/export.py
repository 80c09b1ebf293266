"""`tagmask export`: a trained student as ONNX."""

import re
from importlib.util import find_spec
from pathlib import Path

import typer

from tagmask.cli.console import message
from tagmask.errors import InputError
from tagmask.types import Size
from tagmask.weak.export import check_onnx, export_onnx, needs_onnx
from tagmask.weak.students.student_file import load_student

__all__ = ["export_student", "read_size"]


def export_student(
    student: Path, out: Path, size: Size | None, batch: int | None, output: str, pixels: str, opset: int
) -> None:
    """Write a student's file as ONNX, run it where onnxruntime is installed, and print where it is."""
    needs_onnx()
    trained = load_student(student)
    export_onnx(trained, out, size=size, batch=batch, output=output, pixels=pixels, opset=opset)
    if find_spec("onnxruntime") is None:
        message("not run: onnxruntime is not installed (pip install 'tagmask[export]')")
    else:
        gap = check_onnx(out, trained)
        message(f"run with onnxruntime: probabilities differ from the student's by at most {gap:.1e}")
    typer.echo(str(out))


def read_size(text: str | None) -> Size | None:
    """HEIGHTxWIDTH, as in 512x512, as (h, w).

    Raises:
        InputError: it is not of that form.

    Example:
        >>> read_size("384x512")
        (384, 512)
    """
    if text is None:
        return None
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if sides is None:
        raise InputError(f"--size is {text!r}; give HEIGHTxWIDTH in pixels, as in 512x512")
    return int(sides[1]), int(sides[2])
