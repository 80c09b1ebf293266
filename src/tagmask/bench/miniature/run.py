"""Measure the tables."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.bootstrap import bootstrap_samples, mean_ap, miou
from tagmask.bench.miniature.ground_truth import present
from tagmask.bench.miniature.measurements import mask_counts, tag_scores
from tagmask.bench.miniature.page import MeasuredTable
from tagmask.bench.miniature.rows import Table
from tagmask.bench.miniature.setups import Counts, MaskSetup, Scores, Setup, TagSetup
from tagmask.bench.miniature.tables import MASK_TABLES, TAG_TABLES
from tagmask.bench.tag_metrics import f1_of_decisions
from tagmask.clip.load import Clip
from tagmask.miniature.scenes import Scene
from tagmask.pipelines.thresholding import choose_tags

__all__ = [
    "Change",
    "Measurements",
    "Threshold",
    "bootstrap_values",
    "changes",
    "class_iou",
    "measure",
    "measure_setups",
    "measured_table",
    "table_names",
    "tables",
    "thresholds",
]

TAU = 0.5
"""TagCLIP's threshold, as a share of the range of a scene's scores."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Scores and counts of every setup in a set of tables, by setup."""

    tables: tuple[Table, ...]
    scenes: Sequence[Scene]
    scores: dict[TagSetup, Scores]
    counts: dict[MaskSetup, Counts]


def table_names() -> tuple[str, ...]:
    """Return the names of all tables."""
    return tuple(table.name for table in (*TAG_TABLES, *MASK_TABLES))


def measure(clip: Clip, scenes: Sequence[Scene], names: Sequence[str] = ()) -> Measurements:
    """Measure all tables, or those called `names`; a setup that several tables share is measured once."""
    selected = tuple(table for table in (*TAG_TABLES, *MASK_TABLES) if not names or table.name in names)
    setups = [row.setup for table in selected for row in table.rows]
    return replace(measure_setups(clip, scenes, setups), tables=selected)


def measure_setups(
    clip: Clip, scenes: Sequence[Scene], setups: Iterable[Setup], known: Measurements | None = None
) -> Measurements:
    """Measure setups, and TagCLIP's tags where a setup needs them.

    Args:
        clip: the weights to measure.
        scenes: test scenes.
        setups: in any order, also repeated.
        known: measurements of the same weights and scenes; what is in them is not measured again.
    """
    known = known or Measurements((), scenes, {}, {})
    setups = list(setups)
    mask_setups = {each: each for each in setups if isinstance(each, MaskSetup) and each not in known.counts}
    default = TagSetup()
    needed = any(setup.tags == "found" for setup in mask_setups)
    wanted = [*(each for each in setups if isinstance(each, TagSetup)), *([default] if needed else [])]
    tag_setups = {each: each for each in wanted if each not in known.scores}
    scores = {**known.scores, **tag_scores(clip, scenes, tag_setups)}
    tags = [choose_tags(row, TAU) for row in scores[default]] if needed else []
    counts = {**known.counts, **mask_counts(clip, scenes, mask_setups, tags)}
    return Measurements((), scenes, scores, counts)


def tables(measured: Measurements) -> Iterator[MeasuredTable]:
    """Yield each table with its measured values."""
    for table in measured.tables:
        yield measured_table(measured, table)


def measured_table(measured: Measurements, table: Table) -> MeasuredTable:
    """Return one table with its measured values."""
    unit = "mIoU" if isinstance(table.rows[0].setup, MaskSetup) else "mAP"
    return MeasuredTable(table, unit, tuple(bootstrap_values(measured, row.setup) for row in table.rows))


def bootstrap_values(measured: Measurements, setup: Setup) -> Float[ndarray, " r"]:
    """Return a setup's mIoU or mAP in percent: over all scenes, then over each bootstrap sample."""
    drawn = bootstrap_samples(len(measured.scenes))
    if isinstance(setup, MaskSetup):
        return miou(measured.counts[setup], drawn)
    return mean_ap(measured.scores[setup], present(measured.scenes), drawn)


@dataclass(frozen=True)
class Threshold:
    """Tagging quality at a threshold `tau`, as a share of the range of each scene's scores."""

    tau: float
    precision: float
    recall: float
    f1: float
    tags: float
    """Chosen tags per scene."""


def thresholds(scores: Scores, scenes: Sequence[Scene]) -> Iterator[Threshold]:
    """Sweep TagCLIP's threshold from 0.1 to 0.9: precision, recall and F1 over all decisions."""
    truth = present(scenes)
    for tau in np.arange(0.1, 1.0, 0.1):
        chosen = np.zeros_like(truth)
        for row, each in zip(chosen, scores, strict=True):
            row[list(choose_tags(each, float(tau)))] = True
        overall = f1_of_decisions(chosen, truth).overall
        yield Threshold(float(tau), overall.precision, overall.recall, overall.f1, chosen.sum() / len(scenes))


@dataclass(frozen=True)
class Change:
    """How a setup's scores differ from another's."""

    mean: float
    """Mean over the scenes of the greatest difference of a class's score."""
    greatest: float
    """The greatest difference in any scene."""
    tags: float
    """Share of scenes with other tags."""


def changes(scores: Scores, reference: Scores) -> Change:
    """Compare the scores of two setups, and the tags that TagCLIP's threshold chooses from them."""
    differences = np.abs(scores - reference).max(axis=1)
    other = [
        choose_tags(row, TAU) != choose_tags(base, TAU) for row, base in zip(scores, reference, strict=True)
    ]
    return Change(float(differences.mean()), float(differences.max()), float(np.mean(other)))


def class_iou(counts: Counts) -> Float[ndarray, " c"]:
    """IoU of each class, in percent."""
    total = counts.sum(axis=0).astype(np.float64)
    correct = total.diagonal()
    with np.errstate(invalid="ignore"):  # a class in no ground truth or prediction gives NaN
        iou: Float[ndarray, " c"] = 100 * correct / (total.sum(axis=0) + total.sum(axis=1) - correct)
    return iou
