"""Summarise a run: its scores from the rows of single images, and whether it covers the whole data set."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float32

from tagmask.bench.groups import grouping
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.protocol import Protocol, Scoring
from tagmask.bench.tag_metrics import AP_RULES, average_precision, f1_of_decisions, mean_average_precision
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError
from tagmask.runs.names import key_text
from tagmask.runs.reader import Run
from tagmask.runs.rows import ImageRow

__all__ = ["FAILURES", "Failure", "Summary", "mask_scores", "partial_reasons", "summarise"]

FAILURES: Mapping[str, str] = MappingProxyType(
    {
        "image": "unreadable image",
        "mask": "missing or unreadable mask",
        "prediction": "no mask to score",
        "size": "mask of the wrong size",
        "labels": "mask with unknown labels",
        "tags": "image with unknown ground-truth tags",
        "memory": "out of memory",
        "method": "rejected by the method",
        "unexpected": "unexpected error",
    }
)


@dataclass(frozen=True)
class Failure:
    """One image that is not in the score."""

    id: str
    kind: str
    """One of `FAILURES`."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Results of a run. All scores in percent; NaN if there is nothing to score."""

    scores: Mapping[str, float]
    """All scores by name; those of `protocol.METRICS` first."""
    classes: Mapping[str, float]
    """IoU or average precision of each class."""
    scored: int
    requested: int
    failures: tuple[Failure, ...]
    partial: tuple[str, ...]
    """Why the scores do not cover the whole data set; empty if they do."""


def summarise(
    folder: Path,
    protocol: Protocol,
    dataset: Dataset,
    *,
    limit: int | None = None,
    images: int | None = None,
) -> Summary:
    """Summarise a run from its database, row by row.

    Args:
        folder: the run's folder; a producer may be at work in it.
        protocol: how to score them.
        dataset: the data set that was scored.
        limit: number of images requested, from the first; None for all.
        images: number of images in the papers' list, if known.

    Raises:
        InputError: not a run of `bench`, or a row that is damaged or of another data set.
    """
    requested = list(islice(dataset.samples, limit))
    known = {key_text(sample.id): i for i, sample in enumerate(dataset.samples)}
    failures: dict[str, Failure] = {}
    counter = _Tags(dataset) if protocol.tags else _Masks(dataset, protocol)
    with Run(folder) as run:
        if run.kind != "bench":
            raise InputError(f"{folder} holds a run of {run.kind}, not of bench. Give another folder.")
        for row in run:
            index = known.get(row.key)
            if index is None:
                raise InputError(
                    f"{folder} has {row.key!r}, which is not in {dataset.name}. Give that run's data set."
                )
            if index >= len(requested) or row.status == "todo":
                continue
            sample = requested[index]
            if row.status == "failed":
                kind = str((row.record or {}).get("failed", "unexpected"))
                failures[sample.id] = Failure(sample.id, kind, row.error or "")
            else:
                try:
                    counter.add(row, sample, index)
                except InputError:
                    raise
                except (ValueError, TypeError, IndexError, OverflowError) as error:
                    raise InputError(
                        f"The record of {row.key!r} in {folder} is damaged ({error}). Remove the folder and "
                        "run again."
                    ) from error
    scores, classes = counter.result()
    return Summary(
        scores=scores,
        classes=classes,
        scored=counter.count,
        requested=len(requested),
        failures=tuple(failures[sample.id] for sample in requested if sample.id in failures),
        partial=partial_reasons(
            counter.count, len(requested), len(dataset.samples), images, failures.values()
        ),
    )


def partial_reasons(
    scored: int, requested: int, available: int, images: int | None, failures: Collection[Failure]
) -> tuple[str, ...]:
    """Why a score does not cover the papers' whole list; empty if it does.

    Args:
        scored: number of images in the score.
        requested: number of images that were to be scored.
        available: number of images in the data set.
        images: number of images in the papers' list, if known.
        failures: images that could not be scored.
    """
    reasons = []
    kinds = Counter(failure.kind for failure in failures)
    if kinds:
        listed = ", ".join(f"{count} {FAILURES.get(kind, kind)}" for kind, count in kinds.items())
        reasons.append(f"{len(failures)} of {requested} images failed: {listed}")
    if missing := requested - scored - len(failures):
        reasons.append(f"{missing} of {requested} images were not scored")
    if requested < available:
        reasons.append(f"only the first {requested} of {available} images were requested")
    if images is not None and available != images:
        reasons.append(f"the data set has {available} images, the papers' list {images}")
    return tuple(reasons)


