"""The rows of the table of speed: what each side does, how many operations it needs, what is to be said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch

import tagmask
from benchmarks.plain import (
    class_names,
    plain_patch_scores,
    plain_sclip,
    plain_tagclip,
    plain_text,
)
from benchmarks.plain_cls_seg import mask_names, plain_cls_seg
from benchmarks.world import EMBED, TEXT, VISION, World, own_home
from tagmask.clip.tokenizer import END, tokenize
from tagmask.dense.prompts import text_features
from tagmask.resolve import tag_recipe
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe

__all__ = ["ROWS", "Row", "Work"]

Work = Callable[[], object]

TEMPLATES = 2
"""Sentences a word in the rows about images, whose text features are not timed."""
PATCHES = 24 * 32
"""Of the image where its sides are only rounded up."""
TAGS = 4
"""Found in the row about their masks."""


@dataclass(frozen=True)
class Row:
    """The same work done by each side."""

    name: str
    sides: Sequence[Work]
    """Plain, ours in float32, ours in what "auto" chooses (left out where that is float32 again)."""
    flops: float
    """Of the matrix products that the answer needs."""
    note: str


def tower_flops(tower: tuple[int, int], tokens: int) -> float:
    """Of the matrix products of one sequence: projections and MLP, then queries with keys and values."""
    layers, width = tower
    return layers * (24 * tokens * width**2 + 4 * tokens**2 * width)


def image_flops(patches: int) -> float:
    """Of the image tower, its patch embedding and its projection."""
    _, width = VISION
    return tower_flops(VISION, 1 + patches) + 2 * patches * 768 * width + 2 * (1 + patches) * width * EMBED


def sclip_row(world: World, name: str, recipe: str) -> Row:
    """Masks of one image: six windows."""
    changed = tagmask.recipe(recipe)
    assert isinstance(changed, MaskRecipe)
    changed = replace(changed, short_side=336, templates=changed.templates[:TEMPLATES])
    names, classes = class_names(changed)
    text = plain_text(world.tensors, names, changed.templates)
    ours = [partial(tagmask.Segmenter(clip, recipe=changed), world.image) for clip in world.clips]
    windows, patches = 6, 14 * 14
    return Row(
        name,
        (lambda: plain_sclip(world.tensors, world.image, changed, text), *ours),
        windows * (image_flops(patches) + 2 * patches * EMBED * len(names)),
        f"375 x 500 at short side 336, {windows} windows, {classes[-1] + 1} classes ({len(names)} names)",
    )


def thinned_tagger(world: World, recipe: TagRecipe) -> tuple[TagRecipe, torch.Tensor]:
    """Few sentences, and a threshold moved so that all sides look again at equally many classes; texts."""
    recipe = replace(recipe, templates=recipe.templates[:TEMPLATES])
    text = plain_text(world.tensors, [*recipe.words, *recipe.background], recipe.templates)
    _, refined, _ = plain_patch_scores(world.tensors, world.image, recipe, text)
    gap = widest_gap(refined, len(recipe.words))
    return tag_recipe(recipe, overrides={"candidate_tau": gap}), text


def tagclip_flops(patches: int, texts: int, again: int) -> float:
    """Of tagging one image: one pass, some crops, two products with the affinity."""
    products = 2 * patches * EMBED * texts + 4 * patches**2 * texts
    return image_flops(patches) + again * image_flops(14 * 14) + products


def tagclip_row(world: World) -> Row:
    """Tags of one image."""
    recipe = tagmask.recipe("tagclip/voc2012")
    assert isinstance(recipe, TagRecipe)
    recipe, text = thinned_tagger(world, recipe)
    taggers = [tagmask.Tagger(clip, recipe=recipe) for clip in world.clips]
    again = len(plain_tagclip(world.tensors, world.image, recipe, text)[2])
    counts = [again, *(looked_again(world, tagger) for tagger in taggers)]
    return Row(
        "tagclip",
        (
            lambda: plain_tagclip(world.tensors, world.image, recipe, text),
            *(partial(tagger, world.image) for tagger in taggers),
        ),
        tagclip_flops(PATCHES, len(text), again),
        f"375 x 500, {PATCHES} patches, {len(text)} texts, classes looked at again: {counts}",
    )


def widest_gap(refined: torch.Tensor, foreground: int) -> float:
    """The candidate threshold, as a share of the range, in the widest gap that leaves 1 to 4 candidates."""
    low, high = refined.min(), refined.max()
    shares = ((refined.amax(dim=0)[:foreground] - low) / (high - low)).sort(descending=True).values.tolist()
    gaps = [(shares[k - 1] - shares[k], (shares[k - 1] + shares[k]) / 2) for k in range(1, 5)]
    return float(max(gaps)[1])


def looked_again(world: World, tagger: tagmask.Tagger) -> int:
    """How many classes got another score than without the second look."""
    without = tagmask.Tagger(tagger.clip, recipe=tagger.recipe, cwr=False)
    return int((tagger(world.image).scores != without(world.image).scores).sum())


def cls_seg_flops(patches: int, tags: int) -> float:
    """Of masking tags, beside what finding them takes: no second pass, no gradient that is not used.

    Forward, the last block once more from its attention on. Backward, for each tag: through the MLP and the
    output projection, and one product with the attention (channel weights are means over the patches, and all
    that follows is linear). Affinities act on all maps twice.
    """
    _, width = VISION
    tokens = 1 + patches
    dense = 18 * tokens * width**2
    return (1 + tags) * dense + tags * 2 * tokens**2 * width + 4 * patches**2 * tags


def cls_seg_row(world: World) -> Row:
    """Tags and masks of one image; the thresholds are moved so that there are four tags."""
    recipe = tagmask.recipe("cls-seg/voc2012")
    assert isinstance(recipe, TagFirstRecipe)
    assert recipe.tagger is not None
    tagger, text = thinned_tagger(world, recipe.tagger)
    scores, _, again = plain_tagclip(world.tensors, world.image, tagger, text)
    tagger = replace(tagger, tag_tau=cut_after(scores, TAGS))
    recipe = replace(recipe, tagger=tagger)
    asked = plain_text(world.tensors, mask_names(recipe), recipe.templates)

    def plain() -> torch.Tensor:
        tags = plain_tagclip(world.tensors, world.image, tagger, text)[1]
        return plain_cls_seg(world.tensors, world.image, recipe, tags, asked)[0]

    ours = [tagmask.Segmenter(clip, recipe=recipe) for clip in world.clips]
    return Row(
        "cls-seg",
        (plain, *(partial(segmenter, world.image) for segmenter in ours)),
        tagclip_flops(PATCHES, len(text), len(again)) + cls_seg_flops(PATCHES, TAGS),
        f"375 x 500, {PATCHES} patches, {agreement(world.image, plain().numpy(), ours)}",
    )


def cut_after(scores: torch.Tensor, count: int) -> float:
    """The tag threshold, as a share of the range, between the `count` best scores and the rest."""
    last, next_ = scores.sort(descending=True).values[count - 1 : count + 1]
    low, high = scores.min(), scores.max()
    return float(((last + next_) / 2 - low) / (high - low))


def agreement(image: np.ndarray, plain: np.ndarray, ours: Sequence[tagmask.Segmenter]) -> str:
    """How many tags ours found; how alike labels are: plain to float32, and auto to it with the same tags."""
    first, *others = [segmenter(image) for segmenter in ours]
    counts = [len(found.tags or ()) for found in (first, *others)]
    said = f"tags found: {counts}; labels like plain's: {(first.labels == plain).mean():.3%}"
    for segmenter in ours[1:]:
        same = segmenter(image, tags=first.tags)
        said += f", auto's like float32's, same tags: {(same.labels == first.labels).mean():.3%}"
    return said


def text_row(world: World) -> Row:
    """Features of 16 words in 16 sentences each, nothing remembered."""
    recipe = tagmask.recipe("sclip/voc20")
    assert isinstance(recipe, MaskRecipe)
    words, templates = class_names(recipe)[0][:16], recipe.templates[:16]
    ids = tokenize([template.replace("{}", word) for word in words for template in templates])
    lengths = ((ids == END).int().argmax(dim=1) + 1).tolist()

    def ours(clip: tagmask.Clip) -> None:
        with own_home():
            text_features(clip, words, templates)

    return Row(
        "text",
        (
            lambda: plain_text(world.tensors, words, templates),
            *(partial(ours, clip) for clip in world.clips),
        ),
        sum(tower_flops(TEXT, length) for length in lengths),
        f"{len(lengths)} sentences of {min(lengths)} to {max(lengths)} tokens, all 77 in plain",
    )


ROWS: Mapping[str, Callable[[World], Row]] = MappingProxyType(
    {
        "sclip-21": lambda world: sclip_row(world, "sclip-21", "sclip/voc21"),
        "sclip-171": lambda world: sclip_row(world, "sclip-171", "sclip/coco-stuff"),
        "tagclip": tagclip_row,
        "cls-seg": cls_seg_row,
        "text": text_row,
    }
)
"""By name."""
