"""The commands of `tagmask train`: they parse options, call the library and set exit codes."""

from enum import StrEnum
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
    Val,
    ValData,
    ValEvery,
    ValImages,
    Weights,
    Words,
)

__all__ = ["train_app"]

train_app = typer.Typer(
    no_args_is_help=True,
    help="Train a segmenter from words: seeds, WeakCLIP, pseudo-masks, student.",
)


class SeedMaker(StrEnum):
    """What makes the seeds of `train all`."""

    clip = "clip"
    mctformer = "mctformer"


Out = Annotated[
    Path,
    typer.Option("--out", "-o", metavar="DIR", help="Output folder. An interrupted run resumes from it."),
]
OutOrNone = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        help="Output folder. An interrupted run resumes from it. Not needed with --describe.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder of images.", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as in lr=1e-4; may be repeated."),
]
Images = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder of images; short for --set images=DIR.")
]
Method = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Mask method: cls-seg (masks tags), or sclip and others (compare all words)."
    ),
]
TagsFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Tags of the images. Lines: IMAGE INDEX INDEX ..."),
]
Threshold = Annotated[
    float | None,
    typer.Option(metavar="SCORE", help="Background score of the activation maps.", min=0, max=1),
]
Truth = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Ground-truth masks of some images, to choose --threshold.")
]
Scales = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Scales of the inference passes, as in 0.5,1,1.5.",
        show_default="0.5 to 1.75 in steps of 0.25",
    ),
]
Flip = Annotated[bool, typer.Option(help="Also run each scale on the mirrored image.")]
Crf = Annotated[
    str, typer.Option(metavar="NAME", help="CRF settings: weakclip/voc, weakclip/coco, another CRF, or none.")
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
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="cls-seg (masks tags), sclip and others (compare all words), or mctformer (maps of tags).",
        ),
    ] = "cls-seg",
    refine: Annotated[
        Refine | None, typer.Option(metavar="NAME", help="Refine masks: none, pamr or crf.")
    ] = None,
    background: Background = None,
    tags_file: TagsFile = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder of `tagmask train mctformer`, for its maps."),
    ] = None,
    affinity: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder of `tagmask train affinity`, to refine these maps."),
    ] = None,
    cams: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Use activation maps instead of CLIP: NAME.npz, or NAME.npy as MCTformer's."
        ),
    ] = None,
    threshold: Threshold = None,
    truth: Truth = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Use existing index PNGs instead of CLIP; they are checked and copied."
        ),
    ] = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Make seeds: the initial masks that WeakCLIP is trained on.

    By default a frozen CLIP tags each image and masks its tags. An interrupted
    run resumes.
    """
    with report_errors():
        from tagmask.cli.train_steps import MCTFORMER, make_seeds, seed_options
        from tagmask.runtime.folders import find_images

        words = read_words(word)
        options = seed_options(
            words if method == MCTFORMER else require_words(words, recipe),
            recipe=recipe,
            background=background_words(background, False),
            method=None if recipe and method != MCTFORMER else method,
            refine=refine,
            tags_file=tags_file,
            cams=cams,
            threshold=threshold,
            truth=truth,
            masks=masks,
            model=model,
            affinity=affinity,
            device=device,
        )
        failed = make_seeds(
            find_images(paths), out, options, lambda: load_weights(weights, activation, device, precision)
        )
    raise typer.Exit(1 if failed else 0)


@train_app.command()
def weakclip(
    out: OutOrNone = None,
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Settings: weakclip/voc, weakclip/coco, or a TOML file.")
    ] = "weakclip/voc",
    images: Images = None,
    seeds: Annotated[
        Path | None,
        typer.Option("--seeds", metavar="DIR", help="Folder of seeds; short for --set data.seeds=DIR."),
    ] = None,
    weights: Weights = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Start from a WeakCLIP checkpoint in the authors' layout, with its CLIP weights.",
        ),
    ] = None,
    val: Val = None,
    val_data: ValData = None,
    val_every: ValEvery = 500,
    val_images: ValImages = None,
    changes: Changes = None,
    describe: Annotated[
        bool,
        typer.Option(
            "--describe",
            help="Only print what training costs: parameters, GFLOPs, time, memory. Writes nothing.",
        ),
    ] = False,
) -> None:
    """Train WeakCLIP on seeds.

    Start it with torchrun to use several GPUs. An interrupted run resumes.
    """
    with report_errors():
        from tagmask.cli.train_steps import print_cost, run_weakclip, validation_of

        folders = {"images": images, "seeds": seeds}
        settings = [*_starting(init_from), *(changes or [])]
        if describe:
            print_cost(config, folders, weights, settings)
        else:
            validation = validation_of(val, val_data, val_every, val_images)
            run_weakclip(config, out, folders, weights, settings, validation)


def _starting(init_from: Path | None) -> list[str]:
    return [] if init_from is None else [f"model.init_from={init_from}"]


@train_app.command()
def pseudo(
    paths: Paths,
    out: Out,
    model: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Output folder of a finished `tagmask train weakclip`, or a model in it: "
            "DIR/best.safetensors.",
        ),
    ],
    scales: Scales = _SCALES,
    flip: Flip = True,
    crf: Crf = "weakclip/voc",
    tags_file: TagsFile = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Make pseudo-masks with a trained WeakCLIP, at several scales.

    An interrupted run resumes.
    """
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
        Path | None,
        typer.Option("--masks", metavar="DIR", help="Folder of masks; short for --set data.seeds=DIR."),
    ] = None,
    val: Val = None,
    val_data: ValData = None,
    val_every: ValEvery = 500,
    val_images: ValImages = None,
    changes: Changes = None,
) -> None:
    """Train a student: a segmenter that needs neither CLIP nor words.

    An interrupted run resumes.
    """
    with report_errors():
        from tagmask.cli.train_steps import run_student, validation_of

        validation = validation_of(val, val_data, val_every, val_images)
        run_student(config, out, {"images": images, "seeds": masks}, changes or [], validation)


