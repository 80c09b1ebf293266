"""The options of `tagmask maps`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import background_words, load_weights, read_words, require_words
from tagmask.cli.console import report_errors
from tagmask.cli.options import (
    ActivationOption,
    AsOption,
    Background,
    Device,
    NoBackground,
    Precision,
    PrecisionOption,
    RecipeName,
    Weights,
    Words,
)

__all__ = ["maps"]


class Steps(StrEnum):
    """Whose steps to draw."""

    tags = "tags"
    masks = "masks"


def maps(
    image: Annotated[Path, typer.Argument(help="An image file.", metavar="IMAGE", show_default=False)],
    word: Words = None,
    of: Annotated[
        Steps,
        typer.Option(metavar="NAME", help="tags: TagCLIP's steps. masks: CLIP-ES's, with Grad-CAM."),
    ] = Steps.tags,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD",
            help="Draw this word, even if it is no tag; may be repeated. Default: all of up to six words, "
            "else the tags.",
        ),
    ] = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    background: Background = None,
    no_background: NoBackground = False,
    as_: AsOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, .png or .jpg.")
    ] = Path("maps.png"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Draw the steps behind the tags or the masks of an image.

    Writes one picture with a row per word. Of tags: patch scores with the last
    block's attention and without it, refined by each mask, and the crop. Of
    masks: Grad-CAM, boxes, refined map, mask.
    """
    with report_errors():
        from tagmask.cli.maps import MapRequest, draw_maps

        request = MapRequest(
            source=image,
            masks=of is Steps.masks,
            words=require_words(read_words(word), recipe),
            only=only or (),
            recipe=recipe,
            background=background_words(background, no_background),
            as_=as_ and as_.value,
            out=out,
        )
        draw_maps(request, lambda: load_weights(weights, activation, device, precision))