class _Masks:
    """Accumulated pixel counts of all images; no mask is kept."""

    def __init__(self, dataset: Dataset, protocol: Scoring) -> None:
        self.count = 0
        self._scoring, self._names = protocol, dataset.classes
        self._matrix = ConfusionMatrix(len(dataset.classes), dataset.ignore)

    def add(self, row: ImageRow, sample: Sample, index: int) -> None:
        pixels = (row.record or {}).get("pixels")
        if pixels is None:
            raise InputError(
                f"The record of {row.key!r} has no pixel counts. Remove the folder and run again."
            )
        self._matrix.add(pixels)
        self.count += 1

    def result(self) -> tuple[dict[str, float], dict[str, float]]:
        return mask_scores(self._matrix, self._names, self._scoring)


def mask_scores(
    matrix: ConfusionMatrix, names: Sequence[str], scoring: Scoring
) -> tuple[dict[str, float], dict[str, float]]:
    """All scores by name, and the IoU of each class by name; in percent.

    Args:
        matrix: counts of all pixels.
        names: of its classes.
        scoring: how to average, and the groups of classes.
    """
    if scoring.groups is not None:
        groups = grouping(scoring.groups)
        matrix, names = matrix.grouped(groups.members, len(groups.names)), groups.names
    scores = {
        "miou": matrix.miou(scoring.average),
        "pixel accuracy": matrix.pixel_accuracy(),
        "mean accuracy": matrix.mean_accuracy(),
    }
    classes = _by_name(names, matrix.iou().tolist())
    return {name: 100 * score for name, score in scores.items()}, classes


class _Tags:
    """Scores and chosen tags of all images."""

    def __init__(self, dataset: Dataset) -> None:
        self.count = 0
        self._names = dataset.tag_classes
        size = (len(dataset.samples), len(dataset.tag_classes))
        self._scores: Float32[np.ndarray, "i c"] = np.zeros(size, np.float32)
        self._chosen, self._truth, self._unsure = (np.zeros(size, bool) for _ in range(3))
        self._scored = np.zeros(size[0], bool)

    def add(self, row: ImageRow, sample: Sample, index: int) -> None:
        record = row.record or {}
        scores, chosen = record.get("scores"), record.get("chosen")
        if scores is None or chosen is None or len(scores) != len(self._names):
            raise InputError(
                f"The record of {row.key!r} lacks its {len(self._names)} scores. "
                "Remove the folder and run again."
            )
        # By index in the data set, since equal scores are ranked by image order.
        self._scored[index] = True
        self._scores[index] = scores
        self._chosen[index, chosen] = True
        self._truth[index, list(sample.tags or ())] = True
        self._unsure[index, list(sample.unsure)] = True
        self.count += 1

    def result(self) -> tuple[dict[str, float], dict[str, float]]:
        scored = self._scored
        scores, truth, unsure = self._scores[scored], self._truth[scored], self._unsure[scored]
        if not self.count:
            return dict.fromkeys(("map", "precision", "recall", "f1"), math.nan), _by_name(
                self._names, [math.nan] * len(self._names)
            )
        overall, per_class, per_image = f1_of_decisions(self._chosen[scored], truth, unsure)
        values = {"map": _map(scores, truth, "ranks", unsure)}
        values |= {"precision": overall.precision, "recall": overall.recall, "f1": overall.f1}
        values |= {f"mAP, {r}": _map(scores, truth, r, unsure) for r in AP_RULES if r != "ranks"}
        values |= {"F1 of classes": per_class.f1, "F1 of images": per_image.f1}
        each = average_precision(scores, truth, "ranks", unsure)
        classes = np.where((truth & ~unsure).any(axis=0), each, math.nan).tolist()
        return {name: 100 * score for name, score in values.items()}, _by_name(self._names, classes)


def _map(
    scores: Float32[np.ndarray, "i c"],
    truth: Bool[np.ndarray, "i c"],
    rule: str,
    unsure: Bool[np.ndarray, "i c"],
) -> float:
    # In a part of a data set some classes may be in no image; the papers' lists have all of them.
    return mean_average_precision(scores, truth, rule, unsure, absent="left out")


def _by_name(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Values in percent by name; duplicate names get the class index, so that none is lost."""
    duplicates = {name for name, count in Counter(names).items() if count > 1}
    return {
        f"{name} ({i})" if name in duplicates else name: 100 * value
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    }
