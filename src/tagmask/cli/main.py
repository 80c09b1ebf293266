"""The commands of `tagmask`: options in, work done elsewhere, exit codes out."""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tagmask import __version__
from tagmask.cli.arguments import background_words, load_weights, read_words, require_words
from tagmask.cli.bench import bench_app
from tagmask.cli.console import report_errors
from tagmask.cli.data import data_app
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
    Workers,
)
from tagmask.cli.train import train_app
from tagmask.cli.train_projection import projection
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
    plugin: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Python file to run first, which registers methods of your own."),
    ] = None,
) -> None:
    """Tag your images, then mask your tags: with words, with a frozen CLIP, with no training."""
    if plugin:
        with report_errors():
            from tagmask.cli.plugins import run_plugins

            run_plugins(plugin)


@app.command()
def tag(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Image files, or folders to look through.", metavar="PATHS", show_default=False),
    ] = None,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="clip, clip-softmax, clip-surgery, dpt, dpt-softmax, tagclip; sparc and piaa need --adapt.",
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt", help="Look at all images first and learn from them, without labels (--method piaa)."
        ),
    ] = False,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --adapt: keep what was learned. Without: use what was kept."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Learn a threshold for each word from a few labelled images: DIR, and its tags.txt.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of --calibrate, if not DIR/tags.txt: lines 'IMAGE INDEX INDEX ...'."
        ),
    ] = None,
    save_recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep words, settings and thresholds, for --recipe FILE (.toml)."),
    ] = None,
    background: Background = None,
    no_background: NoBackground = False,
    min_score: Annotated[
        float | None, typer.Option(help="Tags have at least this score.", show_default=False)
    ] = None,
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
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say which of the words are in each image.

    Prints every word's score beside the cut that tags must exceed: half way from the image's lowest score to
    its highest. So there is always a best word, even if it is not there; --min-score asks for more, and
    --calibrate learns how much (docs/tagging.md).
    """
    with report_errors():
        from tagmask.api import Tagger
        from tagmask.cli.tag import tag_images, tag_settings
        from tagmask.cli.tag_adaptation import TagAdaptation
        from tagmask.resolve import tag_recipe
        from tagmask.runtime.folders import find_images

        asked = tag_settings(method, recipe, min_score, top, adapt=adapt)
        words, around = require_words(read_words(word), recipe), background_words(background, no_background)
        quirks = as_ and as_.value
        checked = tag_recipe(recipe, words, around, quirks, asked)  # before anything is loaded
        found = find_images(paths) if paths else []
        learning = TagAdaptation(found, adapt, adapter, calibrate, labels, save_recipe)
        learning.check(checked)

        def tagger() -> Tagger:
            clip = load_weights(weights, activation, device, precision)
            made = Tagger(
                clip, words, recipe=recipe, background=around, as_=quirks, adapter=learning.kept, **asked
            )
            return learning.done(made)

        failed = tag_images(
            found,
            tagger,
            as_json=as_json,
            out=out,
            paper=format_ is TagFormat.paper,
            workers=workers,
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
            help="sclip, sc-clip, naclip, clip, ... (`tagmask methods` lists all); cls-seg masks tags.",
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
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say where the words are: an index PNG and an overlay for each image.

    Pixels that resemble none of the words become background: they are compared with a list of background
    words too (sky, wall, grass, ...), and must reach --threshold.
    """
    with report_errors():
        from tagmask.api import Segmenter
        from tagmask.cli.mask import check_tags_known, mask_formats, mask_images, mask_settings
        from tagmask.resolve import mask_recipe
        from tagmask.runtime.folders import find_images
        from tagmask.runtime.tag_files import read_tags

        asked = mask_settings(method, threshold, only_tags, refine)
        words, around = require_words(read_words(word), recipe), background_words(background, no_background)
        quirks = as_ and as_.value
        checked = mask_recipe(recipe, words, around, quirks, asked)  # before anything is loaded
        check_tags_known(checked, tags_file)

        def segmenter() -> Segmenter:
            clip = load_weights(weights, activation, device, precision)
            return Segmenter(clip, words, recipe=recipe, background=around, as_=quirks, **asked)

        failed = mask_images(
            find_images(paths),
            segmenter,
            out=out,
            overlays=overlay,
            coco="coco" in mask_formats(format_),
            workers=workers,
            tags=None if tags_file is None else read_tags(tags_file, len(checked.words)),
        )
    raise typer.Exit(1 if failed else 0)


@app.command()
def look(
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE", show_default=False)],
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="X,Y",
            help="A point, in pixels from the left and from the top; repeat it. Left out: the middle.",
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="One of `tagmask methods`; repeat it. Left out: clip, maskclip, sclip, naclip, sc-clip.",
        ),
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(
            "--word", "-w", metavar="WORD", help="For resclip only, which looks with words in mind."
        ),
    ] = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The picture to write, .png or .jpg.")
    ] = Path("look.png"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Draw where the patch at a point looks: the last block's attention under each method.

    A row a point, a column a method. Warm is what the patch takes most from, in shares of its strongest.
    """
    with report_errors():
        from tagmask.cli.attention import draw_attention

        draw_attention(
            image,
            at or (),
            method or (),
            read_words(word),
            lambda: load_weights(weights, activation, device, precision),
            out,
        )


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to.")] = Path(
        "demo"
    ),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Try everything on drawn pictures with the bundled model: no weights, no network, seconds."""
    with report_errors():
        from tagmask.cli.demo import show

        show(load_weights("miniature", None, device, precision), out)


@app.command()
def doctor(
    words: Annotated[bool, typer.Option("--words", help="Also list the words that miniature knows.")] = False,
) -> None:
    """Say what this machine has: versions, hardware, the precision auto would choose, caches, weights."""
    with report_errors():
        from tagmask.cli.doctor import examine

        examine(words=words)


@app.command()
def methods() -> None:
    """List every method, with a line on what it does and where it comes from."""
    from tagmask.catalogue import describe_methods

    for name, line in describe_methods().items():
        typer.echo(f"{name:<22}{line}")


@app.command()
def recipes(
    pattern: Annotated[str, typer.Argument(help="Only those with this in their name.")] = "",
) -> None:
    """List the recipes: the settings behind the rows of the papers' tables."""
    from tagmask.resolve import recipes as known

    for name in known():
        if pattern in name:
            typer.echo(name)


@app.command()
def export(
    student: Annotated[
        Path, typer.Argument(help="A trained student.", metavar="STUDENT", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(help="The ONNX file to write.", metavar="OUT.onnx", show_default=False)
    ],
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Fix height and width, as in 512x512; else both are free."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Fix the number of images; else it is free.", min=1)
    ] = None,
    output: Annotated[
        str, typer.Option(metavar="NAME", help="softmax: every class's probability; labels: the best class.")
    ] = "softmax",
    pixels: Annotated[
        str, typer.Option(metavar="NAME", help="bytes: uint8 RGB; normalised: float32, done by the caller.")
    ] = "bytes",
    opset: Annotated[int, typer.Option(help="Of ONNX.", min=18)] = 18,
) -> None:
    """Write a trained student as ONNX, check it with onnxruntime, print where it is."""
    with report_errors():
        from tagmask.cli.export import export_student, read_size

        export_student(student, out, read_size(size), batch, output, pixels, opset)


app.add_typer(weights_app, name="weights")
app.add_typer(data_app, name="data")

train_app.command()(projection)
app.add_typer(train_app, name="train")

app.add_typer(bench_app, name="bench")
