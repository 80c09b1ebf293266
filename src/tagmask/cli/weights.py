"""`tagmask weights`: list, download and check weights."""

from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.console import print_path, report_errors, show
from tagmask.cli.help import App
from tagmask.strict_json import json_text

if TYPE_CHECKING:
    from tagmask.clip.inspection import Inspection

__all__ = ["weights_app"]

weights_app = App(help="List, download and check weights.")

Names = Annotated[
    list[str],
    typer.Argument(
        help="ViT-B-16:openai, hf:OWNER/REPO, or the path of a file or folder.",
        metavar="WEIGHTS",
        show_default=False,
    ),
]


@weights_app.command("list")
def list_(
    here: Annotated[bool, typer.Option("--here", help="List only weights on this machine.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per name instead of a table.")
    ] = False,
) -> None:
    """List known weights, their activation and their local path."""
    with report_errors():
        from tagmask.clip.names import KNOWN
        from tagmask.clip.sources import cached

        for entry in KNOWN.values():
            source = cached(entry.name)
            if here and source is None:
                continue
            path = None if source is None else str(source.path)
            if as_json:
                record = {
                    "name": entry.name,
                    "activation": entry.activation,
                    "mean": entry.mean,
                    "std": entry.std,
                    "repos": entry.repos,
                    "path": path,
                }
                typer.echo(json_text(record))
            else:
                show(f"{entry.name:<36}{entry.activation:<11}{path or '-'}")


@weights_app.command()
def get(names: Names) -> None:
    """Download weights and print their path.

    OpenAI's weights go to ~/.cache/clip, all others to the Hugging Face cache
    (HF_HOME). Existing files are not downloaded again. An interrupted download
    resumes.
    """
    with report_errors():
        from tagmask.cli.downloads import download_progress
        from tagmask.clip.sources import find
        from tagmask.errors import WeightsError

        for name in names:
            with download_progress() as progress:
                path = find(name, progress).path
            if not path.exists():
                raise WeightsError(
                    f"There is no file or folder {path}. See `tagmask weights list` for the known names."
                )
            print_path(path)


@weights_app.command()
def check(names: Names) -> None:
    """Read weights completely and compare them with the published ones.

    Exit code 1 if any are unusable or differ from what their name says.
    Nothing is downloaded.
    """
    failed = 0
    with report_errors():
        from tagmask.clip.inspection import inspect_weights
        from tagmask.errors import WeightsError

        for name in names:
            show(name)
            try:
                faults = _print_inspection(inspect_weights(name))
            except WeightsError as error:
                faults = (error.in_one_line,)
            for fault in faults:
                show(f"! {fault}")
            failed += bool(faults)
    raise typer.Exit(1 if failed else 0)


def _print_inspection(inspection: "Inspection") -> tuple[str, ...]:
    """Print an inspection and return its faults."""
    shape, metadata = inspection.geometry, inspection.resolved_metadata
    more = f" and {len(inspection.files) - 1} more" if len(inspection.files) > 1 else ""
    activation_sources = [claim.by for claim in inspection.claims if claim.activation] or ["assumed"]
    mean_sources = [claim.by for claim in inspection.claims if claim.mean] or ["assumed"]
    side = shape.grid * shape.patch
    rows = {
        "files": f"{inspection.files[0]}{more} ({inspection.size / 1e6:.0f} MB)",
        "format": inspection.format,
        "sha256": inspection.sha256 + (" (as published)" if inspection.published else ""),
        "images": f"{side} x {side} pixels, patches of {shape.patch}, {shape.vision_layers} layers of width "
        f"{shape.vision_width}",
        "texts": f"{shape.text_layers} layers of width {shape.text_width}",
        "activation": f"{metadata.activation} ({', '.join(activation_sources)})",
        "mean, std": f"{_triple(metadata.mean)}; {_triple(metadata.std)} ({', '.join(mean_sources)})",
    }
    for key, value in rows.items():
        show(f"  {key:<12}{value}")
    return inspection.faults


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
