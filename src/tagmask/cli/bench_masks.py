"""`tagmask bench masks`: score a folder of masks, and write it for PASCAL VOC's server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import typer

from tagmask import __version__
from tagmask.bench.folder_scores import MaskFiles, find_masks, score_masks
from tagmask.bench.metrics import Average
from tagmask.bench.pages import RunReport, headline, write_pages
from tagmask.bench.protocol import METRICS, Scoring
from tagmask.bench.submission import Submission
from tagmask.cli.bench_runs import roots_of
from tagmask.cli.bench_submission import write_submission
from tagmask.cli.console import message, show, with_progress
from tagmask.data.catalogue import entry, open_dataset, split_of
from tagmask.data.sample import Dataset
from tagmask.errors import InputError

__all__ = ["MaskRequest", "score_mask_folder"]

_SHOWN = 5
"""Missing or surplus masks that a message names."""


@dataclass(frozen=True, kw_only=True)
class MaskRequest:
    """The options of `tagmask bench masks`."""

    folder: Path
    dataset: str
    data: Sequence[str]
    split: str | None
    average: str
    workers: int
    submission: Path | None
    competition: str
    out: Path | None


def score_mask_folder(request: MaskRequest) -> bool:
    """Print the scores, and write what was asked for. Returns whether the masks do not cover the data set.

    Raises:
        InputError: options, a data set or masks that cannot be used.
    """
    split = split_of(request.dataset, request.split)
    scoring = Scoring(average=cast(Average, request.average))
    submission = None
    if request.submission is not None:
        submission = Submission(request.submission, request.dataset, split, request.competition)
    roots = roots_of(request.data)
    root = roots.get(request.dataset, roots.get(None, Path()))
    dataset = open_dataset(request.dataset, root, split)
    if not dataset.classes:
        raise InputError(f"{request.dataset} {split} has tags only. Give a data set with masks.")
    found = find_masks(request.folder, dataset)
    _name_some(f"of {len(dataset.samples)} images have no mask", list(found.missing))
    _name_some(f"masks are of no image of {request.dataset} {split}", list(found.surplus))
    partial = False
    if dataset.labelled or submission is None:
        partial = _scored(request, split, scoring, dataset, found)
    if submission is not None:
        write_submission(submission, found, dataset)
    return partial


def _scored(request: MaskRequest, split: str, scoring: Scoring, dataset: Dataset, found: MaskFiles) -> bool:
    summary = score_masks(
        found,
        dataset,
        scoring,
        images=entry(request.dataset).splits.get(split),
        workers=request.workers,
        watch=lambda outcomes: with_progress(outcomes, len(found.files)),
    )
    report = RunReport(
        name=str(request.folder),
        data=f"{request.dataset} {split}",
        protocol=scoring,
        summary=summary,
        comparisons=(),
        about={
            "masks": str(request.folder),
            "surplus masks": list(found.surplus),
            "recorded": {"tagmask": __version__},
        },
    )
    show(headline(report))
    for name, score in summary.scores.items():
        if name not in METRICS:
            typer.echo(f"  {name} {score:.2f}")
    if request.out is not None:
        write_pages(request.out, report)
        message(f"written to {request.out}")
    return bool(summary.partial)


def _name_some(what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        message(f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{more}")
