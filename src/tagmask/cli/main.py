"""The commands of `tagmask`: options in, work done elsewhere, exit codes out."""

import io
import os
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
    Refine,
    TagFormat,
    Weights,
    Words,
)
from tagmask.cli.talk import errors_reported
from tagmask.cli.training import train_app
from tagmask.cli.weights import weights_app

__all__ = ["app", "main"]

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def main() -> None:
    """Entry point of the `tagmask` command."""
    for stream in (sys.stdout, sys.stderr):
        # File names and words may hold what a terminal's encoding cannot show; that is no reason to stop.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
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
    format_: Annotated[
        TagFormat,
        typer.Option("--format", help="Of --out; paper is 'IMAGE INDEX INDEX ...', classes counted from 0."),
    ] = TagFormat.json,
    as_: AsOption = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say which of the words are in each image.

    Prints every word's score beside the cut that tags must exceed: half way from the image's lowest score to
    its highest. So there is always a best word, even if it is not there; --min-score asks for more.
    """
    with errors_reported():
        from tagmask.api import Tagger
        from tagmask.cli.tagging import tag_images
        from tagmask.runtime.folders import find_images
        from tagmask.settings.lookup import tag_recipe

        asked: dict[str, object] = {"min_score": min_score, "top": top}
        words, around = needed(lines(word), recipe), behind(background, no_background)
        quirks = as_ and as_.value
        checked = tag_recipe(recipe, words, around, quirks, asked)  # before anything is loaded

        def tagger() -> Tagger:
            clip = load_weights(weights, activation, device, precision)
            own = None if recipe else tag_recipe(None, words, around, quirks, asked, clip.background)
            return Tagger(clip, recipe=own or checked)

        failed = tag_images(
            find_images(paths),
            tagger,
            as_json=as_json,
            out=out,
            paper=format_ is TagFormat.paper,
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
        typer.Option(
            metavar="NAME",
            help="clip, maskclip, sclip, sclip-q, sclip-k, sclip-identity; cls-seg masks tags.",
        ),
    ] = None,
    only_tags: Annotated[
        bool, typer.Option("--only-tags", help="Look only for the words that a tagger finds in the image.")
    ] = False,
    tags_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Look only for these: lines 'IMAGE INDEX INDEX ...' (tag --format paper)."
        ),
    ] = None,
    refine: Annotated[
        Refine | None, typer.Option(help="Sharpen masks along edges; else as the recipe has it.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="LIST", help="png, or png,coco: also annotations.json.")
    ] = "png",
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
        from tagmask.api import Segmenter
        from tagmask.cli.masking import check_tags_known, mask_formats, mask_images, mask_settings
        from tagmask.runtime.folders import find_images
        from tagmask.runtime.tagfiles import read_tags
        from tagmask.settings.lookup import mask_recipe

        asked = mask_settings(method, threshold, only_tags, refine)
        words, around = needed(lines(word), recipe), behind(background, no_background)
        quirks = as_ and as_.value
        checked = mask_recipe(recipe, words, around, quirks, asked)  # before anything is loaded
        check_tags_known(checked, tags_file)

        def segmenter() -> Segmenter:
            clip = load_weights(weights, activation, device, precision)
            own = None if recipe else mask_recipe(None, words, around, quirks, asked, clip.background)
            return Segmenter(clip, recipe=own or checked)

        failed = mask_images(
            find_images(paths),
            segmenter,
            out=out,
            overlays=overlay,
            coco="coco" in mask_formats(format_),
            tags=None if tags_file is None else read_tags(tags_file, len(checked.words)),
        )
    raise typer.Exit(1 if failed else 0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")] = Path(
        "demo"
    ),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Try everything on drawn pictures with the bundled model: no weights, no network, seconds."""
    with errors_reported():
        from tagmask.cli.demo import show

        show(load_weights("miniature", None, device, precision), out)


@app.command()
def doctor(
    words: Annotated[bool, typer.Option("--words", help="Also list the words that miniature knows.")] = False,
) -> None:
    """Say what this machine has: versions, hardware, the precision auto would choose, caches, weights."""
    with errors_reported():
        from tagmask.cli.doctor import examine

        examine(words=words)


app.add_typer(weights_app, name="weights")
app.add_typer(train_app, name="train")

bench = typer.Typer(no_args_is_help=True, help="Measure: tables with known truth.")
app.add_typer(bench, name="bench")


@bench.command()
def miniature(
    scenes: Annotated[int, typer.Option(help="How many unseen scenes.", min=1)] = 300,
    weights: Annotated[str, typer.Option(metavar="PATH", help="Weights to measure.")] = "miniature",
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """The miniature world's tables (docs/miniature.md), as Markdown."""
    with errors_reported():
        from tagmask.cli.benching import bench_miniature

        bench_miniature(load_weights(weights, None, device, precision), scenes)
