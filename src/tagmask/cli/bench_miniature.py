"""`tagmask bench miniature`: measure on drawn scenes and print Markdown tables."""

import time
from collections.abc import Sequence
from pathlib import Path

import typer

from tagmask.bench.miniature.ground_truth import scenes
from tagmask.bench.miniature.printed import PRINTED, printed_names
from tagmask.bench.miniature.run import measure_setups
from tagmask.checks import check_choice
from tagmask.cli.console import message
from tagmask.clip.load import Clip
from tagmask.files import write_bytes

__all__ = ["bench_miniature"]


def bench_miniature(clip: Clip, count: int, names: Sequence[str] = (), pictures: Path | None = None) -> None:
    """Print the tables as Markdown, and write an SVG of each to `pictures`.

    Raises:
        InputError: a table's name is unknown.
    """
    start = time.monotonic()
    for name in names:
        check_choice("table", name, printed_names())
    parts = [part for part in PRINTED if not names or part.name in names]
    measured = measure_setups(clip, scenes(count), [setup for part in parts for setup in part.setups])
    for part in parts:
        typer.echo(f"### {part.title}\n")
        for line in part.lines(clip, measured):
            typer.echo(line)
        if pictures is not None and part.picture is not None:
            write_bytes(pictures / f"miniature-{part.name}.svg", part.picture(measured).encode())
    message(f"{count} scenes, {(time.monotonic() - start) / 60:.1f} minutes")
