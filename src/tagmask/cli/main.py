"""The commands of `tagmask`: they parse options, call the library and set exit codes."""

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
        # File names and words may hold characters that the terminal's encoding cannot show.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    app(prog_name="tagmask")


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
            metavar="FILE", help="Python file that registers custom methods; run before the command."
        ),
    ] = None,
) -> None:
    """Tag and mask images from words, with a frozen CLIP and no training."""
    if plugin:
        with report_errors():
            from tagmask.cli.plugins import run_plugins

            run_plugins(plugin)


@app.command()
def tag(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Image files, or folders to search for images.", metavar="PATHS", show_default=False
        ),
    ] = None,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Tagging method: clip, clip-softmax, clip-surgery, dpt, dpt-softmax, tagclip; or sparc or "
            "piaa, which need --adapt.",
        ),
    ] = None,
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Adapt to all images first, without labels. The default method is then piaa.",
        ),
    ] = False,
    adapter: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of the adaptation: written with --adapt, read without."),
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Learn one threshold per word from the labelled images in DIR (labels in DIR/tags.txt).",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labels for --calibrate, if not DIR/tags.txt. Lines: IMAGE INDEX INDEX ...",
        ),
    ] = None,
    save_recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write words, settings and thresholds to FILE (.toml), for --recipe."
        ),
    ] = None,
    background: Background = None,
    no_background: NoBackground = False,
    min_score: Annotated[
        float | None, typer.Option(metavar="SCORE", help="Lowest score of a tag.", show_default=False)
    ] = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Largest number of tags per image.", min=1)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per image instead of a table.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the tags to FILE, one line per image."),
    ] = None,
    format_: Annotated[
        TagFormat,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Format of --out: json, or paper (lines IMAGE INDEX INDEX ..., classes from 0).",
        ),
    ] = TagFormat.json,
    as_: AsOption = None,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Find which of the words are in each image.

    Prints the score of every word and the threshold that tags must exceed:
    halfway between the image's lowest and highest score. The best word is
    therefore always a tag, even if it is absent. Use --min-score or --calibrate
    for a stricter threshold (docs/tagging.md).
    """
    with report_errors():
        from tagmask.api import Tagger
        from tagmask.cli.tag import tag_images, tag_settings
        from tagmask.cli.tag_adaptation import TagAdaptation
        from tagmask.resolve import tag_recipe
        from tagmask.runtime.folders import find_images

        settings = tag_settings(method, recipe, min_score, top, adapt=adapt)
        words = require_words(read_words(word), recipe)
        background_texts = background_words(background, no_background)
        quirks = as_ and as_.value
        # Resolve the recipe first: invalid settings must fail before any weights are loaded.
        resolved = tag_recipe(recipe, words, background_texts, quirks, settings)
        images = find_images(paths) if paths else []
        adaptation = TagAdaptation(images, adapt, adapter, calibrate, labels, save_recipe)
        adaptation.check(resolved)

        def make_tagger() -> Tagger:
            tagger = Tagger(
                load_weights(weights, activation, device, precision),
                words,
                recipe=recipe,
                background=background_texts,
                as_=quirks,
                adapter=adaptation.adapter_to_load,
                **settings,
            )
            return adaptation.apply(tagger)

        failed = tag_images(
            images,
            make_tagger,
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
            help="Mask method: sclip, sc-clip, naclip, clip, ... (see `tagmask methods`), or cls-seg.",
        ),
    ] = None,
    only_tags: Annotated[
        bool, typer.Option("--only-tags", help="Mask only the words that the tagger finds in the image.")
    ] = False,
    tags_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Mask only these tags. Lines: IMAGE INDEX INDEX ... (as `tag --format paper` writes).",
        ),
    ] = None,
    refine: Annotated[
        Refine | None,
        typer.Option(metavar="NAME", help="Refine masks: none, pamr or crf. Default: the recipe's."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="LIST", help="png, or png,coco to write annotations.json too.")
    ] = "png",
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE", help="Pixels whose best score is below it become background.", min=0, max=1
        ),
    ] = None,
    background: Background = None,
    no_background: NoBackground = False,
    overlay: Annotated[bool, typer.Option(help="Also draw the masks over the images.")] = True,
    as_: AsOption = None,
    workers: Workers = 2,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Mask the words in each image: write an index PNG and an overlay.

    Every pixel is compared with the words and with a list of background words
    (sky, wall, grass, ...). It becomes background if a background word scores
    highest or its best score is below --threshold.
    """
    with report_errors():
        from tagmask.api import Segmenter
        from tagmask.cli.mask import mask_formats, mask_images, mask_settings, require_tags_file
        from tagmask.resolve import mask_recipe
        from tagmask.runtime.folders import find_images
        from tagmask.runtime.tag_files import read_tags

        settings = mask_settings(method, threshold, only_tags, refine)
        words = require_words(read_words(word), recipe)
        background_texts = background_words(background, no_background)
        quirks = as_ and as_.value
        # Resolve the recipe first: invalid settings must fail before any weights are loaded.
        resolved = mask_recipe(recipe, words, background_texts, quirks, settings)
        require_tags_file(resolved, tags_file)

        def make_segmenter() -> Segmenter:
            clip = load_weights(weights, activation, device, precision)
            return Segmenter(clip, words, recipe=recipe, background=background_texts, as_=quirks, **settings)

        failed = mask_images(
            find_images(paths),
            make_segmenter,
            out=out,
            overlays=overlay,
            coco="coco" in mask_formats(format_),
            workers=workers,
            tags=None if tags_file is None else read_tags(tags_file, len(resolved.words)),
        )
    raise typer.Exit(1 if failed else 0)


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
    weights: Weights = None,
    activation: ActivationOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, .png or .jpg.")
    ] = Path("attention.png"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Draw attention maps of image patches, by method.

    Writes one picture with a row per point and a column per method. Each map
    shows what the patch at the point attends to in the last block, relative
    to the strongest attention.
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
def methods() -> None:
    """List all methods with a one-line summary and source."""
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


@app.command()
def export(
    student: Annotated[
        Path, typer.Argument(help="The trained student file.", metavar="STUDENT", show_default=False)
    ],
    out: Annotated[
        Path, typer.Argument(help="The ONNX file to write.", metavar="OUT.onnx", show_default=False)
    ],
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
    """Export a trained student to ONNX and check it with onnxruntime."""
    with report_errors():
        from tagmask.cli.export import export_student, read_size

        export_student(student, out, read_size(size), batch, output, pixels, opset)


app.add_typer(weights_app, name="weights")
app.add_typer(data_app, name="data")

train_app.command()(projection)
app.add_typer(train_app, name="train")

app.add_typer(bench_app, name="bench")
