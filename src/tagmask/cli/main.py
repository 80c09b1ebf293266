"""The commands of `tagmask`: they parse options, call the library and set exit codes."""

import gc
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tagmask import __version__
from tagmask.cli.arguments import load_weights, read_words
from tagmask.cli.bench import bench_app
from tagmask.cli.console import report_errors
from tagmask.cli.data import data_app
from tagmask.cli.help import App
from tagmask.cli.import_command import import_
from tagmask.cli.improve_command import improve
from tagmask.cli.maps_command import maps
from tagmask.cli.mask_command import mask
from tagmask.cli.options import (
    ActivationOption,
    Device,
    Precision,
    PrecisionOption,
    Weights,
)
from tagmask.cli.prompts import prompts_app
from tagmask.cli.rerun_command import rerun
from tagmask.cli.review_command import review
from tagmask.cli.run_commands import export, merge
from tagmask.cli.serve import serve
from tagmask.cli.tag_command import tag
from tagmask.cli.train import train_app
from tagmask.cli.train_all_command import everything
from tagmask.cli.train_mctformer import affinity, mctformer
from tagmask.cli.train_projection import projection
from tagmask.cli.weights import weights_app
from tagmask.cli.words import words_app
from tagmask.errors import InputError

__all__ = ["app", "main"]

_STOPPED = (130, 143)
"""Exit codes of commands that SIGINT and SIGTERM end."""
_FULL_COLLECTIONS = 100
"""Collections of the middle generation per collection of all objects; Python's default is 10."""

app = App()


def main() -> None:
    """Entry point of the `tagmask` command."""
    for stream in (sys.stdout, sys.stderr):
        # File names and words may hold characters that the terminal's encoding cannot show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # Torch makes hundreds of thousands of objects that stay. To search them all for garbage several times
    # during its import, and again at the end, takes as long as a photo. Young objects are searched as usual.
    gc.set_threshold(*gc.get_threshold()[:2], _FULL_COLLECTIONS)
    try:
        app(prog_name="tagmask")
    except SystemExit as end:
        if end.code in _STOPPED:
            # All files are closed. Python would take seconds to unload torch on a busy machine.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(int(end.code))
        raise
    finally:
        gc.freeze()


def _print_version(requested: bool) -> bool:
    if requested:
        typer.echo(f"tagmask {__version__}")
        raise typer.Exit
    return requested


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
    plugin: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Python file that registers methods or data sets of your own; run first."
        ),
    ] = None,
) -> None:
    """Tag and mask images from words, with a frozen CLIP and no training."""
    if plugin:
        with report_errors():
            from tagmask.plugins import run_files

            run_files(plugin)


app.command()(tag)
app.command()(mask)


@app.command()
def attention(
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE", show_default=False)],
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="X,Y",
            help="A point in pixels from the left and the top; may be repeated. Default: the centre.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="A method of `tagmask methods`; may be repeated. Default: clip, maskclip, sclip, naclip, "
            "sc-clip.",
        ),
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(
            "--word", "-w", metavar="WORD", help="Words for resclip, whose second pass depends on them."
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Draw the attention in every layer, and TagCLIP's masked mean, not methods."
        ),
    ] = False,
    weights: Weights = None,
    activation: ActivationOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, .png or .jpg.")
    ] = Path("attention.png"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Draw attention maps of image patches, by method or by layer.

    Writes one picture with a row per point and a column per method. Each map
    shows what the patch at the point attends to in the last block, relative
    to the strongest attention.
    """
    with report_errors():
        from tagmask.cli.attention import draw_attention, draw_layers

        if layers:
            if method or word:
                raise InputError("--layers draws no methods. Leave out --method and -w.")
            draw_layers(image, at or (), lambda: load_weights(weights, activation, device, precision), out)
            return
        draw_attention(
            image,
            at or (),
            method or (),
            read_words(word),
            lambda: load_weights(weights, activation, device, precision),
            out,
        )


app.command()(maps)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")] = Path(
        "demo"
    ),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Tag and mask drawn scenes with the bundled model; works offline."""
    with report_errors():
        from tagmask.cli.demo import run_demo

        run_demo(load_weights("miniature", None, device, precision), out)


@app.command()
def doctor(
    words: Annotated[
        bool, typer.Option("--words", help="Also list the words that the miniature model knows.")
    ] = False,
) -> None:
    """Show versions, hardware, default precision, caches and weights."""
    with report_errors():
        from tagmask.cli.doctor import print_diagnosis

        print_diagnosis(words=words)


@app.command()
def methods(
    cite: Annotated[
        list[str] | None,
        typer.Option(
            "--cite",
            metavar="NAME",
            help="Print the papers behind a method as BibTeX instead; may be repeated.",
            rich_help_panel="Output",
        ),
    ] = None,
) -> None:
    """List all methods with a one-line summary and source."""
    with report_errors():
        if cite:
            from tagmask.citations import bibtex

            typer.echo(bibtex(cite))
            return
        from tagmask.catalogue import describe_methods

        for name, summary in describe_methods().items():
            typer.echo(f"{name:<22}{summary}")


@app.command()
def recipes(
    pattern: Annotated[
        str, typer.Argument(metavar="TEXT", help="List only recipes whose name contains this text.")
    ] = "",
) -> None:
    """List the recipes: the settings of the papers' table rows."""
    from tagmask.resolve import recipes as recipe_names

    for name in recipe_names():
        if pattern in name:
            typer.echo(name)


app.command()(export)
app.command("import")(import_)
app.command()(improve)
app.command()(merge)
app.command()(rerun)
app.command()(review)
app.command()(serve)
app.add_typer(weights_app, name="weights")
app.add_typer(data_app, name="data")
app.add_typer(prompts_app, name="prompts")
app.add_typer(words_app, name="words")

train_app.command("all")(everything)
train_app.command()(mctformer)
train_app.command()(affinity)
train_app.command()(projection)
app.add_typer(train_app, name="train")

app.add_typer(bench_app, name="bench")
