"""`tagmask weights`: what is known by name, what is here, what weights say of themselves."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tagmask.cli.console import report_errors

if TYPE_CHECKING:
    from tagmask.clip.inspection import Inspection

__all__ = ["weights_app"]

weights_app = typer.Typer(
    no_args_is_help=True, help="Names, downloads, and what a file or folder of weights is."
)

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
    here: Annotated[bool, typer.Option("--here", help="Only what is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a name, no table.")] = False,
) -> None:
    """List the known names, their activation, and where on this machine they are."""
    with report_errors():
        from tagmask.clip.names import KNOWN
        from tagmask.clip.sources import cached

        for entry in KNOWN.values():
            found = cached(entry.name)
            if here and found is None:
                continue
            path = None if found is None else str(found.path)
            if as_json:
                said = {"name": entry.name, "activation": entry.activation, "mean": entry.mean}
                typer.echo(json.dumps({**said, "std": entry.std, "repos": entry.repos, "path": path}))
            else:
                typer.echo(f"{entry.name:<36}{entry.activation:<11}{path or '-'}")


@weights_app.command()
def get(names: Names) -> None:
    """Bring weights onto this machine, and print where they are.

    Known names of OpenAI's go to ~/.cache/clip, all others to the Hugging Face hub's cache (HF_HOME). What is
    there already is not downloaded again; what stopped half way goes on from there.
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
                    f"There is no file or folder {path}. See `tagmask weights list` for all names."
                )
            typer.echo(str(path))


@weights_app.command()
def check(names: Names) -> None:
    """Read weights whole, say what they are, and compare them with what is known of them.

    Exit code 1 if any cannot be used or is not what its name says. Nothing is downloaded.
    """
    failed = 0
    with report_errors():
        from tagmask.clip.inspection import inspect_weights
        from tagmask.errors import WeightsError

        for name in names:
            typer.echo(name)
            try:
                faults = _show(inspect_weights(name))
            except WeightsError as error:
                faults = (str(error),)
            for fault in faults:
                typer.echo(f"! {fault}")
            failed += bool(faults)
    raise typer.Exit(1 if failed else 0)


def _show(found: "Inspection") -> tuple[str, ...]:
    """Print an inspection, and give its faults."""
    shape, resolved_metadata = found.geometry, found.resolved_metadata
    more = f" and {len(found.files) - 1} more" if len(found.files) > 1 else ""
    activation = [one.by for one in found.claims if one.activation] or ["assumed: nothing says it"]
    numbers = [one.by for one in found.claims if one.mean] or ["assumed: nothing says them"]
    side = shape.grid * shape.patch
    rows = {
        "files": f"{found.files[0]}{more} ({found.size / 1e6:.0f} MB)",
        "format": found.format,
        "sha256": found.sha256 + (" (as published)" if found.published else ""),
        "images": f"{side} x {side} pixels, patches of {shape.patch}, {shape.vision_layers} layers of width "
        f"{shape.vision_width}",
        "texts": f"{shape.text_layers} layers of width {shape.text_width}",
        "activation": f"{resolved_metadata.activation} ({', '.join(activation)})",
        "mean, std": f"{_triple(resolved_metadata.mean)}; {_triple(resolved_metadata.std)} ({', '.join(numbers)})",
    }
    for key, value in rows.items():
        typer.echo(f"  {key:<12}{value}")
    return found.faults


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
