"""`tagmask words`: check words before they are used, and choose background words for them."""

from typing import Annotated

import typer

from tagmask.cli.arguments import background_words, load_weights, read_words, require_words
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

__all__ = ["words_app"]

words_app = App(help="Check words, and choose background words for them.")


@words_app.callback()
def _group() -> None:
    """Check words, and choose background words for them."""


@words_app.command()
def check(
    word: Words = None,
    background: Background = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if something is to change.")
    ] = False,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Say which words compete for the same pixels, and what to give instead.

    Words compete if one contains the other (animal, cat), if they mean nearly
    the same (sofa, couch), if they are one word in singular and plural, or if
    a background word does this to a word. Also prints the nearest word and
    background word of each, and of up to 12 words all cosines. Texts are
    compared as `tagmask mask` compares them with images; see docs/words.md.
    """
    with report_errors():
        from tagmask.cli.word_report import check_and_print
        from tagmask.resolve import mask_recipe

        words = require_words(read_words(word), None)
        texts = background_words(background, False)
        mask_recipe(None, words, texts)  # invalid words must fail before any weights are loaded
        clip = load_weights(weights, activation, device, precision)
        found = check_and_print(clip, words, texts, as_json=as_json)
    raise typer.Exit(1 if strict and found else 0)


@words_app.command()
def background(
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Print the background words that --background auto chooses, one per line.

    Up to 64 names of COCO-Stuff and ADE20K that represent all the others and
    are unlike your words. Write them to a file, edit it, and give it to other
    commands: --background @FILE.
    """
    with report_errors():
        from tagmask.pipelines.background_choice import choose_background
        from tagmask.resolve import mask_recipe

        words = require_words(read_words(word), None)
        lines = mask_recipe(None, words, []).words
        for name in choose_background(load_weights(weights, activation, device, precision), lines):
            typer.echo(name)
