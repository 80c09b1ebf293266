"""The commands of `tagmask bench`: they parse options, call the library and set exit codes."""

from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.arguments import load_weights
from tagmask.cli.console import report_errors
from tagmask.cli.help import App, Group
from tagmask.cli.options import (
    ActivationOption,
    AsOption,
    Device,
    Precision,
    PrecisionOption,
    Refine,
    Weights,
)

__all__ = ["bench_app"]


class _RecipeFirst(Group):
    """`tagmask bench METHOD/DATASET` is short for `tagmask bench run METHOD/DATASET`."""

    def parse_args(self, ctx: object, args: list[str]) -> list[str]:
        """Insert `run` if the first argument is a recipe."""
        is_recipe = bool(args) and "/" in args[0] and not args[0].startswith("-")
        return super().parse_args(ctx, ["run", *args] if is_recipe else args)


bench_app = App(cls=_RecipeFirst, help="Reproduce the papers' tables, and measure on drawn scenes.")

Data = Annotated[
    list[str],
    typer.Option(
        metavar="[NAME=]ROOT",
        help="Folder of the data set in its published layout. Use NAME=ROOT for several data sets.",
        show_default=False,
    ),
]
DataOrNone = Annotated[
    list[str] | None,
    typer.Option(metavar="[NAME=]ROOT", help="Folder of the data set in its published layout."),
]
SubmissionOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.tar", help="Also write the masks as PASCAL VOC's evaluation server takes them."
    ),
]
CompetitionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Of the submission: comp6 (any training data), comp5 (VOC's own alone)."
    ),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Output folder; each run gets a subfolder.")
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        "--model",
        metavar="DIR|FILE",
        help="Trained network that weakclip/... and student/... recipes score: the folder of its "
        "training, or a model file.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(help="Use only the first N images.", metavar="N", min=1)]
Workers = Annotated[
    int, typer.Option(help="Images processed at once. Does not change results.", metavar="N", min=1)
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from existing results.")]


@bench_app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(help="A recipe from `bench list`, such as sclip/voc21.", metavar="RECIPE")
    ],
    data: Data,
    model: Models = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Override a field of the recipe; may be repeated."),
    ] = None,
    refine: Annotated[
        Refine | None,
        typer.Option(metavar="NAME", help="Refine masks: none, pamr, tlp or crf. Default: the recipe's."),
    ] = None,
    as_: AsOption = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Data set with the same classes, instead of the recipe's."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Split, instead of the one that papers use.")
    ] = None,
    limit: Limit = None,
    workers: Workers = 1,
    resume: Resume = False,
    submission: SubmissionOption = None,
    competition: CompetitionOption = "comp6",
    out: Out = Path("results"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.float32,
) -> None:
    """Run one table row and compare the result with the paper's.

    Writes JSON, Markdown and a plot. Results are saved per image, so --resume
    continues an interrupted run and gives the same result. Results that do not
    cover the whole data set are marked as partial.
    """
    with report_errors():
        from tagmask.bench.trained import read_model_file
        from tagmask.cli.bench_runs import Bench, Request, roots_of, run_one

        request = Request.of(recipe, settings, refine, as_ and as_.value, dataset, split)
        bench = Bench(
            clip=cache(lambda: load_weights(weights, activation, device, precision)),
            models=[read_model_file(path) for path in model or ()],
            device=device,
            precision=precision.value,
            roots=roots_of(data),
            out=out,
            limit=limit,
            workers=workers,
            resume=resume,
            submission=submission,
            competition=competition,
        )
        failed = run_one(bench, request)
    raise typer.Exit(1 if failed else 0)


@bench_app.command()
def masks(
    folder: Annotated[
        Path, typer.Argument(help="Folder of index PNGs, or of a run.", metavar="DIR", show_default=False)
    ],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="A data set of `tagmask data list`.")],
    data: DataOrNone = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its split. Default: the one that papers report on."),
    ] = None,
    average: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Classes in the mean: in the ground truth or the masks (union), or in the ground "
            "truth (truth).",
        ),
    ] = "union",
    workers: Workers = 1,
    submission: SubmissionOption = None,
    competition: CompetitionOption = "comp6",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Also write the results here.")
    ] = None,
) -> None:
    """Score a folder of masks, whoever wrote them.

    Masks are named after the images. Images without a mask and masks without an
    image are named; masks of the wrong size are refused.
    """
    with report_errors():
        from tagmask.cli.bench_masks import MaskRequest, score_mask_folder

        request = MaskRequest(
            folder=folder,
            dataset=dataset,
            data=data or (),
            split=split,
            average=average,
            workers=workers,
            submission=submission,
            competition=competition,
            out=out,
        )
        partial = score_mask_folder(request)
    raise typer.Exit(1 if partial else 0)


