"""The options of `tagmask tag`."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import background_words, load_weights, read_templates, read_words, require_words
from tagmask.cli.console import report_errors
from tagmask.cli.engine import (
    EngineName,
    EngineOption,
    EnginePrecision,
    EnginePrecisionOption,
    Int8Images,
    read_engine,
)
from tagmask.cli.options import (
    ActivationOption,
    Again,
    AsOption,
    Background,
    Device,
    NoBackground,
    RecipeName,
    ShardOption,
    TagFormat,
    Templates,
    Weights,
    Words,
    Workers,
)

__all__ = ["tag"]


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
    templates: Templates = None,
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
        typer.Option(
            "--out",
            "-o",
            metavar="RUN",
            help="A run folder to keep the tags in. A name ending in .jsonl, .json, .csv or .txt, a device "
            "or a pipe: one file instead, a line per image.",
        ),
    ] = None,
    format_: Annotated[
        TagFormat | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="Write one file: json (lines), csv, or paper (lines IMAGE INDEX INDEX ..., classes from 0). "
            "Default: by the ending of --out.",
        ),
    ] = None,
    again: Again = False,
    shard: ShardOption = None,
    as_: AsOption = None,
    workers: Workers = 2,
    device: Device = "auto",
    precision: EnginePrecisionOption = EnginePrecision.auto,
    engine: EngineOption = EngineName.torch,
    int8_images: Int8Images = None,
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
        from tagmask.runs.shards import parse_shard
        from tagmask.runtime.folders import find_images

        chosen_engine, weights_precision = read_engine(engine, precision, int8_images)
        settings = tag_settings(method, recipe, min_score, top, read_templates(templates), adapt=adapt)
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
                load_weights(weights, activation, device, weights_precision),
                words,
                recipe=recipe,
                background=background_texts,
                as_=quirks,
                adapter=adaptation.adapter_to_load,
                engine=chosen_engine,
                **settings,
            )
            return adaptation.apply(tagger)

        failed = tag_images(
            images,
            make_tagger,
            as_json=as_json,
            out=out,
            format_=format_,
            workers=workers,
            again=again,
            shard=None if shard is None else parse_shard(shard),
        )
    raise typer.Exit(1 if failed else 0)
