"""From the results of single images to the number of a run, and whether it is the whole number."""

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
from tagmask.bench.journal import Record, read_journal
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.protocol import Protocol
from tagmask.bench.tag_metrics import AP_RULES, average_precision, f1_of_decisions, mean_average_precision
from tagmask.data.sample import Dataset, Sample
from tagmask.errors import InputError

__all__ = ["FAILURES", "Failure", "Summary", "summarise"]

FAILURES: Mapping[str, str] = MappingProxyType(
    {
        "image": "unreadable image",
        "mask": "missing or unreadable mask",
        "size": "mask of another size",
        "labels": "mask with unknown labels",
        "tags": "tags not known",
        "memory": "out of memory",
        "method": "refused by the method",
    }
)


@dataclass(frozen=True)
class Failure:
    """One image that is not in the number."""

    id: str
    kind: str
    """One of `FAILURES`."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run found. All scores in percent; NaN where there is nothing to score."""

    scores: Mapping[str, float]
    """Every score that these results give, by name; those of `protocol.METRICS` first."""
    classes: Mapping[str, float]
    """IoU or average precision of each class."""
    scored: int
    asked: int
    failures: tuple[Failure, ...]
    partial: tuple[str, ...]
    """Why the number is not that of the whole set; empty where it is."""


def summarise(
    journal: Path,
    protocol: Protocol,
    dataset: Dataset,
    *,
    limit: int | None = None,
    images: int | None = None,
) -> Summary:
    """The number of a run, from its file of results.

    Args:
        journal: the results.
        protocol: how to score them.
        dataset: what they are results of.
        limit: only the first so many images were asked for.
        images: how many images the papers' list has, where that is known.

    Raises:
        InputError: a damaged file, or one that holds an image twice or one of another data set.
    """
    asked = list(islice(dataset.samples, limit))
    known = {sample.id: i for i, sample in enumerate(dataset.samples)}
    failures: dict[str, Failure] = {}
    counter = _Tags(dataset) if protocol.tags else _Masks(dataset, protocol)
    seen: set[str] = set()
    for record in read_journal(journal):
        if record.id in seen or record.id not in known:
            what = "twice" if record.id in seen else f"which is not in {dataset.name}"
            raise InputError(f"{journal} holds {record.id!r} {what}; remove it and run anew")
        seen.add(record.id)
        if known[record.id] >= len(asked):
            continue
        if record.failed is not None:
            failures[record.id] = Failure(record.id, record.failed, record.reason or "")
        else:
            counter.add(record, asked[known[record.id]], known[record.id])
    scores, classes = counter.result()
    return Summary(
        scores=scores,
        classes=classes,
        scored=counter.count,
        asked=len(asked),
        failures=tuple(failures[sample.id] for sample in asked if sample.id in failures),
        partial=_partial(counter.count, len(asked), len(dataset.samples), images, failures.values()),
    )


def _partial(
    scored: int, asked: int, there: int, images: int | None, failures: Collection[Failure]
) -> tuple[str, ...]:
    reasons = []
    kinds = Counter(failure.kind for failure in failures)
    if kinds:
        named = ", ".join(f"{count} {FAILURES.get(kind, kind)}" for kind, count in kinds.items())
        reasons.append(f"{len(failures)} of {asked} images failed: {named}")
    if missing := asked - scored - len(failures):
        reasons.append(f"{missing} of {asked} images were not looked at")
    if asked < there:
        reasons.append(f"the first {asked} of {there} images were asked for")
    if images is not None and there != images:
        reasons.append(f"the data set has {there} images and the papers' list {images}")
    return tuple(reasons)


class _Masks:
    """Counted pixels of all images; never a mask."""

    def __init__(self, dataset: Dataset, protocol: Protocol) -> None:
        self.count = 0
        self._protocol, self._names = protocol, dataset.classes
        self._matrix = ConfusionMatrix(len(dataset.classes), dataset.ignore)

    def add(self, record: Record, sample: Sample, place: int) -> None:
        if record.pixels is None:
            raise InputError(f"the results of {record.id!r} are no counts of pixels; remove the file")
        self._matrix.add(record.pixels)
        self.count += 1

    def result(self) -> tuple[dict[str, float], dict[str, float]]:
        matrix, names = self._matrix, self._names
        if self._protocol.groups is not None:
            groups = grouping(self._protocol.groups)
            matrix, names = matrix.grouped(groups.members, len(groups.names)), groups.names
        scores = {
            "miou": matrix.miou(self._protocol.average),
            "pixel accuracy": matrix.pixel_accuracy(),
            "mean accuracy": matrix.mean_accuracy(),
        }
        classes = _named(names, matrix.iou().tolist())
        return {name: 100 * score for name, score in scores.items()}, classes


class _Tags:
    """Scores and choices of all images."""

    def __init__(self, dataset: Dataset) -> None:
        self.count = 0
        self._names = dataset.tag_classes
        size = (len(dataset.samples), len(dataset.tag_classes))
        self._scores: Float32[np.ndarray, "i c"] = np.zeros(size, np.float32)
        self._chosen, self._truth, self._unsure = (np.zeros(size, bool) for _ in range(3))
        self._there = np.zeros(size[0], bool)

    def add(self, record: Record, sample: Sample, place: int) -> None:
        if record.scores is None or record.chosen is None or len(record.scores) != len(self._names):
            raise InputError(
                f"the results of {record.id!r} are not {len(self._names)} scores; remove the file"
            )
        # At its place in the set, since the earlier of equal scores ranks first.
        self._there[place] = True
        self._scores[place] = record.scores
        self._chosen[place, list(record.chosen)] = True
        self._truth[place, list(sample.tags or ())] = True
        self._unsure[place, list(sample.unsure)] = True
        self.count += 1

    def result(self) -> tuple[dict[str, float], dict[str, float]]:
        there = self._there
        scores, truth, unsure = self._scores[there], self._truth[there], self._unsure[there]
        if not self.count:
            return dict.fromkeys(("map", "precision", "recall", "f1"), math.nan), _named(
                self._names, [math.nan] * len(self._names)
            )
        overall, per_class, per_image = f1_of_decisions(self._chosen[there], truth, unsure)
        found = {"map": _map(scores, truth, "ranks", unsure)}
        found |= {"precision": overall.precision, "recall": overall.recall, "f1": overall.f1}
        found |= {f"mAP, {r}": _map(scores, truth, r, unsure) for r in AP_RULES if r != "ranks"}
        found |= {"F1 of classes": per_class.f1, "F1 of images": per_image.f1}
        each = average_precision(scores, truth, "ranks", unsure)
        classes = np.where((truth & ~unsure).any(axis=0), each, math.nan).tolist()
        return {name: 100 * score for name, score in found.items()}, _named(self._names, classes)


def _map(
    scores: Float32[np.ndarray, "i c"],
    truth: Bool[np.ndarray, "i c"],
    rule: str,
    unsure: Bool[np.ndarray, "i c"],
) -> float:
    # Of a part of a set some classes are in no image; the papers' lists have all of them.
    return mean_average_precision(scores, truth, rule, unsure, absent="left out")


def _named(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """In percent; a name that two classes have gets its number, so that neither is lost."""
    twice = {name for name, count in Counter(names).items() if count > 1}
    return {
        f"{name} ({i})" if name in twice else name: 100 * value
        for i, (name, value) in enumerate(zip(names, values, strict=True))
    }
