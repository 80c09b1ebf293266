"""The commands of `tagmask train`, one per step: they parse options, call the library and set exit codes."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import background_words, load_weights, read_templates, read_words, require_words
from tagmask.cli.console import report_errors
from tagmask.cli.help import App
from tagmask.cli.options import (
    ActivationOption,
    Background,
    Device,
    HeadOption,
    Paths,
    Precision,
    PrecisionOption,
    RecipeName,
    Refine,
    Templates,
    Val,
    ValData,
    ValEvery,
    ValImages,
    Weights,
    Words,
)
from tagmask.cli.train_options import (
    SCALES,
    Changes,
    Crf,
    Flip,
    Images,
    MinConfidence,
    Out,
    OutOrNone,
    Scales,
    TagsFile,
    Threshold,
    Truth,
)

__all__ = ["train_app"]

train_app = App(help="Train a segmenter from words: seeds, WeakCLIP, pseudo-masks, student.")


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
        Refine | None, typer.Option(metavar="NAME", help="Refine masks: none, pamr, tlp or crf.")
    ] = None,
    min_confidence: MinConfidence = None,
    background: Background = None,
    templates: Templates = None,
    head: HeadOption = None,
    tags_file: TagsFile = None,
    save_cams: Annotated[
        bool,
        typer.Option(
            "--save-cams", help="Also write CLIP-ES's activation maps, to OUT/cams, for --cams and others."
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder of `tagmask train mctformer`, for its maps."),
    ] = None,
    affinity: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|cda",
            help="Output folder of `tagmask train affinity`, to refine these maps; or cda, as in "
            "`tagmask mask`.",
        ),
    ] = None,
    cams: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Use activation maps instead of CLIP: NAME.npz, or NAME.npy as MCTformer's or CLIP-ES's.",
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
            min_confidence=min_confidence,
            save_cams=save_cams,
            templates=read_templates(templates),
            head=head,
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
    scales: Scales = SCALES,
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
