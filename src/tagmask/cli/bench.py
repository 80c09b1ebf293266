"""`tagmask bench ...`: options in, work done elsewhere, exit codes out."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from tagmask.cli.arguments import load_weights
from tagmask.cli.console import report_errors
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


class _RecipeFirst(TyperGroup):
    """`tagmask bench METHOD/DATASET` is short for `tagmask bench run METHOD/DATASET`."""

    def parse_args(self, ctx: object, args: list[str]) -> list[str]:
        """See that a recipe's name is taken for one."""
        named = bool(args) and "/" in args[0] and not args[0].startswith("-")
        # The context's class is another one in each version of typer.
        return super().parse_args(ctx, ["run", *args] if named else args)  # type: ignore[arg-type]


bench_app = typer.Typer(
    cls=_RecipeFirst, no_args_is_help=True, help="Measure: the papers' tables, and worlds with known truth."
)

Data = Annotated[
    list[str],
    typer.Option(
        metavar="[NAME=]ROOT",
        help="Folder of the data set in its published layout; NAME=ROOT for one of several.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for one folder a run.")]
Limit = Annotated[int | None, typer.Option(help="Only the first so many images.", min=1)]
Workers = Annotated[int, typer.Option(help="Images side by side; the numbers are the same.", min=1)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with results that are there.")]


@bench_app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="As `bench list` shows them: sclip/voc21.", metavar="RECIPE")],
    data: Data,
    weights: Weights = None,
    activation: ActivationOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe; repeat it."),
    ] = None,
    refine: Annotated[
        Refine | None, typer.Option(help="Sharpen masks along edges; else as the recipe has it.")
    ] = None,
    as_: AsOption = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another data set than the recipe's, of like classes.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another part of it than the papers'.")
    ] = None,
    limit: Limit = None,
    workers: Workers = 1,
    resume: Resume = False,
    out: Out = Path("results"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.float32,
) -> None:
    """Run one row of a table; prints ours beside the paper's, writes JSON, Markdown and a plot.

    Results are kept image by image: a run that was stopped goes on with --resume, to the same number.
    A number that is not of the whole set says so.
    """
    with report_errors():
        from tagmask.cli.bench_runs import Bench, Request, roots_of, run_one

        request = Request.of(recipe, settings, refine, as_ and as_.value, dataset, split)
        roots = roots_of(data)
        clip = load_weights(weights, activation, device, precision)
        bench = Bench(clip=clip, roots=roots, out=out, limit=limit, workers=workers, resume=resume)
        failed = run_one(bench, request)
    raise typer.Exit(1 if failed else 0)


@bench_app.command()
def table(
    name: Annotated[str, typer.Argument(help="As `bench list` shows them: tagclip-4.", metavar="NAME")],
    data: Data,
    weights: Weights = None,
    activation: ActivationOption = None,
    limit: Limit = None,
    workers: Workers = 1,
    resume: Resume = False,
    out: Out = Path("results"),
    device: Device = "auto",
    precision: PrecisionOption = Precision.float32,
) -> None:
    """Run every row of a table that can be run; prints the table with ours beside the paper's."""
    with report_errors():
        from tagmask.bench.catalogue import table as known
        from tagmask.cli.bench_runs import Bench, roots_of, run_table

        wanted, roots = known(name), roots_of(data)
        clip = load_weights(weights, activation, device, precision)
        bench = Bench(clip=clip, roots=roots, out=out, limit=limit, workers=workers, resume=resume)
        failed = run_table(bench, wanted)
    raise typer.Exit(1 if failed else 0)


@bench_app.command("list")
def list_(
    pattern: Annotated[
        str | None,
        typer.Argument(
            help="Of a table, row, column or recipe; * and ? stand for anything.", metavar="PATTERN"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a figure.")] = False,
) -> None:
    """Show the papers' figures, where each is from, and the command that should give it."""
    with report_errors():
        from tagmask.cli.bench_lists import show_figures

        show_figures(pattern, as_json=as_json)


@bench_app.command()
def tags(
    found: Annotated[
        Path, typer.Argument(help="Tags: lines 'IMAGE INDEX INDEX ...' (tag --format paper).", metavar="TAGS")
    ],
    truth: Annotated[Path, typer.Argument(help="True classes, in the same form.", metavar="TRUTH")],
    classes: Annotated[int, typer.Option(help="How many classes there are.", min=1)],
    raw_coco_stuff: Annotated[
        bool, typer.Option("--raw-coco-stuff", help="TRUTH has COCO-Stuff's raw ids, 0 to 181.")
    ] = False,
) -> None:
    """Score a file of tags against a list of true classes: precision, recall, F1."""
    with report_errors():
        from tagmask.cli.bench_lists import show_tag_scores

        partial = show_tag_scores(found, truth, classes, raw_coco_stuff=raw_coco_stuff)
    raise typer.Exit(1 if partial else 0)


@bench_app.command()
def miniature(
    scenes: Annotated[int, typer.Option(help="How many unseen scenes.", min=1)] = 100,
    table: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this table; may be repeated.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each table as an SVG into this folder.")
    ] = None,
    weights: Annotated[str, typer.Option(metavar="PATH", help="Weights to measure.")] = "miniature",
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
) -> None:
    """The papers' tables in the miniature world (docs/miniature.md), as Markdown."""
    with report_errors():
        from tagmask.cli.bench_miniature import bench_miniature

        bench_miniature(load_weights(weights, None, device, precision), scenes, table or (), pictures)
