"""The options of `tagmask rerun`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.arguments import background_words, load_run_weights, read_words
from tagmask.cli.console import report_errors
from tagmask.cli.options import Background, Device, MaskRun, NoBackground, Refine, RunWeights, Words, Workers

if TYPE_CHECKING:
    from tagmask.clip.load import Clip
    from tagmask.runs.reader import Run

__all__ = ["rerun"]


def rerun(
    run: MaskRun,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the new run.")],
    word: Words = None,
    background: Background = None,
    no_background: NoBackground = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE", help="Pixels whose best score is below it become background.", min=0, max=1
        ),
    ] = None,
    refine: Annotated[
        Refine | None,
        typer.Option(metavar="NAME", help="Refine masks: none, pamr, tlp or crf. Default: the run's."),
    ] = None,
    weights: RunWeights = None,
    overlay: Annotated[bool, typer.Option(help="Also draw the masks over the images.")] = True,
    workers: Workers = 2,
    device: Device = "auto",
) -> None:
    """Mask a run's images again with other words or settings, into a new run.

    What is not given stays as in RUN, which is not changed. Checked masks go
    along where the words stay the same. Give the same command again to go on
    after a stop.
    """
    with report_errors():
        from tagmask.cli.mask import mask_settings
        from tagmask.cli.rerun import repeat_run

        def load(of: "Run") -> "Clip":
            return load_run_weights(of, weights, device)

        failed = repeat_run(
            run,
            out,
            load,
            words=read_words(word),
            background=background_words(background, no_background),
            settings=mask_settings(None, threshold, False, refine),
            overlays=overlay,
            workers=workers,
        )
    raise typer.Exit(1 if failed else 0)
