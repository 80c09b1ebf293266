"""What a few corrected masks are worth, and what a method learns from itself (`tagmask improve`)."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from tagmask.api import Segmenter
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.bootstrap import bootstrap_interval, bootstrap_samples, miou
from tagmask.bench.miniature.ground_truth import objects_only
from tagmask.bench.miniature.setups import MaskSetup, Settings, mask_recipe_of
from tagmask.clip.load import Clip
from tagmask.dense.frozen_windows import FrozenWindows
from tagmask.miniature.evaluation_scenes import unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES, Scene
from tagmask.pipelines.dense import DensePipeline
from tagmask.pipelines.head import Head
from tagmask.pipelines.head_fitting import HeadFitting, fit_to_itself
from tagmask.settings.recipes import MaskRecipe

__all__ = ["CORRECTED", "METHODS", "curve_lines", "self_lines"]

METHODS: dict[str, Settings] = {"sclip": (), "sclip + PAMR": (("pamr_steps", 10),)}
"""Methods that are improved."""
CORRECTED = (0, 1, 2, 5, 10, 20)
"""Numbers of corrected scenes."""
SEEDS = 3
POOL = 60
"""Scenes of a seed that the corrected ones are chosen from."""
FIRST = 500
"""Seed of the first scene to choose from; none is a scene of the other tables."""
TESTED = 50
"""Most test scenes that are masked for each head: the last ones, since settings were chosen on the first."""
LEARNED = 64
"""Most test scenes that a method learns from by itself, as many as `tagmask improve --self` takes."""

_CLASSES = 1 + len(CLASS_NAMES)
_IGNORED = 255
_CHOICES = ("lowest confidence first", "at random")


def _one_thread_each() -> ThreadPoolExecutor:
    """Threads that compute alone: the model is too small to gain from threads within one operation."""
    return ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,))


@dataclass(frozen=True, eq=False)
class _Test:
    """Test scenes with the frozen features of one method, so that each head costs no forward pass."""

    clip: Clip
    recipe: MaskRecipe
    scenes: Sequence[Scene]
    frozen: Sequence[FrozenWindows]

    @classmethod
    def of(cls, clip: Clip, settings: Settings, scenes: Sequence[Scene]) -> "_Test":
        recipe = mask_recipe_of(MaskSetup("sclip", settings))
        assert isinstance(recipe, MaskRecipe)  # a dense method's
        pipeline = DensePipeline(clip, recipe)
        return cls(clip, recipe, scenes, [pipeline.freeze(scene.image) for scene in scenes])

    def miou(self, head: Head | None) -> Float[ndarray, " r"]:
        """Percent: over all scenes, then over each bootstrap sample."""
        pipeline = DensePipeline(self.clip, self.recipe, head=head)
        counts = []
        for scene, frozen in zip(self.scenes, self.frozen, strict=True):
            matrix = ConfusionMatrix(_CLASSES)
            labelled = pipeline.label_frozen(scene.image, frozen, None, _IGNORED, keep_scores=False)
            matrix.update(labelled.labels.astype(np.uint8), objects_only(scene.labels))
            counts.append(matrix.matrix)
        return miou(np.stack(counts), bootstrap_samples(len(counts)))


def curve_lines(
    clip: Clip,
    scenes: Sequence[Scene],
    corrected: Sequence[int] = CORRECTED,
    seeds: int = SEEDS,
    pool: int = POOL,
) -> Iterator[str]:
    """Yield a Markdown table: mIoU on test scenes after so many corrected scenes.

    Corrections are the ground truth. Each seed has scenes of its own to choose from. The error is one
    standard error: of the bootstrap over test scenes, and of the mean over seeds.

    Args:
        clip: the weights to measure.
        scenes: test scenes; the last `TESTED` are used.
        corrected: numbers of corrected scenes, a column each.
        seeds: repetitions.
        pool: scenes to choose from, per seed.
    """
    yield f"| mIoU here, by corrected scenes | {' | '.join(map(str, corrected))} |"
    yield f"|---|{'---|' * len(corrected)}"
    with _one_thread_each() as threads:
        for label, settings in METHODS.items():
            test = threads.submit(_Test.of, clip, settings, scenes[-TESTED:]).result()
            plain = threads.submit(test.miou, None).result()
            curves_of = partial(_curves, test, plain, corrected, pool)
            by_seed = list(threads.map(curves_of, range(seeds)))
            for choice, values in zip(_CHOICES, zip(*by_seed, strict=True), strict=True):
                yield f"| {label}, {choice} | {' | '.join(map(_mean_of_seeds, zip(*values, strict=True)))} |"
    yield ""


def _curves(
    test: _Test, plain: Float[ndarray, " r"], corrected: Sequence[int], pool: int, seed: int
) -> tuple[list[Float[ndarray, " r"]], ...]:
    """One seed's mIoU for each number of corrected scenes, in each way of `_CHOICES`."""
    segmenter, pipeline = Segmenter(test.clip, recipe=test.recipe), DensePipeline(test.clip, test.recipe)
    candidates = [unseen_scene(FIRST + seed * pool + i) for i in range(pool)]
    sure = [segmenter(scene.image, confidence=True).confidence or 0.0 for scene in candidates]
    orders = (np.argsort(sure, kind="stable"), np.random.default_rng(seed).permutation(pool))
    return tuple(
        [
            test.miou(_head(pipeline, [candidates[i] for i in order[:count]])) if count else plain
            for count in corrected
        ]
        for order in orders
    )


def self_lines(clip: Clip, scenes: Sequence[Scene], rounds: Sequence[int] = (0, 1, 2)) -> Iterator[str]:
    """Yield a Markdown table: mIoU on test scenes after rounds of self-training on these scenes.

    Args:
        clip: the weights to measure.
        scenes: test scenes; the last `TESTED` are used, and learned from without their ground truth.
        rounds: a row each, for each method.
    """
    yield "| | mIoU here | agreement with refined masks, on scenes left out |"
    yield "|---|---|---|"
    with _one_thread_each() as threads:
        for label, settings in METHODS.items():
            test = threads.submit(_Test.of, clip, settings, scenes[-TESTED:]).result()
            for count, row in zip(rounds, threads.map(partial(_itself, test), rounds), strict=True):
                yield f"| {label}, {count} round{'s' * (count != 1)} | {row} |"
    yield ""


def _itself(test: _Test, rounds: int) -> str:
    head, agreement = None, ""
    if rounds:
        pipeline = DensePipeline(test.clip, test.recipe)
        fitted = fit_to_itself(pipeline, [scene.image for scene in test.scenes[:LEARNED]], rounds)
        found = fitted.validation
        agreement = f"{100 * found.before:.1f} -> {100 * found.after:.1f}"
        head = fitted.head
        if head.is_zero:
            agreement = "too small a gain: nothing changed"
    values = test.miou(head)
    return f"{values[0]:.1f} ± {bootstrap_interval(values):.1f} | {agreement}"


def _head(pipeline: DensePipeline, corrected: Sequence[Scene]) -> Head:
    fitting = HeadFitting(pipeline, len(corrected))
    for scene in corrected:
        fitting.add(scene.image, objects_only(scene.labels))
    return fitting.fit().head


def _mean_of_seeds(values: Iterable[Float[ndarray, " r"]]) -> str:
    by_seed = np.stack(list(values))
    seeds = by_seed[:, 0].std(ddof=1) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else 0.0
    mean: Float[ndarray, " r"] = by_seed.mean(axis=0)
    return f"{mean[0]:.1f} ± {math.hypot(bootstrap_interval(mean), seeds):.1f}"
