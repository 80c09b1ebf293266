"""Run one benchmark: a model on a data set. All results are written to one folder."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from tagmask import __version__
from tagmask.api import Segmenter, Tagger
from tagmask.bench.journal import Record, open_journal
from tagmask.bench.protocol import Protocol
from tagmask.bench.scoring import evaluate, mask_scorer, tag_scorer
from tagmask.bench.summary import Summary, summarise
from tagmask.clip.load import Clip
from tagmask.data.sample import Dataset
from tagmask.errors import InputError
from tagmask.files import file_hash
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe

__all__ = ["JOURNAL", "Run", "describe_run", "other_weights", "run_benchmark"]

JOURNAL = "images.jsonl"
"""Name of the file of records in a run's folder."""

Watch = Callable[[Iterable[Record], int], Iterable[Record]]
"""Passes records through, for example to show progress."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to measure."""

    protocol: Protocol
    dataset: Dataset
    images: int | None = None
    """Number of images in the papers' list, if known."""
    limit: int | None = None
    """Score only the first `limit` images."""


def run_benchmark(
    clip: Clip, run: Run, folder: Path, *, workers: int = 1, resume: bool = False, watch: Watch | None = None
) -> Summary:
    """Score a data set image by image and return the summary.

    Each record is appended to `folder`/images.jsonl at once. With `resume` an interrupted run continues from
    there; images that failed are tried again.

    Raises:
        InputError: recipe and data set do not match; the folder has results and `resume` is off, or they are
            those of another run.
        OutputError: the folder cannot be written.
    """
    protocol, dataset = run.protocol, run.dataset
    runner = _runner(clip, protocol)
    # Record the recipe that really runs; resolve it before anything is written.
    protocol = replace(protocol, recipe=runner.recipe)
    if isinstance(runner, Tagger):
        score = tag_scorer(runner, dataset)
    else:
        score = mask_scorer(runner, dataset, given_tags=protocol.given_tags)
    with open_journal(folder / JOURNAL, describe_run(clip, protocol, dataset), resume=resume) as journal:
        requested = islice(dataset.samples, run.limit)
        todo = [sample for sample in requested if sample.id not in journal.done]
        records: Iterable[Record] = evaluate(todo, score, workers=workers)
        for record in watch(records, len(todo)) if watch else records:
            journal.write(record)
    return summarise(journal.path, protocol, dataset, limit=run.limit, images=run.images)


def _runner(clip: Clip, protocol: Protocol) -> Tagger | Segmenter:
    if protocol.tags:
        return Tagger(clip, recipe=cast(TagRecipe, protocol.recipe))
    return Segmenter(clip, recipe=cast(MaskRecipe | TagFirstRecipe, protocol.recipe))


def describe_run(clip: Clip, protocol: Protocol, dataset: Dataset) -> Mapping[str, Any]:
    """Return everything the records depend on, by topic; records of runs that differ here are never mixed.

    The data set contributes its name, classes and ids in order. Its files are not hashed: a file that changes
    between two parts of a run goes unnoticed.

    Raises:
        InputError: an id occurs twice in the data set.
    """
    ids = [sample.id for sample in dataset.samples]
    if duplicates := [name for name, count in Counter(ids).items() if count > 1]:
        raise InputError(
            f"{dataset.name} has the id {duplicates[0]!r} twice. Remove one: ids are unique in a data set."
        )
    return {
        "tagmask": __version__,
        "recipe": protocol.recipe.flat(),
        "true tags": protocol.given_tags,
        "weights": {
            "sha256": file_hash(*clip.files),
            "activation": clip.activation,
            "mean": clip.mean,
            "std": clip.std,
            "precision": clip.precision,
            "device": clip.device.type,
        },
        "data set": {
            "name": dataset.name,
            "classes": dataset.tag_classes if protocol.tags else dataset.classes,
            "ignore": dataset.ignore,
            "images": len(ids),
            "ids": hashlib.sha256("\n".join(ids).encode("utf-8", "surrogateescape")).hexdigest(),
        },
    }


def other_weights(clip: Clip) -> str | None:
    """Explain why a run is not comparable with the papers (OpenAI's ViT-B/16); None if it is."""
    shape = clip.geometry
    if (shape.patch, shape.vision_layers, shape.vision_width) == (16, 12, 768):
        return None
    return (
        f"the papers' figures are for ViT-B/16 (12 layers of width 768); these weights have "
        f"{shape.vision_layers} layers of width {shape.vision_width} and patches of {shape.patch}"
    )
