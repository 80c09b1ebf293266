"""What `tagmask bench miniature` measures and prints."""

import time
from collections.abc import Iterator

import typer

from tagmask.bench.miniature import (
    ABLATION,
    MASK_ROWS,
    TAG_ROWS,
    MaskRow,
    ablation_row,
    masks_row,
    scenes,
    tags_row,
    zero_shot,
)
from tagmask.cli.talk import say
from tagmask.clip.load import Clip

__all__ = ["bench_miniature"]


def bench_miniature(clip: Clip, count: int) -> None:
    """Print the tables of the miniature world, as Markdown, row by row."""
    began = time.monotonic()
    for line in _lines(clip, count):
        typer.echo(line)
    say(f"{count} scenes, {(time.monotonic() - began) / 60:.1f} minutes")


def _lines(clip: Clip, count: int) -> Iterator[str]:
    found = zero_shot(clip, count)
    yield "| one object, named by the class token | right | objects |"
    yield "|---|---|---|"
    yield f"| all | {found.everything:.1%} | {found.count} |"
    yield f"| in a colour it was never shown in | {found.unseen_pairs:.1%} | {found.pairs} |"
    yield f"| drawn in a way it was never shown in | {found.unseen_styles:.1%} | {found.styles} |"
    yield f"| colour and name together (of 264) | {found.colour_and_name:.1%} | {found.count} |"
    unseen = scenes(count)
    yield ""
    yield f"| tags, {count} scenes | mAP |"
    yield "|---|---|"
    for row in TAG_ROWS:
        yield f"| {row} | {tags_row(clip, unseen, row):.1f} |"
    yield ""
    yield f"| masks, {count} scenes | mIoU, 24 classes and background | mIoU, 24 classes and 10 backgrounds |"
    yield "|---|---|---|"
    rows: dict[str, MaskRow] = {}
    for row, way in MASK_ROWS.items():
        rows[row] = masks_row(clip, unseen, way)
        stuff = rows[row].stuff
        yield f"| {row} | {rows[row].miou:.1f} | {'' if stuff is None else f'{stuff:.1f}'} |"
    yield ""
    yield f"| what finds the tags, {count} scenes | mAP of tags | mIoU of CLS-SEG's masks |"
    yield "|---|---|---|"
    for row, parts in ABLATION.items():
        precision, miou = ablation_row(clip, unseen, parts)
        yield f"| {row} | {precision:.1f} | {miou:.1f} |"
    yield ""
    shown = {name: row for name, row in rows.items() if name in _BY_CLASS}
    yield f"| IoU | {' | '.join(shown)} |"
    yield f"|---|{'---|' * len(shown)}"
    for word in next(iter(rows.values())).classes:
        yield f"| {word} | {' | '.join(f'{row.classes[word]:.0f}' for row in shown.values())} |"


_BY_CLASS = ("MaskCLIP", "SCLIP", "SCLIP + PAMR", "SCLIP, only tags", "CLS-SEG", "CLS-SEG + CRF")
"""Rows that are also shown class by class."""
