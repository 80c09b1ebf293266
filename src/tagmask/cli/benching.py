"""What `tagmask bench miniature` measures and prints."""

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
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
    # Rows side by side, each on one thread: the model is small, and threads would only wait for each other.
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        tags = {row: pool.submit(tags_row, clip, unseen, row) for row in TAG_ROWS}
        masks = {row: pool.submit(masks_row, clip, unseen, way) for row, way in MASK_ROWS.items()}
        parts = {row: pool.submit(ablation_row, clip, unseen, some) for row, some in ABLATION.items()}
        yield ""
        yield f"| tags, {count} scenes | mAP |"
        yield "|---|---|"
        for row, precision in tags.items():
            yield f"| {row} | {precision.result():.1f} |"
        yield ""
        yield f"| masks, {count} scenes | mIoU, classes and background | mIoU, classes and 10 backgrounds |"
        yield "|---|---|---|"
        for row, measured in masks.items():
            mask = measured.result()
            yield f"| {row} | {mask.miou:.1f} | {'' if mask.stuff is None else f'{mask.stuff:.1f}'} |"
        yield ""
        yield f"| what finds the tags, {count} scenes | mAP | precision | recall | mIoU of CLS-SEG's masks |"
        yield "|---|---|---|---|---|"
        for row, measured_part in parts.items():
            part = measured_part.result()
            yield (
                f"| {row} | {part.average_precision:.1f} | {part.precision:.0f} % | {part.recall:.0f} % "
                f"| {part.miou:.1f} |"
            )
    yield ""
    yield from _by_class({row: masks[row].result() for row in _BY_CLASS})


def _by_class(rows: Mapping[str, MaskRow]) -> Iterator[str]:
    yield f"| IoU | {' | '.join(rows)} |"
    yield f"|---|{'---|' * len(rows)}"
    for word in next(iter(rows.values())).classes:
        yield f"| {word} | {' | '.join(f'{row.classes[word]:.0f}' for row in rows.values())} |"


_BY_CLASS = ("MaskCLIP", "SCLIP", "SCLIP + PAMR", "SCLIP, only tags", "CLS-SEG", "CLS-SEG + CRF")
"""Rows that are also shown class by class."""
