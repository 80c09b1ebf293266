"""`tagmask data`: list, check and prepare benchmark data sets."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.console import message, report_errors, show
from tagmask.cli.help import App

__all__ = ["data_app"]

data_app = App(help="List, check and prepare benchmark data sets.")

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A name from `tagmask data list`.", show_default=False)
]
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="The data set's folder.", show_default=False)]
Split = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Default: the split that papers report on.", show_default=False),
]


@data_app.command("list")
def list_() -> None:
    """List the data sets, their splits (default first) and converters."""
    with report_errors():
        from tagmask.data.catalogue import known_datasets
        from tagmask.data.converters import CONVERTERS

        for name, entry in known_datasets().items():
            splits = ", ".join(f"{split} {count or ''}".strip() for split, count in entry.splits.items())
            typer.echo(f"{name:<16}{entry.about}")
            typer.echo(f"{'':<16}{splits}")
        typer.echo("\ntagmask data prepare creates")
        for name, converter in CONVERTERS.items():
            typer.echo(f"{name:<16}{converter.about}")


@data_app.command()
def check(
    name: Name,
    root: Root,
    split: Split = None,
    read: Annotated[bool, typer.Option("--read", help="Also decode every image and mask.")] = False,
) -> None:
    """Check which files of a data set exist, and where to get the others.

    Exit code 1 if anything is missing or unusable.
    """
    with report_errors():
        from tagmask.data.check import check_dataset

        findings = check_dataset(name, root, split, read=read)
        for finding in findings:
            show(f"{' ' if finding.ok else '!'} {finding.what:<16}{finding.detail}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@data_app.command()
def prepare(
    name: Name,
    root: Root,
    split: Split = None,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Number of processes; 0: one per processor.", min=0)
    ] = 1,
    again: Annotated[bool, typer.Option("--again", help="Overwrite existing files.")] = False,
) -> None:
    """Convert published annotations to index PNGs.

    Existing files are kept, so an interrupted run resumes. Exit code 1 if any
    file could not be converted.
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
        message(f"{made} files created, {len(jobs) - made - failed} existed, {failed} failed")
    raise typer.Exit(1 if failed else 0)
