"""`tagmask prompts`: choose prompt templates."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import (
    background_words,
    load_weights,
    read_templates,
    read_words,
    require_words,
)
from tagmask.cli.console import report_errors
from tagmask.cli.help import App
from tagmask.cli.options import (
    ActivationOption,
    Background,
    Device,
    Precision,
    PrecisionOption,
    Weights,
    Words,
)

__all__ = ["prompts_app"]

prompts_app = App(help="Choose prompt templates for your images.")


@prompts_app.callback()
def _group() -> None:
    """Choose prompt templates for your images."""


@prompts_app.command()
def select(
    images: Annotated[
        list[Path],
        typer.Option(
            "--images",
            metavar="DIR",
            help="Folder of images, or an image; may be repeated.",
            show_default=False,
        ),
    ],
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Words and settings of a recipe that masks tags: cls-seg/voc2012."),
    ] = None,
    background: Background = None,
    tags_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Tags of the images. Lines: IMAGE INDEX INDEX ... Default: TagCLIP finds them.",
        ),
    ] = None,
    templates: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Candidates, a line each, with {} for the word. Default: CLIP-ES's template and 85 of "
            "TagCLIP's.",
        ),
    ] = None,
    top: Annotated[
        int | None, typer.Option(metavar="N", help="Print only the best N. Default: all.", min=1)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the best templates, for --templates of mask, tag and train.",
        ),
    ] = None,
    keep: Annotated[
        int,
        typer.Option(metavar="N", help="Number of templates to write; texts are averaged over them.", min=1),
    ] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per template instead of a table.")
    ] = False,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Rank prompt templates by their sharpness on your images, the best first.

    CLIP-ES's measure: how unequal the probabilities of an image's tags are. It
    needs images of two or more tags, and no masks. The lower, the better for
    masks of tags (cls-seg, clip-es).
    """
    with report_errors():
        from tagmask.cli.prompt_selection import print_ranking, select_prompts, tag_first_recipe
        from tagmask.runtime.folders import find_images

        words = require_words(read_words(word), recipe)
        background_texts = background_words(background, False)
        # Resolve the recipe first: invalid settings must fail before any weights are loaded.
        tag_first_recipe(recipe, words, background_texts, tags_file)
        candidates = read_templates(templates)
        found = select_prompts(
            find_images(images),
            lambda: load_weights(weights, activation, device, precision),
            lambda known: tag_first_recipe(recipe, words, background_texts, tags_file, known),
            candidates,
            background=background_texts,
            tags_file=tags_file,
            output=output,
            keep=keep,
        )
        print_ranking(found, top=top, as_json=as_json)
    raise typer.Exit(1 if found.failed else 0)
