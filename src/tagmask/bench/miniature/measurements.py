"""What a way of tagging or masking answers on each scene, as counts and scores that can be drawn again.

Ways that differ in their method only share one pass through the blocks before the last, and tags are found
once for all ways that look for them.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float32, Int
from numpy import ndarray

from tagmask.api import Segmenter, Tagger
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.miniature.ground_truth import objects_only, present
from tagmask.catalogue import dense_rule, method
from tagmask.clip.load import Clip
from tagmask.dense.features import extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.dense.prompts import text_features
from tagmask.dense.rule import SecondPassContext, patch_cosines
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, Scene
from tagmask.papers import tagclip
from tagmask.resolve import tag_recipe
from tagmask.settings.presets.own_words import own_tag_first, own_tags

__all__ = ["Counts", "MaskSetup", "Scores", "Settings", "TagSetup", "mask_counts", "tag_scores"]

Counts = Int[ndarray, "n k k"]
"""For each scene: pixels by true class and answer."""

Scores = Float32[ndarray, "n c"]
"""For each scene: of each class of objects."""

Key = TypeVar("Key")
Found = TypeVar("Found")


Settings = tuple[tuple[str, Any], ...]
"""Names and values; pairs, not a mapping, so that ways can be keys."""


@dataclass(frozen=True)
class TagSetup:
    """One way of tagging."""

    settings: Settings = ()
    """Of the `Tagger`."""
    patches: str | None = None
    """Instead: the best patch of each class under this dense method, no refinement."""


@dataclass(frozen=True)
class MaskSetup:
    """One way of masking."""

    method: str = "sclip"
    settings: Settings = ()
    """Of the `Segmenter`; those of one method's rule included."""
    tags: str | None = None
    """None: every word competes. "found": those that TagCLIP finds. "true": those that are there."""
    tagger: Settings = ()
    """Of the tagger, for "found"."""
    names: str = "one"
    """What it is asked for. "one": each class by its name; "four": by four, itself and in three colours;
    "uneven": every other class by four names, the rest by one."""


def tag_scores(clip: Clip, found: Sequence[Scene], ways: Mapping[Key, TagSetup]) -> dict[Key, Scores]:
    """Scores of every way, side by side on the machine's cores."""
    works = {key: [_work(_scores, clip, part, way) for part in _parts(found)] for key, way in ways.items()}
    return {key: np.concatenate(parts) for key, parts in _together(works).items()}


def mask_counts(
    clip: Clip, found: Sequence[Scene], ways: Mapping[Key, MaskSetup], tags: Sequence[Sequence[int]] = ()
) -> dict[Key, Counts]:
    """Confusion counts of every way: the background and the 24 classes of objects.

    Args:
        clip: the weights to measure.
        found: scenes.
        ways: by any key.
        tags: what TagCLIP found in each scene; for ways that compare words with pixels, among these.
    """
    told = [np.flatnonzero(row).tolist() for row in present(found)]
    groups: dict[tuple[object, ...], list[Key]] = {}
    for key, way in ways.items():
        alone = way.method == "cls-seg" or _changes_rule(way)
        same = (way.settings, way.tags, way.tagger, way.names, key if alone else None)
        groups.setdefault(same, []).append(key)
    works = {}
    for keys in groups.values():
        chosen = [ways[key] for key in keys]
        lists: Sequence[Sequence[int] | None] = [None] * len(found)
        if chosen[0].tags == "true":
            lists = told
        elif chosen[0].tags == "found" and chosen[0].method != "cls-seg":  # which finds its own
            lists = tags
        works[tuple(keys)] = [
            _work(_counts, clip, part, chosen, lists[start : start + len(part)])
            for start, part in _placed(found)
        ]
    together = _together(works)
    return {
        key: np.concatenate([part[i] for part in parts])
        for keys, parts in together.items()
        for i, key in enumerate(keys)
    }


# -- One part of the scenes ----------------------------------------------------------------------------------


def _scores(clip: Clip, found: Sequence[Scene], way: TagSetup) -> Scores:
    if way.patches is not None:
        return _best_patches(clip, found, way.patches)
    tagger = Tagger(clip, CLASS_NAMES, background=BACKGROUND_NAMES, **dict(way.settings))
    return np.stack([tagger(scene.image).scores for scene in found])


