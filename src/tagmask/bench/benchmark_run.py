"""Run one benchmark: a model on a data set. All results are written to one folder."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import cast

from tagmask import __version__
from tagmask.api import Segmenter, Tagger
from tagmask.bench.pages import PAGES
from tagmask.bench.protocol import Protocol
from tagmask.bench.scoring import failure_kind, mask_scorer, tag_scorer
from tagmask.bench.summary import Summary, summarise
from tagmask.bench.trained import TrainedModel, TrainedRecipe
from tagmask.clip.load import Clip
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError
from tagmask.masks import IndexMap, index_png
from tagmask.runs.classes import Classes
from tagmask.runs.folder import RunFolder
from tagmask.runs.identity import RunIdentity
from tagmask.runs.names import key_text
from tagmask.runs.ownership import claim_output
from tagmask.runs.planning import ImageTask, Plan
from tagmask.runs.producer import Produced, produce
from tagmask.runs.rows import ImageResult
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe

__all__ = ["Run", "Watch", "benchmark_identity", "other_weights", "run_benchmark"]

Watch = Callable[[Iterable[Produced], Plan], Iterable[Produced]]
"""Passes on what becomes of the images of a plan, for example to show progress."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to measure."""

    protocol: Protocol
    dataset: Dataset
    images: int | None = None
    """Number of images in the papers' list, if known."""
    limit: int | None = None
    """Score only the first `limit` images."""
    masks: bool = False
    """Also keep the masks, in the run's folder."""


def run_benchmark(
    model: Clip | TrainedModel,
    run: Run,
    folder: Path,
    *,
    workers: int = 1,
    resume: bool = False,
    watch: Watch | None = None,
) -> Summary:
    """Score a data set image by image and return the summary.

    Each image's record is saved in `folder`/run.db at once. With `resume` an interrupted run continues from
    there; images that failed are tried again.

    Raises:
        InputError: recipe and data set do not match; the folder has results and `resume` is off, or they are
            those of another run, or another process is at work in it.
        OutputError: the folder cannot be written.
        RepeatedFailure: 20 images in a row failed in the same unexpected way.
    """
    protocol, dataset = run.protocol, run.dataset
    runner = _runner(model, protocol)
    # Record the recipe that really runs; resolve it before anything is written.
    protocol = replace(protocol, recipe=runner.recipe)
    kept: list[RunFolder] = []

    def keep(sample: Sample, labels: IndexMap) -> None:
        kept[0].write_mask(key_text(sample.id), index_png(labels))

    if isinstance(runner, Tagger):
        score = tag_scorer(runner, dataset)
    else:
        score = mask_scorer(runner, dataset, given_tags=protocol.given_tags, keep=keep if run.masks else None)
    identity = benchmark_identity(model, protocol, dataset, masks=run.masks)
    classes = Classes(dataset.classes, dataset.ignore) if run.masks else None
    samples = {key_text(sample.id): sample for sample in islice(dataset.samples, run.limit)}

    def work(task: ImageTask) -> ImageResult:
        return ImageResult(record=score(samples[task.key]))

    with RunFolder.open(folder, identity, classes) as run_folder:
        kept.append(run_folder)
        if len(run_folder.database) and not resume:
            raise InputError(f"{folder} already has results of this run. Give --resume to continue.")
        for page in PAGES:
            claim_output(run_folder.path, page)
        plan = run_folder.plan_keys(list(samples))
        produced: Iterable[Produced] = produce(
            run_folder,
            plan,
            work,
            workers=workers,
            failure_record=lambda error: {"failed": failure_kind(error)},
        )
        for _ in watch(produced, plan) if watch else produced:
            pass
    return summarise(folder, protocol, dataset, limit=run.limit, images=run.images)


def _runner(model: Clip | TrainedModel, protocol: Protocol) -> Tagger | Segmenter | TrainedModel:
    if isinstance(model, TrainedModel):
        return model
    if protocol.tags:
        return Tagger(model, recipe=cast(TagRecipe, protocol.recipe))
    return Segmenter(model, recipe=cast(MaskRecipe | TagFirstRecipe, protocol.recipe))


def benchmark_identity(
    model: Clip | TrainedModel, protocol: Protocol, dataset: Dataset, *, masks: bool = False
) -> RunIdentity:
    """Everything the records depend on, by topic; records of runs that differ here are never mixed.

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
    fields: dict[str, object] = {
        "recipe": _deciding(protocol),
        "ground-truth tags": protocol.given_tags,
        "weights": _weights(model),
        "data set": {
            "name": dataset.name,
            "classes": dataset.tag_classes if protocol.tags else dataset.classes,
            "ignore": dataset.ignore,
            "images": len(ids),
            "ids": hashlib.sha256("\n".join(ids).encode("utf-8", "surrogateescape")).hexdigest(),
        },
    }
    if masks:
        fields["masks"] = "kept"
    name = str(model.file.path) if isinstance(model, TrainedModel) else model.name
    metadata = {"tagmask": __version__, "weights": name, "device": str(model.device)}
    return RunIdentity("bench", fields, metadata)


def _deciding(protocol: Protocol) -> Mapping[str, object]:
    recipe = protocol.recipe
    return recipe.flat() if isinstance(recipe, TrainedRecipe) else recipe.deciding()


def _weights(model: Clip | TrainedModel) -> Mapping[str, object]:
    if isinstance(model, TrainedModel):
        return model.identity
    return {
        "sha256": model.fingerprint,
        "activation": model.activation,
        "mean": model.mean,
        "std": model.std,
        "precision": model.precision,
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
