"""The commands that read run folders: `tagmask merge` and `tagmask export`."""

from pathlib import Path
from typing import Annotated

import typer

from tagmask.cli.console import message, print_path, report_errors
from tagmask.cli.options import Regions
from tagmask.errors import InputError

__all__ = ["export", "merge"]

_FORMATS = (
    "coco, coco-panoptic, yolo, voc, cvat, label-studio, labelme, folder, hf, csv, report; "
    "several as in coco,csv"
)


def merge(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, such as shards.", metavar="RUN...", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A new run folder for all their images.")
    ],
) -> None:
    """Join runs of the same words, weights and settings into one run folder.

    The runs stay as they are. An image that several of them hold is taken
    once; if its results differ, nothing is written.
    """
    with report_errors():
        from tagmask.runs.merge import merge_runs

        report = merge_runs(runs, out)
        repeated = f", {report.repeated} of them in several runs" if report.repeated else ""
        message(f"{report.images} images from {len(runs)} runs{repeated}.")
        print_path(out)


_RUNS, _REGIONS, _PHOTOS, _STUDENTS = "Runs", "Regions", "Photos", "Students"


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A run folder, or a trained student file.", metavar="SOURCE", show_default=False),
    ],
    onnx: Annotated[
        Path | None,
        typer.Argument(help="The ONNX file of a student.", metavar="OUT.onnx", show_default=False),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FORMATS", help=f"{_FORMATS}.", rich_help_panel=_RUNS),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder to write to. Default: the run's own.",
            rich_help_panel=_RUNS,
        ),
    ] = None,
    corrected_only: Annotated[
        bool,
        typer.Option("--corrected-only", help="Only images with a corrected mask.", rich_help_panel=_RUNS),
    ] = False,
    accepted_only: Annotated[
        bool,
        typer.Option(
            "--accepted-only", help="Only images that were accepted or corrected.", rich_help_panel=_RUNS
        ),
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Only images with at least this confidence, 0..1; corrected ones always.",
            rich_help_panel=_RUNS,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="SPLITS",
            help="As in train=0.8,val=0.2. An image keeps its split when others come.",
            rich_help_panel=_RUNS,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Changes the split.", min=0, rich_help_panel=_RUNS)
    ] = 0,
    regions: Annotated[
        Regions | None,
        typer.Option(
            metavar="KIND",
            help="class: one region per class; component: one per connected part.",
            rich_help_panel=_REGIONS,
        ),
    ] = None,
    min_area: Annotated[
        int,
        typer.Option(metavar="PIXELS", help="Leave out smaller regions.", min=1, rich_help_panel=_REGIONS),
    ] = 1,
    polygons: Annotated[
        bool,
        typer.Option("--polygons", help="coco: polygons, not run lengths.", rich_help_panel=_REGIONS),
    ] = False,
    parquet: Annotated[
        bool,
        typer.Option("--parquet", help="hf: Parquet shards, not files.", rich_help_panel=_PHOTOS),
    ] = False,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy the photos.", rich_help_panel=_PHOTOS)
    ] = False,
    link_images: Annotated[
        bool, typer.Option("--link-images", help="Link to the photos.", rich_help_panel=_PHOTOS)
    ] = False,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Leave the photos where they are.", rich_help_panel=_PHOTOS)
    ] = False,
    image_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="label-studio: where the photos are served. Default: its local files.",
            rich_help_panel=_PHOTOS,
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW",
            help="Fix height and width, as in 512x512. Default: both vary.",
            rich_help_panel=_STUDENTS,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Fix the batch size. Default: it varies.", min=1, rich_help_panel=_STUDENTS
        ),
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="softmax: probabilities of all classes; labels: the best class.",
            rich_help_panel=_STUDENTS,
        ),
    ] = "softmax",
    pixels: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Input format. bytes: uint8 RGB; normalised: float32, normalised by the caller.",
            rich_help_panel=_STUDENTS,
        ),
    ] = "bytes",
    opset: Annotated[
        int, typer.Option(metavar="N", help="ONNX opset version.", min=18, rich_help_panel=_STUDENTS)
    ] = 18,
) -> None:
    """Export a run for other tools, or a trained student to ONNX.

    For a run folder give --to and formats. Corrected masks go before the
    run's own. For a student file give OUT.onnx; the export is checked with
    onnxruntime.
    """
    with report_errors():
        from tagmask.cli.export import export_formats, export_student, read_size
        from tagmask.exporters.options import ExportOptions, parse_splits

        if source.is_dir():
            if onnx is not None or to is None:
                raise InputError(f"{source} is a folder. For a run give --to FORMATS, as in --to coco,csv.")
            if copy_images + link_images + no_images > 1:
                raise InputError("Give one of --copy-images, --link-images and --no-images.")
            options = ExportOptions(
                regions=None if regions is None else regions.value,
                min_area=min_area,
                corrected_only=corrected_only,
                accepted_only=accepted_only,
                min_confidence=min_confidence,
                splits=None if split is None else parse_splits(split),
                seed=seed,
                photos="copy" if copy_images else "link" if link_images else "none" if no_images else None,
                polygons=polygons,
                parquet=parquet,
                image_prefix=image_prefix,
            )
            export_formats(source, to, out, options)
        else:
            if onnx is None or to is not None or out is not None:
                raise InputError(
                    f"{source} is not a folder. For a student give OUT.onnx, without options of runs."
                )
            export_student(source, onnx, read_size(size), batch, output, pixels, opset)
