"""`tagmask bench miniature`: measure on drawn scenes and print Markdown tables."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import typer
from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.ground_truth import scenes, zero_shot
from tagmask.bench.miniature.line_chart import lines_svg
from tagmask.bench.miniature.page import markdown, svg
from tagmask.bench.miniature.rows import Table
from tagmask.bench.miniature.run import (
    Measurements,
    changes,
    class_iou,
    measure,
    table_names,
    tables,
    thresholds,
)
from tagmask.bench.miniature.setups import MaskSetup, TagSetup
from tagmask.bench.miniature.tables import CRF, PAMR
from tagmask.bench.miniature.tagclip_tables import PRINTED
from tagmask.checks import check_choice
from tagmask.cli.console import message
from tagmask.clip.load import Clip
from tagmask.files import write_bytes
from tagmask.miniature.scenes import CLASS_NAMES

__all__ = ["bench_miniature"]

_OBJECTS = 300
"""Number of single objects in the first table."""
_BY_CLASS: Mapping[str, MaskSetup] = {
    "MaskCLIP": MaskSetup("maskclip"),
    "SCLIP": MaskSetup("sclip"),
    "SCLIP + PAMR": MaskSetup("sclip", PAMR),
    "SCLIP, only tags": MaskSetup("sclip", tags="found"),
    "CLS-SEG": MaskSetup("cls-seg", tags="found"),
    "CLS-SEG + CRF": MaskSetup("cls-seg", CRF, tags="found"),
}
"""Rows of the per-class table."""


def bench_miniature(clip: Clip, count: int, names: Sequence[str] = (), pictures: Path | None = None) -> None:
    """Print the tables as Markdown, and write an SVG of each to `pictures`.

    Raises:
        InputError: a table's name is unknown.
    """
    start = time.monotonic()
    for name in names:
        check_choice("table", name, table_names())
    if not names:
        for line in _zero_shot_table(clip):
            typer.echo(line)
    results = measure(clip, scenes(count), names)
    for measured in tables(results):
        for line in markdown(measured):
            typer.echo(line)
        if pictures is not None:
            draw = lines_svg if measured.table.axis else svg
            write_bytes(pictures / f"miniature-{measured.table.name}.svg", draw(measured).encode())
        if measured.table.name == PRINTED:
            for line in _changes(measured.table, results):
                typer.echo(line)
    if TagSetup() in results.scores:
        typer.echo("### TagCLIP's threshold, as a fraction of the score range of a scene\n")
        typer.echo("| threshold | precision | recall | F1 | tags per scene |\n|---|---|---|---|---|")
        for at in thresholds(results.scores[TagSetup()], results.scenes):
            typer.echo(
                f"| {at.tau:.1f} | {at.precision:.1%} | {at.recall:.1%} | {at.f1:.1%} | {at.tags:.2f} |"
            )
        typer.echo("")
    iou = {
        row: class_iou(results.counts[setup]) for row, setup in _BY_CLASS.items() if setup in results.counts
    }
    if len(iou) > 1:
        for line in _by_class(iou):
            typer.echo(line)
    message(f"{count} scenes, {(time.monotonic() - start) / 60:.1f} minutes")


def _zero_shot_table(clip: Clip) -> Iterator[str]:
    accuracy = zero_shot(clip, _OBJECTS)
    yield "### Zero-shot classification of one object by the class token\n"
    yield "| | accuracy | objects |"
    yield "|---|---|---|"
    yield f"| all | {accuracy.everything:.1%} | {accuracy.count} |"
    yield f"| in a colour unseen in training | {accuracy.unseen_pairs:.1%} | {accuracy.pairs} |"
    yield f"| in a drawing style unseen in training | {accuracy.unseen_styles:.1%} | {accuracy.styles} |"
    yield f"| colour and name together (of 264) | {accuracy.colour_and_name:.1%} | {accuracy.count} |"
    yield ""


def _changes(table: Table, results: Measurements) -> Iterator[str]:
    """How far each row's scores and tags are from those as coded, with and without CWR."""
    yield "| compared with TagCLIP as coded | greatest change of a score, mean | maximum | other tags in |"
    yield "|---|---|---|---|"
    references = {False: TagSetup(), True: TagSetup((("cwr", False),))}
    for row in table.rows:
        setup = row.setup
        if not isinstance(setup, TagSetup) or setup in references.values():
            continue
        reference = references[("cwr", False) in setup.settings]
        change = changes(results.scores[setup], results.scores[reference])
        yield f"| {row.label} | {change.mean:.3f} | {change.greatest:.3f} | {change.tags:.0%} of scenes |"
    yield ""


def _by_class(rows: Mapping[str, Float[ndarray, " c"]]) -> Iterator[str]:
    yield "### IoU per class\n"
    yield f"| IoU | {' | '.join(rows)} |"
    yield f"|---|{'---|' * len(rows)}"
    for c, word in enumerate(("background", *CLASS_NAMES)):
        yield f"| {word} | {' | '.join(f'{row[c]:.0f}' for row in rows.values())} |"
