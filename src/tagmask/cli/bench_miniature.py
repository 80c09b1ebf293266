"""What `tagmask bench miniature` measures and prints."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import typer
from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.ground_truth import scenes, zero_shot
from tagmask.bench.miniature.measurements import MaskSetup, TagSetup
from tagmask.bench.miniature.page import markdown, svg
from tagmask.bench.miniature.run import class_iou, measure, table_names, tables, thresholds
from tagmask.bench.miniature.tables import CRF, PAMR
from tagmask.checks import check_choice
from tagmask.cli.console import message
from tagmask.clip.load import Clip
from tagmask.files import write_bytes
from tagmask.miniature.scenes import CLASS_NAMES

__all__ = ["bench_miniature"]

_SINGLE = 300
"""Single objects asked for in the first table."""
_BY_CLASS: Mapping[str, MaskSetup] = {
    "MaskCLIP": MaskSetup("maskclip"),
    "SCLIP": MaskSetup("sclip"),
    "SCLIP + PAMR": MaskSetup("sclip", PAMR),
    "SCLIP, only tags": MaskSetup("sclip", tags="found"),
    "CLS-SEG": MaskSetup("cls-seg", tags="found"),
    "CLS-SEG + CRF": MaskSetup("cls-seg", CRF, tags="found"),
}
"""Rows that are also shown class by class."""


def bench_miniature(clip: Clip, count: int, names: Sequence[str] = (), pictures: Path | None = None) -> None:
    """Print the tables as Markdown; write a picture of each into `pictures`."""
    began = time.monotonic()
    for name in names:
        check_choice("table", name, table_names())
    if not names:
        for line in _named(clip):
            typer.echo(line)
    found = measure(clip, scenes(count), names)
    for measured in tables(found):
        for line in markdown(measured):
            typer.echo(line)
        if pictures is not None:
            write_bytes(pictures / f"miniature-{measured.table.name}.svg", svg(measured).encode())
    if TagSetup() in found.scores:
        typer.echo("### TagCLIP's threshold, a share of the range of a scene's scores\n")
        typer.echo("| threshold | precision | recall | F1 | tags a scene |\n|---|---|---|---|---|")
        for at in thresholds(found.scores[TagSetup()], found.scenes):
            typer.echo(
                f"| {at.tau:.1f} | {at.precision:.1%} | {at.recall:.1%} | {at.f1:.1%} | {at.tags:.2f} |"
            )
        typer.echo("")
    held = {row: class_iou(found.counts[way]) for row, way in _BY_CLASS.items() if way in found.counts}
    if len(held) > 1:
        for line in _by_class(held):
            typer.echo(line)
    message(f"{count} scenes, {(time.monotonic() - began) / 60:.1f} minutes")


def _named(clip: Clip) -> Iterator[str]:
    found = zero_shot(clip, _SINGLE)
    yield "### One object, named by the class token\n"
    yield "| | right | objects |"
    yield "|---|---|---|"
    yield f"| all | {found.everything:.1%} | {found.count} |"
    yield f"| in a colour it was never shown in | {found.unseen_pairs:.1%} | {found.pairs} |"
    yield f"| drawn in a way it was never shown in | {found.unseen_styles:.1%} | {found.styles} |"
    yield f"| colour and name together (of 264) | {found.colour_and_name:.1%} | {found.count} |"
    yield ""


def _by_class(rows: Mapping[str, Float[ndarray, " c"]]) -> Iterator[str]:
    yield "### Class by class\n"
    yield f"| IoU | {' | '.join(rows)} |"
    yield f"|---|{'---|' * len(rows)}"
    for c, word in enumerate(("background", *CLASS_NAMES)):
        yield f"| {word} | {' | '.join(f'{row[c]:.0f}' for row in rows.values())} |"
