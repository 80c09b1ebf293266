"""The options of `tagmask train all`."""

from enum import StrEnum
from typing import Annotated

import typer

from tagmask.cli.arguments import background_words, read_templates, read_words, require_words
from tagmask.cli.console import report_errors
from tagmask.cli.options import (
    ActivationOption,
    Background,
    Device,
    Precision,
    PrecisionOption,
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
    Folder,
    Method,
    MinConfidence,
    Out,
    Scales,
    TagsFile,
    Threshold,
    Truth,
)

__all__ = ["everything"]


class SeedMaker(StrEnum):
    """What makes the seeds of `train all`."""

    clip = "clip"
    mctformer = "mctformer"


def everything(
    images: Folder,
    out: Out,
    word: Words = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    method: Method = "cls-seg",
    refine: Annotated[
        Refine | None, typer.Option(metavar="NAME", help="Refine seeds: none, pamr, tlp or crf.")
    ] = None,
    min_confidence: MinConfidence = None,
    background: Background = None,
    templates: Templates = None,
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
    scales: Scales = SCALES,
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
                min_confidence=min_confidence,
                templates=read_templates(templates),
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
