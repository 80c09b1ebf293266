"""Measure all tables."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from tagmask.bench.miniature.bootstrap import bootstrap_samples, mean_ap, miou
from tagmask.bench.miniature.ground_truth import present
from tagmask.bench.miniature.measurements import Counts, MaskSetup, Scores, TagSetup, mask_counts, tag_scores
from tagmask.bench.miniature.page import MeasuredTable
from tagmask.bench.miniature.tables import MASK_TABLES, TAG_TABLES, Table
from tagmask.bench.tag_metrics import f1_of_decisions
from tagmask.clip.load import Clip
from tagmask.miniature.scenes import Scene
from tagmask.pipelines.thresholding import choose_tags

__all__ = ["Measurements", "Threshold", "class_iou", "measure", "table_names", "tables", "thresholds"]

TAU = 0.5
"""Of the scores' range, over which a class is taken as present: TagCLIP's."""


@dataclass(frozen=True, eq=False)
class Measurements:
    """Answers of every way that a set of tables asks for, by the way."""

    tables: tuple[Table, ...]
    scenes: Sequence[Scene]
    scores: dict[TagSetup, Scores]
    counts: dict[MaskSetup, Counts]


def table_names() -> tuple[str, ...]:
    """Names of all tables."""
    return tuple(table.name for table in (*TAG_TABLES, *MASK_TABLES))


def measure(clip: Clip, found: Sequence[Scene], names: Sequence[str] = ()) -> Measurements:
    """Every table, or those called `names`; ways that several tables ask for are measured once."""
    asked = [table for table in (*TAG_TABLES, *MASK_TABLES) if not names or table.name in names]
    ways = [row.way for table in asked for row in table.rows]
    tag_ways = dict.fromkeys(way for way in ways if isinstance(way, TagSetup))
    mask_ways = dict.fromkeys(way for way in ways if isinstance(way, MaskSetup))
    usual = TagSetup()
    needed = any(way.tags == "found" for way in mask_ways)
    if needed:
        tag_ways[usual] = None
    scores = tag_scores(clip, found, {way: way for way in tag_ways})
    tags = [choose_tags(row, TAU) for row in scores[usual]] if needed else []
    counts = mask_counts(clip, found, {way: way for way in mask_ways}, tags)
    return Measurements(tuple(asked), found, scores, counts)


def tables(of: Measurements) -> Iterator[MeasuredTable]:
    """Each table with its figures."""
    drawn, truth = bootstrap_samples(len(of.scenes)), present(of.scenes)
    for table in of.tables:
        ours: list[Float[ndarray, " r"]] = []
        for row in table.rows:
            way = row.way
            masks = isinstance(way, MaskSetup)
            ours.append(
                miou(of.counts[way], drawn)
                if isinstance(way, MaskSetup)
                else mean_ap(of.scores[way], truth, drawn)
            )
        yield MeasuredTable(table, "mIoU" if masks else "mAP", tuple(ours))


@dataclass(frozen=True)
class Threshold:
    """What a cut at a share of each scene's range of scores takes."""

    tau: float
    precision: float
    recall: float
    f1: float
    tags: float
    """A scene."""


def thresholds(scores: Scores, found: Sequence[Scene]) -> Iterator[Threshold]:
    """TagCLIP's figure on the threshold: precision, recall and F1 over all decisions."""
    truth = present(found)
    for tau in np.arange(0.1, 1.0, 0.1):
        chosen = np.zeros_like(truth)
        for row, each in zip(chosen, scores, strict=True):
            row[list(choose_tags(each, float(tau)))] = True
        overall = f1_of_decisions(chosen, truth).overall
        yield Threshold(float(tau), overall.precision, overall.recall, overall.f1, chosen.sum() / len(found))


def class_iou(counts: Counts) -> Float[ndarray, " c"]:
    """Of each class, percent."""
    total = counts.sum(axis=0).astype(np.float64)
    right = total.diagonal()
    with np.errstate(invalid="ignore"):  # a class that is nowhere has none
        iou: Float[ndarray, " c"] = 100 * right / (total.sum(axis=0) + total.sum(axis=1) - right)
    return iou
