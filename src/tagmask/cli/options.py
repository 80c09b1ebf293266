"""Options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Activation",
    "ActivationOption",
    "Affinity",
    "Again",
    "As",
    "AsOption",
    "Background",
    "Device",
    "HeadOption",
    "MaskRun",
    "NoBackground",
    "Paths",
    "Precision",
    "PrecisionOption",
    "Purify",
    "RecipeName",
    "Refine",
    "Regions",
    "RunWeights",
    "ShardOption",
    "TagFormat",
    "Templates",
    "Val",
    "ValData",
    "ValEvery",
    "ValImages",
    "Weights",
    "Words",
    "Workers",
]


class Precision(StrEnum):
    """Number format of the matrix products."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Activation(StrEnum):
    """Activation function of the towers' MLPs."""

    quickgelu = "quickgelu"
    gelu = "gelu"


class As(StrEnum):
    """Behaviour where the authors' code seems unintended, or differs from their paper."""

    published = "published"
    corrected = "corrected"
    printed = "printed"


class Regions(StrEnum):
    """Kinds of regions."""

    by_class = "class"
    component = "component"


class Refine(StrEnum):
    """Refinement of masks along image edges."""

    none = "none"
    pamr = "pamr"
    tlp = "tlp"
    crf = "crf"


class Purify(StrEnum):
    """Which words are dropped from an image."""

    off = "off"
    scores = "scores"
    tags = "tags"


class Affinity(StrEnum):
    """What CLIP-ES and CLS-SEG spread activation maps along."""

    attention = "attention"
    cda = "cda"


class TagFormat(StrEnum):
    """File format of tags."""

    json = "json"
    csv = "csv"
    paper = "paper"


Paths = Annotated[
    list[Path],
    typer.Argument(help="Image files, or folders to search for images.", metavar="PATHS", show_default=False),
]
Words = Annotated[
    list[str] | None,
    typer.Option(
        "--word",
        "-w",
        metavar="WORD",
        help="A word to find; may be repeated. 'dog, puppy' is one class with two names. "
        "@FILE reads one word per line.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        envvar="TAGMASK_WEIGHTS",
        help="A file, a folder, a name from `tagmask weights list`, hf:OWNER/REPO or miniature. "
        "Default: ViT-B-16:openai, downloaded if needed.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Settings and words of a paper, such as tagclip/voc2012 or sclip/voc21. "
        "For tags, also FILE.toml.",
    ),
]
Background = Annotated[
    list[str] | None,
    typer.Option(
        "--background",
        "-b",
        metavar="WORD",
        help="A background word; may be repeated, or @FILE. Replaces the built-in list. auto: 64 words "
        "chosen to be unlike yours; none: no background.",
    ),
]
Templates = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Prompt templates, a line each, with {} for the word; `tagmask prompts select` writes them. "
        "Texts are averaged over them.",
    ),
]
NoBackground = Annotated[
    bool, typer.Option("--no-background", help="Compare the words only with each other.")
]
ActivationOption = Annotated[
    Activation | None,
    typer.Option(
        metavar="NAME",
        help="quickgelu (OpenAI) or gelu (most of open_clip), for weights that do not specify it.",
    ),
]
MaskRun = Annotated[
    Path, typer.Argument(help="A run folder of `tagmask mask`.", metavar="RUN", show_default=False)
]
RunWeights = Annotated[
    str | None,
    typer.Option(metavar="WEIGHTS", help="Where the run's weights are. Default: as the run recorded."),
]
Workers = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Images computed at once. Memory grows with it."),
]
Again = Annotated[
    bool, typer.Option("--again", help="Do all images again, also those that are done; corrections stay.")
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="PART/PARTS",
        help="Do a stable part of the images, as in 2/8; join the run folders with `tagmask merge`.",
    ),
]
HeadOption = Annotated[
    Path | None,
    typer.Option(
        "--head",
        metavar="FILE",
        help="Correct the scores by what corrected masks taught: head.safetensors of `tagmask improve`.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(metavar="NAME", help="auto (the fastest on this machine), float32, bfloat16 or float16."),
]
AsOption = Annotated[
    As | None,
    typer.Option(
        "--as",
        metavar="NAME",
        help="published or corrected: keep or fix what seems unintended in the authors' code; printed: "
        "TagCLIP's formulas as in its paper, other methods as published.",
    ),
]

Val = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET/SPLIT|DIR",
        help="Validate during training and keep the best model: a data set, or a folder with "
        "classes.txt, images/ and masks/.",
    ),
]
ValData = Annotated[Path | None, typer.Option(metavar="ROOT", help="Folder of the data set to validate on.")]
ValEvery = Annotated[int, typer.Option(metavar="N", help="Steps between two validations.", min=1)]
ValImages = Annotated[
    int | None,
    typer.Option(metavar="N", help="Validate on at most N images, evenly spaced. Default: all.", min=1),
]
