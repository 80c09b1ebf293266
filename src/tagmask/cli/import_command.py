"""`tagmask import`: corrected masks of another tool, back into a run."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.console import message, report_errors, show

__all__ = ["import_"]

_FORMATS = "coco, yolo, voc, cvat, label-studio, labelme or folder"
_SHOWN = 5
"""Images that are named."""


def import_(
    run: Annotated[
        Path, typer.Argument(help="The run folder that was exported.", metavar="RUN", show_default=False)
    ],
    path: Annotated[
        Path,
        typer.Argument(
            help="File, zip archive or folder that the tool exported.", metavar="PATH", show_default=False
        ),
    ],
    source: Annotated[str, typer.Option("--from", metavar="FORMAT", help=f"{_FORMATS}.", show_default=False)],
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=WORD",
            help="Read the class NAME of the files as WORD of the run; may be repeated.",
        ),
    ] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="label-studio: the project's JSON export, which names the images of an export as PNG.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace corrections that the run has already.")
    ] = False,
    skip_refused: Annotated[
        bool,
        typer.Option(
            "--skip-refused", help="Where images are refused, import the others. Default: import none."
        ),
    ] = False,
) -> None:
    """Bring corrected masks back into a run.

    Masks that differ from the run's own go to RUN/corrected, and their images
    are marked as corrected. Masks that are equal mark their images as
    accepted. All files are checked before anything is written. Exports of the
    run then take the corrected masks.
    """
    with report_errors():
        from tagmask.importers import import_run, parse_renamed
        from tagmask.runs.reader import Run

        with Run(run) as opened:
            report = import_run(
                opened,
                source,
                path,
                names=parse_renamed(rename or (), opened.words),
                tasks=tasks,
                replace=replace,
                skip_refused=skip_refused,
            )
        show(f"{report.summary()}.")
        if report.absent:
            more = ", ..." if len(report.absent) > _SHOWN else ""
            message(f"Not in the run: {', '.join(report.absent[:_SHOWN])}{more}")
        for refusal in report.refused:
            message(f"refused: {refusal.name}: {refusal.reason}")
        if report.refused:
            raise typer.Exit(1)
