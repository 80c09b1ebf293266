"""`tagmask tag` and `tagmask mask`."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from tagmask import __version__
from tagmask.cli.inputs import behind, lines, load_weights, needed
from tagmask.cli.options import (
    ActivationOption,
    AsOption,
    Background,
    Device,
    NoBackground,
    Paths,
    Precision,
    PrecisionOption,
    RecipeName,
    Weights,
    Words,
)
from tagmask.cli.talk import errors_reported

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of the `tagmask` command."""
    for stream in (sys.stdout, sys.stderr):
        # File names and words may hold what a terminal's encoding cannot show; that is no reason to stop.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="tagmask")


def _print_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"tagmask {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tag your images, then mask your tags: with words, with a frozen CLIP, with no training."""


@app.command()
def tag(
    paths: Paths,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    background: Background = None,
    no_background: NoBackground = False,
    min_score: Annotated[float, typer.Option(help="Tags have at least this score.", min=0, max=1)] = 0.0,
    top: Annotated[int | None, typer.Option(help="At most so many tags an image.", min=1)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object an image, no table.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write one JSON object an image to FILE, as in tags.jsonl."),
    ] = None,
    as_: AsOption = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say which of the words are in each image.

    Prints every word's score beside the cut that tags must exceed: half way from the image's lowest score to
    its highest. So there is always a best word, even if it is not there; --min-score asks for more.
    """
    with errors_reported():
        from tagmask.cli.tagging import tag_images
        from tagmask.runtime.folders import find_images
        from tagmask.settings.lookup import tag_recipe

        settings = tag_recipe(
            recipe,
            needed(lines(word), recipe),
            behind(background, no_background),
            as_ and as_.value,
            {"min_score": min_score, "top": top},
        )
        failed = tag_images(
            find_images(paths),
            settings,
            lambda: load_weights(weights, activation, device, precision),
            as_json=as_json,
            out=out,
        )
    raise typer.Exit(1 if failed else 0)


@app.command()
def mask(
    paths: Paths,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for masks, overlays and classes.json.")
    ],
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="clip, maskclip, sclip, sclip-q, sclip-k or sclip-identity."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Pixels whose best score stays under it become background.", min=0, max=1),
    ] = None,
    background: Background = None,
    no_background: NoBackground = False,
    overlay: Annotated[bool, typer.Option(help="Also draw the masks over the photos.")] = True,
    as_: AsOption = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say where the words are: an index PNG and an overlay for each image.

    Pixels that resemble none of the words become background: they are compared with a list of background
    words too (sky, wall, grass, ...), and must reach --threshold.
    """
    with errors_reported():
        from tagmask.cli.masking import mask_images
        from tagmask.runtime.folders import find_images
        from tagmask.settings.lookup import mask_recipe

        asked = {"method": method, "prob_thd": threshold}
        settings = mask_recipe(
            recipe,
            needed(lines(word), recipe),
            behind(background, no_background),
            as_ and as_.value,
            {key: value for key, value in asked.items() if value is not None},
        )
        failed = mask_images(
            find_images(paths),
            settings,
            lambda: load_weights(weights, activation, device, precision),
            out=out,
            overlays=overlay,
        )
    raise typer.Exit(1 if failed else 0)