@train_app.command("all")
def everything(
    images: Folder,
    out: Out,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    method: Method = "cls-seg",
    refine: Annotated[
        Refine | None, typer.Option(metavar="NAME", help="Refine seeds: none, pamr or crf.")
    ] = None,
    background: Background = None,
    tags_file: TagsFile = None,
    seeds: Annotated[
        SeedMaker,
        typer.Option(
            metavar="NAME", help="What makes the seeds: clip, or mctformer, trained first on --tags-file."
        ),
    ] = SeedMaker.clip,
    mctformer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Settings of MCTformer. Default: mctformer/v2, or mctformer/miniature for miniature "
            "weights.",
        ),
    ] = None,
    mctformer_changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set-mctformer", metavar="KEY=VALUE", help="Override a setting of MCTformer; may be repeated."
        ),
    ] = None,
    threshold: Threshold = None,
    truth: Truth = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--weakclip",
            metavar="NAME|FILE",
            help="Settings of WeakCLIP. Default: weakclip/voc, or weakclip/miniature for miniature weights.",
        ),
    ] = None,
    student_config: Annotated[
        str | None,
        typer.Option(
            "--student",
            metavar="NAME|FILE",
            help="Settings of the student. Default: student/small, or student/miniature for "
            "miniature weights.",
        ),
    ] = None,
    changes: Changes = None,
    student_changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set-student", metavar="KEY=VALUE", help="Override a setting of the student; may be repeated."
        ),
    ] = None,
    val: Val = None,
    val_data: ValData = None,
    val_every: ValEvery = 500,
    val_images: ValImages = None,
    scales: Scales = _SCALES,
    flip: Flip = True,
    crf: Crf = "weakclip/voc",
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Run all steps: from images and words to an exported student.

    Each step has a folder in --out; report.html shows the results of all steps.
    An interrupted run resumes, and finished steps are not repeated.
    """
    with report_errors():
        from tagmask.cli.train_all import MctFormerChoice, train_all
        from tagmask.cli.train_steps import MCTFORMER, pseudo_settings, seed_options, validation_of

        words, by_mctformer = require_words(read_words(word), None), seeds is SeedMaker.mctformer
        failed = train_all(
            images,
            out,
            seed_options(
                words,
                background=background_words(background, False),
                method=MCTFORMER if by_mctformer else method,
                refine=refine,
                tags_file=tags_file,
                threshold=threshold,
                truth=truth,
                model=out / "mctformer" if by_mctformer else None,
                device=device,
            ),
            pseudo_settings(scales, flip, crf),
            mctformer=MctFormerChoice(mctformer, mctformer_changes or []) if by_mctformer else None,
            weights=weights,
            activation=activation,
            weakclip=config,
            student=student_config,
            changes=changes or [],
            student_changes=student_changes or [],
            validation=validation_of(val, val_data, val_every, val_images),
            device=device,
            precision=precision,
        )
    raise typer.Exit(1 if failed else 0)