@torch.inference_mode()
def _best_patches(clip: Clip, found: Sequence[Scene], name: str) -> Scores:
    """The greatest softmax over words, background words included, of any patch; images as TagCLIP's."""
    recipe = own_tags(CLASS_NAMES, BACKGROUND_NAMES)
    settings = cast(tagclip.TagclipSettings, recipe.variant)
    texts = text_features(clip, (*CLASS_NAMES, *BACKGROUND_NAMES), recipe.templates)
    rule = dense_rule(name, len(clip.vision.blocks))
    rows = []
    for scene in found:
        pixels = tagclip.preprocess_bicubic(clip, scene.image, settings)[None]
        tower = extract_features(clip.vision, pixels, bilinear_half, capture=rule.capture)
        cosines = patch_cosines(tower, rule, SecondPassContext(pixels, texts, clip.logit_scale))[0]
        best = torch.softmax(clip.logit_scale * cosines, dim=0).amax(dim=1)
        rows.append(best[: len(CLASS_NAMES)].cpu().numpy())
    return np.stack(rows)


def _counts(
    clip: Clip, found: Sequence[Scene], ways: Sequence[MaskSetup], tags: Sequence[Sequence[int] | None]
) -> list[Counts]:
    methods = [way.method for way in ways]
    segmenter = _segmenter(clip, ways[0])
    rows: list[list[Int[ndarray, "k k"]]] = [[] for _ in ways]
    for scene, known in zip(found, tags, strict=True):
        if len(ways) > 1:
            labels = [seg.labels for seg in segmenter.compare(scene.image, methods, tags=known).values()]
        else:
            labels = [segmenter(scene.image, tags=known).labels]
        for row, answer in zip(rows, labels, strict=True):
            matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
            matrix.update(answer, objects_only(scene.labels))
            row.append(matrix.matrix)
    return [np.stack(row) for row in rows]


def _segmenter(clip: Clip, way: MaskSetup) -> Segmenter:
    settings = dict(way.settings)
    if way.method == "cls-seg":
        tagger = tag_recipe(own_tags(CLASS_NAMES, BACKGROUND_NAMES), overrides=dict(way.tagger))
        recipe = replace(own_tag_first(CLASS_NAMES, BACKGROUND_NAMES), tagger=tagger)
        return Segmenter(clip, recipe=recipe, **settings)
    words = [_line(word, way.names, i) for i, word in enumerate(CLASS_NAMES)]
    return Segmenter(clip, words, background=BACKGROUND_NAMES, method=way.method, **settings)


def _line(word: str, names: str, i: int) -> str:
    many = names == "four" or (names == "uneven" and i % 2 == 0)
    return ", ".join([word, *(f"{colour} {word}" for colour in ("red", "blue", "green"))]) if many else word


def _changes_rule(way: MaskSetup) -> bool:
    """Whether its numbers are its method's own, which a comparison of methods would set."""
    own = {setting.name for setting in fields(method(way.method, "masks").settings)}
    return bool(own & dict(way.settings).keys())


# -- Side by side --------------------------------------------------------------------------------------------

_SCENES_A_WORK = 25


def _placed(found: Sequence[Scene]) -> list[tuple[int, Sequence[Scene]]]:
    return [(start, found[start : start + _SCENES_A_WORK]) for start in range(0, len(found), _SCENES_A_WORK)]


def _parts(found: Sequence[Scene]) -> list[Sequence[Scene]]:
    return [part for _, part in _placed(found)]


def _work(do: Callable[..., Found], *arguments: Any) -> Callable[[], Found]:  # noqa: ANN401
    return lambda: do(*arguments)


def _together(works: Mapping[Key, Iterable[Callable[[], Found]]]) -> dict[Key, list[Found]]:
    """Each on one thread: the model is small, and threads of one product would only wait for each other."""
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = {key: [pool.submit(work) for work in parts] for key, parts in works.items()}
        return {key: [future.result() for future in futures] for key, futures in running.items()}
