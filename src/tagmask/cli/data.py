"""`tagmask data`: which benchmarks are known, what of one is here, and what must be made first."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.console import message, report_errors

__all__ = ["data_app"]

data_app = typer.Typer(no_args_is_help=True, help="Benchmarks' folders: what is known, what is missing.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="As `tagmask data list` has it.", show_default=False)
]
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's folder.", show_default=False)]
Split = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Left out: the one that papers report on.", show_default=False),
]


@data_app.command("list")
def list_() -> None:
    """List the data sets, their splits (the first is meant where none is named), and what can be prepared."""
    with report_errors():
        from tagmask.data.catalogue import DATASETS
        from tagmask.data.converters import CONVERTERS

        for name, known in DATASETS.items():
            splits = ", ".join(f"{split} {count or ''}".strip() for split, count in known.splits.items())
            typer.echo(f"{name:<16}{known.about}")
            typer.echo(f"{'':<16}{splits}")
        typer.echo("\ntagmask data prepare makes")
        for name, converter in CONVERTERS.items():
            typer.echo(f"{name:<16}{converter.about}")


@data_app.command()
def check(
    name: Name,
    root: Root,
    split: Split = None,
    read: Annotated[bool, typer.Option("--read", help="Also decode every image and mask.")] = False,
) -> None:
    """Say what of a data set is in its folder, what is missing, and where to get it.

    Exit code 1 if anything is missing or cannot be used.
    """
    with report_errors():
        from tagmask.data.check import check_dataset

        findings = check_dataset(name, root, split, read=read)
        for finding in findings:
            typer.echo(f"{' ' if finding.ok else '!'} {finding.what:<16}{finding.detail}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@data_app.command()
def prepare(
    name: Name,
    root: Root,
    split: Split = None,
    workers: Annotated[
        int, typer.Option(help="Processes; 0: one for each processor.", min=0, show_default=True)
    ] = 1,
    again: Annotated[bool, typer.Option("--again", help="Also make what is there already.")] = False,
) -> None:
    """Make the masks that a protocol asks for from what is handed out, as index PNGs.

    What is there is left as it is, so a run that was stopped goes on. Exit code 1 if any could not be made.
    """
    with report_errors():
        from tagmask.cli.console import report_if_stopped, with_progress
        from tagmask.data.converters import jobs_of
        from tagmask.data.prepare import convert

        jobs = jobs_of(name, root, split)
        made = failed = 0
        with report_if_stopped(root):
            for done in with_progress(
                convert(jobs, workers=workers or os.cpu_count() or 1, again=again), len(jobs)
            ):
                made += done.made
                if done.error is not None:
                    failed += 1
                    message(f"failed: {done.error}")
        message(f"{made} files made, {len(jobs) - made - failed} were there, {failed} failed")
    raise typer.Exit(1 if failed else 0)
