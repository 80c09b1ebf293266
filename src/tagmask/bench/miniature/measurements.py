"""Scores and confusion counts of tagging and segmentation setups, per scene, for the bootstrap.

Setups that differ only in their method share one forward pass up to the last block, and tags are predicted
once for all setups that use them.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Int
from numpy import ndarray

from tagmask.api import Segmenter, Tagger
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.ground_truth import objects_only, present, word_classes
from tagmask.bench.miniature.setups import (
    Counts,
    MaskSetup,
    Scores,
    TagSetup,
    mask_recipe_of,
    tag_recipe_of,
)
from tagmask.bench.miniature.tagclip_scores import tagclip_scores
from tagmask.catalogue import dense_rule, method
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.dense.prompts import text_features
from tagmask.dense.rule import SecondPassContext, patch_cosines
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, Scene
from tagmask.papers import tagclip

__all__ = ["mask_counts", "tag_scores"]

Key = TypeVar("Key")
Result = TypeVar("Result")


def tag_scores(clip: Clip, scenes: Sequence[Scene], setups: Mapping[Key, TagSetup]) -> dict[Key, Scores]:
    """Compute the scores of every setup, in parallel on all CPU cores.

    TagCLIP's setups share one forward pass through the whole images.
    """
    sharing = tuple(key for key, setup in setups.items() if setup.is_tagclip and setup.has_own_words)
    tasks: dict[tuple[Key, ...], list[Callable[[], Sequence[Scores]]]] = {
        (key,): [
            _task(_scores, clip, part, setup)
            for _, part in ([(0, scenes)] if setup.adapted else _chunks(scenes))
        ]
        for key, setup in setups.items()
        if key not in sharing
    }
    if sharing:
        chosen = [setups[key] for key in sharing]
        tasks[sharing] = [_task(tagclip_scores, clip, part, chosen, start) for start, part in _chunks(scenes)]
    return {
        key: np.concatenate([part[i] for part in parts])
        for keys, parts in _run_parallel(tasks).items()
        for i, key in enumerate(keys)
    }


def mask_counts(
    clip: Clip, scenes: Sequence[Scene], setups: Mapping[Key, MaskSetup], tags: Sequence[Sequence[int]] = ()
) -> dict[Key, Counts]:
    """Compute the confusion counts of every setup: the background and the 24 object classes.

    Args:
        clip: the weights to measure.
        scenes: test scenes.
        setups: by any key.
        tags: TagCLIP's tags of each scene, for dense setups restricted to them.
    """
    true_tags = [np.flatnonzero(row).tolist() for row in present(scenes)]
    groups: dict[tuple[object, ...], list[Key]] = {}
    for key, setup in setups.items():
        separate = setup.method == "cls-seg" or _changes_rule(setup)
        words = (setup.names, setup.background)
        group = (setup.settings, setup.tags, setup.tagger, words, key if separate else None)
        groups.setdefault(group, []).append(key)
    tasks = {}
    for keys in groups.values():
        chosen = [setups[key] for key in keys]
        candidates: Sequence[Sequence[int] | None] = [None] * len(scenes)
        if chosen[0].tags == "true":
            candidates = true_tags
        elif chosen[0].tags == "found" and chosen[0].method != "cls-seg":  # CLS-SEG predicts its own tags
            candidates = tags
        tasks[tuple(keys)] = [
            _task(_counts, clip, part, chosen, candidates[start : start + len(part)])
            for start, part in _chunks(scenes)
        ]
    results = _run_parallel(tasks)
    return {
        key: np.concatenate([part[i] for part in parts])
        for keys, parts in results.items()
        for i, key in enumerate(keys)
    }


# -- One chunk of scenes -------------------------------------------------------------------------------------


def _scores(clip: Clip, scenes: Sequence[Scene], setup: TagSetup) -> list[Scores]:
    if setup.patches is not None:
        return [_best_patches(clip, scenes, setup.patches)]
    background = "auto" if setup.background == "auto" else None
    tagger = Tagger(clip, recipe=tag_recipe_of(setup), background=background)
    if setup.adapted:
        tagger = tagger.adapt(scene.image for scene in scenes)
    return [np.stack([tagger(scene.image).scores[: len(CLASS_NAMES)] for scene in scenes])]


@torch.inference_mode()
def _best_patches(clip: Clip, scenes: Sequence[Scene], name: str) -> Scores:
    """Maximum over patches of each class's softmax (background words included); TagCLIP's preprocessing."""
    recipe = tag_recipe_of(TagSetup())
    settings = cast(tagclip.TagclipSettings, recipe.variant)
    texts = text_features(clip, (*CLASS_NAMES, *BACKGROUND_NAMES), recipe.templates)
    rule = dense_rule(name, len(clip.vision.blocks))
    rows = []
    for scene in scenes:
        pixels = tagclip.preprocess_bicubic(clip, scene.image, settings)[None]
        tower = extract_features(clip.vision, pixels, bilinear_half, capture=rule.capture)
        cosines = patch_cosines(tower, rule, SecondPassContext(pixels, texts, clip.logit_scale))[0]
        best = torch.softmax(clip.logit_scale * cosines, dim=0).amax(dim=1)
        rows.append(best[: len(CLASS_NAMES)].cpu().numpy())
    return np.stack(rows)


def _counts(
    clip: Clip, scenes: Sequence[Scene], setups: Sequence[MaskSetup], tags: Sequence[Sequence[int] | None]
) -> list[Counts]:
    methods = [setup.method for setup in setups]
    background = "auto" if setups[0].background == "auto" else None
    segmenter = Segmenter(clip, recipe=mask_recipe_of(setups[0]), background=background)
    many = setups[0].names == "many"
    classes = 1 + len(CLASS_NAMES)
    rows: list[list[Int[ndarray, "k p"]]] = [[] for _ in setups]
    for scene, candidates in zip(scenes, tags, strict=True):
        if len(setups) > 1:
            labels = [seg.labels for seg in segmenter.compare(scene.image, methods, tags=candidates).values()]
        else:
            labels = [segmenter(scene.image, tags=candidates).labels]
        for row, predicted in zip(rows, labels, strict=True):
            matrix = ConfusionMatrix(classes + many)
            found = word_classes(scene)[predicted] if many else predicted
            matrix.update(found, objects_only(scene.labels))
            row.append(matrix.matrix[:classes])
    return [np.stack(row) for row in rows]


def _changes_rule(setup: MaskSetup) -> bool:
    """Whether the setup overrides settings of its method, so that it cannot share a comparison of methods."""
    method_settings = {setting.name for setting in fields(method(setup.method, "masks").settings)}
    return bool(method_settings & dict(setup.settings).keys())


# -- In parallel ---------------------------------------------------------------------------------------------

_CHUNK = 25


def _chunks(scenes: Sequence[Scene]) -> list[tuple[int, Sequence[Scene]]]:
    return [(start, scenes[start : start + _CHUNK]) for start in range(0, len(scenes), _CHUNK)]


def _task(do: Callable[..., Result], *arguments: Any) -> Callable[[], Result]:  # noqa: ANN401
    return lambda: do(*arguments)


def _run_parallel(tasks: Mapping[Key, Iterable[Callable[[], Result]]]) -> dict[Key, list[Result]]:
    """Run each task on one thread: the model is too small to gain from threads within one operation."""
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = {key: [pool.submit(task) for task in parts] for key, parts in tasks.items()}
        return {key: [future.result() for future in futures] for key, futures in running.items()}
