"""The commands that read run folders: `tagmask merge` and `tagmask export`."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.console import message, print_path, report_errors
from tagmask.errors import InputError

__all__ = ["export", "merge"]


def merge(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, such as shards.", metavar="RUN...", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A new run folder for all their images.")
    ],
) -> None:
    """Join runs of the same words, weights and settings into one run folder.

    The runs stay as they are. An image that several of them hold is taken
    once; if its results differ, nothing is written.
    """
    with report_errors():
        from tagmask.runs.merge import merge_runs

        report = merge_runs(runs, out)
        repeated = f", {report.repeated} of them in several runs" if report.repeated else ""
        message(f"{report.images} images from {len(runs)} runs{repeated}.")
        print_path(out)


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run folder, or a trained student file.", metavar="SOURCE", show_default=False),
    ],
    onnx: Annotated[
        Path | None,
        typer.Argument(help="The ONNX file of a student.", metavar="OUT.onnx", show_default=False),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FORMATS", help="Formats of a run: coco, csv, report, or several as in coco,csv."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for a run's files. Default: the run's own."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Fix height and width, as in 512x512. Default: both vary."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Fix the batch size. Default: it varies.", min=1)
    ] = None,
    output: Annotated[
        str,
        typer.Option(metavar="NAME", help="softmax: probabilities of all classes; labels: the best class."),
    ] = "softmax",
    pixels: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Input format. bytes: uint8 RGB; normalised: float32, normalised by the caller.",
        ),
    ] = "bytes",
    opset: Annotated[int, typer.Option(metavar="N", help="ONNX opset version.", min=18)] = 18,
) -> None:
    """Export a run for other tools, or a trained student to ONNX.

    For a run folder give --to coco, csv or report (a page with the images).
    For a student file give OUT.onnx; the export is checked with onnxruntime.
    """
    with report_errors():
        from tagmask.cli.export import export_run, export_student, read_size

        if source.is_dir():
            if onnx is not None or to is None:
                raise InputError(f"{source} is a folder. For a run give --to coco or --to csv.")
            export_run(source, to, out)
        else:
            if onnx is None or to is not None or out is not None:
                raise InputError(
                    f"{source} is not a folder. For a student give OUT.onnx, without options of runs."
                )
            export_student(source, onnx, read_size(size), batch, output, pixels, opset)
