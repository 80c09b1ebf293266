"""`tagmask export`: a run for other tools, or a trained student to ONNX."""

import re
from pathlib import Path

from tagmask.checks import check_choice, missing_packages
from tagmask.cli.console import message, print_path
from tagmask.errors import InputError
from tagmask.exporters import EXPORTERS, ExportOptions
from tagmask.runs.reader import Run
from tagmask.types import Size
from tagmask.weak.export import check_onnx, export_onnx, needs_onnx
from tagmask.weak.students.student_file import load_student

__all__ = ["export_formats", "export_student", "read_size"]


def export_formats(path: Path, to: str, out: Path | None, options: ExportOptions) -> None:
    """Write a run in each format, and print the paths of the files and folders.

    Args:
        path: the run folder.
        to: formats, separated by commas.
        out: folder to write to; None: the run's own.
        options: which images and regions.

    Raises:
        InputError: an unknown format, a folder that is not a run, or something in the way.
        OutputError: a file cannot be written.
    """
    names = list(dict.fromkeys(name.strip() for name in to.split(",")))
    for name in names:
        check_choice("format", name, tuple(EXPORTERS))
        EXPORTERS[name].check(options)
    if options.photos not in (None, "none") and not any(EXPORTERS[name].holds_photos for name in names):
        raise InputError(f"{to} has no place for photos. Leave out --copy-images and --link-images.")
    if options.polygons and "coco" not in names:
        raise InputError("--polygons is an option of coco. Leave it out, or give --to coco.")
    if options.parquet and "hf" not in names:
        raise InputError("--parquet is an option of hf. Leave it out, or give --to hf.")
    if options.image_prefix is not None and "label-studio" not in names:
        raise InputError("--image-prefix is an option of label-studio. Leave it out, or give that format.")
    with Run(path) as run:
        for name in names:
            exporter = EXPORTERS[name]
            target = exporter.target_in(path, out)
            exporter.write(run, target, options)
            print_path(target)


def export_student(
    student: Path, out: Path, size: Size | None, batch: int | None, output: str, pixels: str, opset: int
) -> None:
    """Export a student to ONNX, check it if onnxruntime is installed, and print its path."""
    needs_onnx()
    trained = load_student(student)
    export_onnx(trained, out, size=size, batch=batch, output=output, pixels=pixels, opset=opset)
    if missing_packages("export", "onnxruntime"):
        message("not checked: onnxruntime is not installed (pip install 'tagmask[export]')")
    else:
        difference = check_onnx(out, trained)
        message(
            f"checked with onnxruntime: probabilities differ from the student's by at most {difference:.1e}"
        )
    print_path(out)


def read_size(text: str | None) -> Size | None:
    """Parse HEIGHTxWIDTH, as in 512x512, into (h, w).

    Raises:
        InputError: the text does not have that form.

    Example:
        >>> read_size("384x512")
        (384, 512)
    """
    if text is None:
        return None
    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if sides is None:
        raise InputError(f"Invalid --size {text!r}. Give HEIGHTxWIDTH in pixels, as in 512x512.")
    return int(sides[1]), int(sides[2])