@bench_app.command()
def table(
    name: Annotated[
        str, typer.Argument(help="A table from `bench list`, such as tagclip-4.", metavar="NAME")
    ],
    data: Data,
    model: Models = None,
    weights: Weights = None,
    activation: ActivationOption = None,
    limit: Limit = None,
    workers: Workers = 1,
    resume: Resume = False,
    out: Out = Path("results"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.float32,
) -> None:
    """Run all runnable rows of a table and compare them with the paper's."""
    with report_errors():
        from tagmask.bench.catalogue import table as table_by_name
        from tagmask.bench.trained import read_model_file
        from tagmask.cli.bench_runs import Bench, roots_of, run_table

        rows = table_by_name(name)
        bench = Bench(
            clip=cache(lambda: load_weights(weights, activation, device, precision)),
            models=[read_model_file(path) for path in model or ()],
            device=device,
            precision=precision.value,
            roots=roots_of(data),
            out=out,
            limit=limit,
            workers=workers,
            resume=resume,
        )
        failed = run_table(bench, rows)
    raise typer.Exit(1 if failed else 0)


@bench_app.command("list")
def list_(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Name of a table, row, column or recipe; may contain * and ?.", metavar="PATTERN"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per figure.")] = False,
) -> None:
    """List the papers' figures, their sources and the commands to run."""
    with report_errors():
        from tagmask.cli.bench_lists import show_figures

        show_figures(pattern, as_json=as_json)


@bench_app.command()
def cost(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Name of a table, row, column or recipe; may contain * and ?.", metavar="PATTERN"
        ),
    ] = "sclip-4",
    size: Annotated[str, typer.Option(metavar="HxW", help="Size of the image, in pixels.")] = "375x500",
) -> None:
    """Count what dense rows compute: windows, tokens, GMAC and GFLOP.

    For ViT-B/16, from the sizes alone: neither weights nor data are needed. Counted
    are the matrix products of the image tower and of the cosines, and beside them
    what --refine pamr and --refine tlp would add. (crf depends on the image.)
    """
    with report_errors():
        from tagmask.cli.bench_cost import parse_size, show_costs

        show_costs(pattern, parse_size(size))


@bench_app.command()
def tags(
    predicted: Annotated[
        Path,
        typer.Argument(
            help="File of tags. Lines: IMAGE INDEX INDEX ... (tag --format paper).", metavar="TAGS"
        ),
    ],
    truth: Annotated[
        Path, typer.Argument(help="File of ground-truth tags, in the same format.", metavar="TRUTH")
    ],
    classes: Annotated[int, typer.Option(metavar="N", help="Number of classes.", min=1)],
    raw_coco_stuff: Annotated[
        bool, typer.Option("--raw-coco-stuff", help="TRUTH uses COCO-Stuff's raw ids, 0 to 181.")
    ] = False,
) -> None:
    """Score a file of tags: precision, recall and F1."""
    with report_errors():
        from tagmask.cli.bench_lists import show_tag_scores

        partial = show_tag_scores(predicted, truth, classes, raw_coco_stuff=raw_coco_stuff)
    raise typer.Exit(1 if partial else 0)


@bench_app.command()
def miniature(
    scenes: Annotated[int, typer.Option(metavar="N", help="Number of unseen scenes.", min=1)] = 100,
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run only this table; may be repeated.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each table as an SVG to this folder.")
    ] = None,
    weights: Annotated[str, typer.Option(metavar="PATH", help="Weights to measure.")] = "miniature",
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """Run the papers' tables on drawn scenes (docs/miniature.md)."""
    with report_errors():
        from tagmask.cli.bench_miniature import bench_miniature

        bench_miniature(load_weights(weights, None, device, precision), scenes, table or (), pictures)
