"""The options of `tagmask improve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.arguments import load_run_weights
from tagmask.cli.console import report_errors
from tagmask.cli.options import Device, MaskRun, RunWeights, Workers
from tagmask.errors import InputError

if TYPE_CHECKING:
    from tagmask.clip.load import Clip
    from tagmask.runs.reader import Run

__all__ = ["improve"]


def improve(
    run: MaskRun,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the new run.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Learn from these masks: index PNGs named like the images. Default: the run's corrected and "
            "accepted masks.",
        ),
    ] = None,
    itself: Annotated[
        bool,
        typer.Option("--self", help="Learn from the run's own masks where they are confident, refined."),
    ] = False,
    rounds: Annotated[int, typer.Option(metavar="N", help="Rounds of --self.", min=1)] = 2,
    weights: RunWeights = None,
    overlay: Annotated[bool, typer.Option(help="Also draw the masks over the images.")] = True,
    workers: Workers = 2,
    device: Device = "auto",
) -> None:
    """Make a run better by a few corrected masks, without training the CLIP.

    Learns in seconds what the corrections have in common, writes it as
    DIR/head.safetensors, and masks all images of RUN again with it into DIR.
    How much it helps is estimated on images that are left out, one at a time.
    Checked masks stay as they are. The file also works for other images:
    `tagmask mask --head FILE` with the same words, weights and method.

    Give the same command again to go on after a stop.
    """
    with report_errors():
        from tagmask.cli.improve import improve_run

        if itself and source is not None:
            raise InputError("--self and --from exclude each other. Give only one.")

        def load(of: "Run") -> "Clip":
            return load_run_weights(of, weights, device)

        failed = improve_run(
            run,
            out,
            load,
            source=source,
            itself=itself,
            rounds=rounds,
            overlays=overlay,
            workers=workers,
        )
    raise typer.Exit(1 if failed else 0)
