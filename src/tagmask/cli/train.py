"""The commands of `tagmask train`: options in, work done elsewhere, exit codes out."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import background_words, load_weights, read_words, require_words
from tagmask.cli.console import report_errors
from tagmask.cli.options import (
    ActivationOption,
    Background,
    Device,
    Paths,
    Precision,
    PrecisionOption,
    RecipeName,
    Refine,
    Weights,
    Words,
)

__all__ = ["train_app"]

train_app = typer.Typer(
    no_args_is_help=True,
    help="From words to a segmenter of your own: seeds, WeakCLIP, pseudo-masks, student.",
)

Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to work in; taken up again.")]
Folder = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of pictures.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, as in lr=1e-4; repeat it."),
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Pictures; short for --set images=DIR.")
]
Method = Annotated[
    str, typer.Option(metavar="NAME", help="cls-seg masks tags; sclip and others compare all words.")
]
TagsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="What is in each picture: lines 'IMAGE INDEX INDEX ...'."),
]
Scales = Annotated[str, typer.Option(metavar="LIST", help="Sizes at which WeakCLIP looks, as in 0.5,1,1.5.")]
Flip = Annotated[bool, typer.Option(help="Every size a second time, mirrored.")]
Crf = Annotated[
    str, typer.Option(metavar="NAME", help="weakclip/voc, weakclip/coco or another CRF; none for none.")
]
_SCALES = "0.5,0.75,1,1.25,1.5,1.75"


@train_app.command()
def seeds(
    paths: Paths,
    out: Out,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    recipe: RecipeName = None,
    method: Method = "cls-seg",
    refine: Annotated[Refine | None, typer.Option(help="Sharpen masks along edges.")] = None,
    background: Background = None,
    tags_file: TagsFile = None,
    cams: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Take activation maps instead: NAME.npy, as MCTformer's."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Of the maps: what the background scores.", min=0, max=1)
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="True masks of some pictures, to choose --threshold by."),
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take index PNGs instead: checked and copied.")
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Make the first, rough masks of all pictures: the seeds that WeakCLIP learns from.

    By default a frozen CLIP tags each picture and masks its tags. Stopped at any moment, it goes on.
    """
    with report_errors():
        from tagmask.cli.train_steps import make_seeds, seed_options
        from tagmask.runtime.folders import find_images

        options = seed_options(
            require_words(read_words(word), recipe),
            recipe=recipe,
            background=background_words(background, False),
            method=None if recipe else method,
            refine=refine,
            tags_file=tags_file,
            cams=cams,
            threshold=threshold,
            truth=truth,
            masks=masks,
        )
        failed = make_seeds(
            find_images(paths), out, options, lambda: load_weights(weights, activation, device, precision)
        )
    raise typer.Exit(1 if failed else 0)


@train_app.command()
def weakclip(
    out: Out,
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Settings: weakclip/voc, weakclip/coco, or a TOML file.")
    ] = "weakclip/voc",
    images: Images = None,
    seeds: Annotated[
        Path | None, typer.Option("--seeds", metavar="DIR", help="Seeds; short for --set data.seeds=DIR.")
    ] = None,
    weights: Weights = None,
    changes: Changes = None,
) -> None:
    """Train WeakCLIP on seeds. Start it with torchrun for many GPUs. Stopped at any moment, it goes on."""
    with report_errors():
        from tagmask.cli.train_steps import run_weakclip

        run_weakclip(config, out, {"images": images, "seeds": seeds}, weights, changes or [])


@train_app.command()
def pseudo(
    paths: Paths,
    out: Out,
    model: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of a finished `tagmask train weakclip`.")
    ],
    scales: Scales = _SCALES,
    flip: Flip = True,
    crf: Crf = "weakclip/voc",
    tags_file: TagsFile = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Let a trained WeakCLIP mask pictures, at several sizes. Stopped at any moment, it goes on."""
    with report_errors():
        from tagmask.cli.train_steps import make_pseudo, pseudo_settings
        from tagmask.runtime.folders import find_images

        failed = make_pseudo(
            find_images(paths),
            model,
            out,
            pseudo_settings(scales, flip, crf),
            tags_file=tags_file,
            device=device,
            precision=precision.value,
        )
    raise typer.Exit(1 if failed else 0)


@train_app.command()
def student(
    out: Out,
    config: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="Settings: student/small, student/deeplab, or a TOML file."),
    ] = "student/small",
    images: Images = None,
    masks: Annotated[
        Path | None, typer.Option("--masks", metavar="DIR", help="Masks; short for --set data.seeds=DIR.")
    ] = None,
    changes: Changes = None,
) -> None:
    """Train a segmenter that needs neither CLIP nor words. Stopped at any moment, it goes on."""
    with report_errors():
        from tagmask.cli.train_steps import run_student

        run_student(config, out, {"images": images, "seeds": masks}, changes or [])


@train_app.command("all")
def everything(
    images: Folder,
    out: Out,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    method: Method = "cls-seg",
    refine: Annotated[Refine | None, typer.Option(help="Sharpen seeds along edges.")] = None,
    background: Background = None,
    tags_file: TagsFile = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--weakclip",
            metavar="NAME|FILE",
            help="WeakCLIP's settings; else weakclip/voc, or the miniature's.",
        ),
    ] = None,
    pupil: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="NAME|FILE",
            help="The student's settings; else student/small, or miniature's.",
        ),
    ] = None,
    changes: Changes = None,
    student_changes: Annotated[
        list[str] | None,
        typer.Option("--set-student", metavar="KEY=VALUE", help="As --set, for the student."),
    ] = None,
    scales: Scales = _SCALES,
    flip: Flip = True,
    crf: Crf = "weakclip/voc",
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Folder of pictures and words in, exported student out, and a page that shows every step.

    Every step has a folder below --out. Stopped at any moment, the same command goes on where it was; steps
    that are done are not done again.
    """
    with report_errors():
        from tagmask.cli.train_all import train_all
        from tagmask.cli.train_steps import pseudo_settings, seed_options

        failed = train_all(
            images,
            out,
            seed_options(
                require_words(read_words(word), None),
                background=background_words(background, False),
                method=method,
                refine=refine,
                tags_file=tags_file,
            ),
            pseudo_settings(scales, flip, crf),
            weights=weights,
            activation=activation,
            weakclip=config,
            student=pupil,
            changes=changes or [],
            student_changes=student_changes or [],
            device=device,
            precision=precision,
        )
    raise typer.Exit(1 if failed else 0)
