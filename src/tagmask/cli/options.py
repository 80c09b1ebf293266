"""Options that several commands share, written once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Activation",
    "ActivationOption",
    "As",
    "AsOption",
    "Background",
    "Device",
    "NoBackground",
    "Paths",
    "Precision",
    "PrecisionOption",
    "RecipeName",
    "Refine",
    "TagFormat",
    "Weights",
    "Words",
    "Workers",
]


class Precision(StrEnum):
    """Of the matrix products."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Activation(StrEnum):
    """Of the towers' MLPs."""

    quickgelu = "quickgelu"
    gelu = "gelu"


class As(StrEnum):
    """What to do where an authors' program looks unintended."""

    published = "published"
    corrected = "corrected"


class Refine(StrEnum):
    """What sharpens masks along the image's edges."""

    none = "none"
    pamr = "pamr"
    crf = "crf"


class TagFormat(StrEnum):
    """How tags are kept."""

    json = "json"
    paper = "paper"


Paths = Annotated[
    list[Path],
    typer.Argument(help="Image files, or folders to look through.", metavar="PATHS", show_default=False),
]
Words = Annotated[
    list[str] | None,
    typer.Option(
        "--word",
        "-w",
        metavar="WORD",
        help="A word to look for; repeat it. 'dog, puppy' is one class with two names; @FILE has one a line.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        envvar="TAGMASK_WEIGHTS",
        help="The path of a file or folder, a name of `tagmask weights list`, hf:OWNER/REPO or miniature. "
        "Left out: ViT-B-16:openai, downloaded if it is not here.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="A paper's settings and words, such as tagclip/voc2012 or sclip/voc21; for tags, FILE.toml too.",
    ),
]
Background = Annotated[
    list[str] | None,
    typer.Option(
        "--background",
        "-b",
        metavar="WORD",
        help="Name what is none of the words, instead of the built-in list; repeat it, or @FILE.",
    ),
]
NoBackground = Annotated[
    bool, typer.Option("--no-background", help="Compare the words with each other only.")
]
ActivationOption = Annotated[
    Activation | None,
    typer.Option(help="For weights that do not say: OpenAI's have quickgelu, most of open_clip's gelu."),
]
Workers = Annotated[
    int, typer.Option(metavar="N", min=1, help="Images worked on at the same time; memory grows with them.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="Of the matrix products; auto takes what is fast here.")
]
AsOption = Annotated[
    As | None, typer.Option("--as", help="Keep or mend what looks unintended in the authors' program.")
]
