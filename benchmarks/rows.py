"""Rows of the speed table: what each program does, the number of operations, and a note."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
import torch

import tagmask
from benchmarks.floor import Pass
from benchmarks.inputs import EMBED, TEXT, VISION, BenchmarkInputs, temporary_home
from benchmarks.plain import (
    class_names,
    plain_patch_scores,
    plain_sclip,
    plain_tagclip,
    plain_text,
)
from benchmarks.plain_cls_seg import mask_names, plain_cls_seg
from tagmask.clip.tokenizer import END, tokenize
from tagmask.dense.prompts import text_features
from tagmask.resolve import tag_recipe
from tagmask.settings.recipes import MaskRecipe, TagFirstRecipe, TagRecipe

__all__ = ["ROWS", "Row", "Work"]

Work = Callable[[], object]

TEMPLATES = 2
"""Sentences per word in the rows about images, whose text features are not timed."""
PATCHES = 24 * 32
"""Patches of the image when its sides are rounded up (TagCLIP)."""
TAGS = 4
"""Number of tags in the CLS-SEG row."""


@dataclass(frozen=True)
class Row:
    """The same work done by each program."""

    name: str
    programs: Sequence[Work]
    """Plain, tagmask in float32, and tagmask in what "auto" chooses (omitted if that is float32)."""
    flops: float
    """FLOP of the matrix products that the result needs."""
    note: str
    passes: Sequence[Pass] = ()
    """What the products are, for the floor; empty: no floor."""


def tower_flops(tower: tuple[int, int], tokens: int) -> float:
    """FLOP of the matrix products of one sequence: projections and MLP, then queries with keys and values."""
    layers, width = tower
    return layers * (24 * tokens * width**2 + 4 * tokens**2 * width)


def image_flops(patches: int) -> float:
    """FLOP of the image tower with patch embedding and projection."""
    _, width = VISION
    return tower_flops(VISION, 1 + patches) + 2 * patches * 768 * width + 2 * (1 + patches) * width * EMBED


def image_pass(batch: int, patches: int) -> Pass:
    """A forward pass of the image tower."""
    layers, width = VISION
    return Pass(width, batch, 1 + patches, layers)


def sclip_row(inputs: BenchmarkInputs, name: str, recipe: str) -> Row:
    """Row for masks of one image by SCLIP: six windows."""
    settings = tagmask.recipe(recipe)
    assert isinstance(settings, MaskRecipe)
    settings = replace(settings, short_side=336, templates=settings.templates[:TEMPLATES])
    names, classes = class_names(settings)
    text = plain_text(inputs.tensors, names, settings.templates)
    ours = [partial(tagmask.Segmenter(clip, recipe=settings), inputs.image) for clip in inputs.clips]
    windows, patches = 6, 14 * 14
    return Row(
        name,
        (lambda: plain_sclip(inputs.tensors, inputs.image, settings, text), *ours),
        windows * (image_flops(patches) + 2 * patches * EMBED * len(names)),
        f"375 x 500 at short side 336, {windows} windows, {classes[-1] + 1} classes ({len(names)} names)",
        [image_pass(windows, patches)],
    )


def reduced_tagger(inputs: BenchmarkInputs, recipe: TagRecipe) -> tuple[TagRecipe, torch.Tensor]:
    """Reduce the sentences, and set a threshold at which all programs re-identify equally many classes."""
    recipe = replace(recipe, templates=recipe.templates[:TEMPLATES])
    text = plain_text(inputs.tensors, [*recipe.words, *recipe.background], recipe.templates)
    _, refined, _ = plain_patch_scores(inputs.tensors, inputs.image, recipe, text)
    gap = widest_gap(refined, len(recipe.words))
    return tag_recipe(recipe, overrides={"candidate_tau": gap}), text


def tagclip_flops(patches: int, texts: int, crops: int) -> float:
    """FLOP of tagging one image: one forward pass, some crops, two products with the affinity."""
    products = 2 * patches * EMBED * texts + 4 * patches**2 * texts
    return image_flops(patches) + crops * image_flops(14 * 14) + products


def tagclip_row(inputs: BenchmarkInputs) -> Row:
    """Row for tags of one image by TagCLIP."""
    recipe = tagmask.recipe("tagclip/voc2012")
    assert isinstance(recipe, TagRecipe)
    recipe, text = reduced_tagger(inputs, recipe)
    taggers = [tagmask.Tagger(clip, recipe=recipe) for clip in inputs.clips]
    crops = len(plain_tagclip(inputs.tensors, inputs.image, recipe, text)[2])
    counts = [crops, *(count_reidentified(inputs, tagger) for tagger in taggers)]
    return Row(
        "tagclip",
        (
            lambda: plain_tagclip(inputs.tensors, inputs.image, recipe, text),
            *(partial(tagger, inputs.image) for tagger in taggers),
        ),
        tagclip_flops(PATCHES, len(text), crops),
        f"375 x 500, {PATCHES} patches, {len(text)} texts, re-identified classes: {counts}",
        tagclip_passes(crops),
    )


def tagclip_passes(crops: int) -> list[Pass]:
    """The whole image, and the crops of re-identified classes."""
    return [image_pass(1, PATCHES), *([image_pass(crops, 14 * 14)] if crops else [])]


def widest_gap(refined: torch.Tensor, foreground: int) -> float:
    """Candidate threshold, as a fraction of the range, in the widest gap that gives 1 to 4 candidates."""
    low, high = refined.min(), refined.max()
    shares = ((refined.amax(dim=0)[:foreground] - low) / (high - low)).sort(descending=True).values.tolist()
    gaps = [(shares[k - 1] - shares[k], (shares[k - 1] + shares[k]) / 2) for k in range(1, 5)]
    return float(max(gaps)[1])


def count_reidentified(inputs: BenchmarkInputs, tagger: tagmask.Tagger) -> int:
    """Count the classes whose score differs from that without re-identification."""
    without = tagmask.Tagger(tagger.clip, recipe=tagger.recipe, cwr=False)
    return int((tagger(inputs.image).scores != without(inputs.image).scores).sum())


def cls_seg_flops(patches: int, tags: int) -> float:
    """FLOP of masking tags, in addition to tagging: no second pass, no unused gradient.

    Forward: the last block once more from its attention on. Backward, for each tag: through the MLP and the
    output projection, and one product with the attention (channel weights are means over the patches, and all
    later steps are linear). The affinity is applied to all maps twice.
    """
    _, width = VISION
    tokens = 1 + patches
    dense = 18 * tokens * width**2
    return (1 + tags) * dense + tags * 2 * tokens**2 * width + 4 * patches**2 * tags


def cls_seg_row(inputs: BenchmarkInputs) -> Row:
    """Row for tags and masks of one image by CLS-SEG, with thresholds that give four tags."""
    recipe = tagmask.recipe("cls-seg/voc2012")
    assert isinstance(recipe, TagFirstRecipe)
    assert recipe.tagger is not None
    tagger, text = reduced_tagger(inputs, recipe.tagger)
    scores, _, reidentified = plain_tagclip(inputs.tensors, inputs.image, tagger, text)
    tagger = replace(tagger, tag_tau=threshold_after(scores, TAGS))
    recipe = replace(recipe, tagger=tagger)
    mask_text = plain_text(inputs.tensors, mask_names(recipe), recipe.templates)

    def plain() -> torch.Tensor:
        tags = plain_tagclip(inputs.tensors, inputs.image, tagger, text)[1]
        return plain_cls_seg(inputs.tensors, inputs.image, recipe, tags, mask_text)[0]

    ours = [tagmask.Segmenter(clip, recipe=recipe) for clip in inputs.clips]
    return Row(
        "cls-seg",
        (plain, *(partial(segmenter, inputs.image) for segmenter in ours)),
        tagclip_flops(PATCHES, len(text), len(reidentified)) + cls_seg_flops(PATCHES, TAGS),
        f"375 x 500, {PATCHES} patches, {agreement(inputs.image, plain().numpy(), ours)}",
        [
            *tagclip_passes(len(reidentified)),
            Pass(VISION[1], 1, 1 + PATCHES, 1 + TAGS, attends=False),
        ],
    )


def threshold_after(scores: torch.Tensor, count: int) -> float:
    """Tag threshold, as a fraction of the range, between the `count` best scores and the rest."""
    last, following = scores.sort(descending=True).values[count - 1 : count + 1]
    low, high = scores.min(), scores.max()
    return float(((last + following) / 2 - low) / (high - low))


def agreement(image: np.ndarray, plain: np.ndarray, ours: Sequence[tagmask.Segmenter]) -> str:
    """Describe the number of tags, and the agreement of labels: float32 with plain, auto with float32."""
    first, *others = [segmenter(image) for segmenter in ours]
    counts = [len(result.tags or ()) for result in (first, *others)]
    text = f"number of tags: {counts}; labels equal to plain's: {(first.labels == plain).mean():.3%}"
    for segmenter in ours[1:]:
        same = segmenter(image, tags=first.tags)
        text += f", auto's equal to float32's, same tags: {(same.labels == first.labels).mean():.3%}"
    return text


def text_row(inputs: BenchmarkInputs) -> Row:
    """Row for text features of 16 words in 16 sentences each, without cache."""
    recipe = tagmask.recipe("sclip/voc20")
    assert isinstance(recipe, MaskRecipe)
    words, templates = class_names(recipe)[0][:16], recipe.templates[:16]
    ids = tokenize([template.replace("{}", word) for word in words for template in templates])
    lengths = ((ids == END).int().argmax(dim=1) + 1).tolist()

    def ours(clip: tagmask.Clip) -> None:
        with temporary_home():
            text_features(clip, words, templates)

    return Row(
        "text",
        (
            lambda: plain_text(inputs.tensors, words, templates),
            *(partial(ours, clip) for clip in inputs.clips),
        ),
        sum(tower_flops(TEXT, length) for length in lengths),
        f"{len(lengths)} sentences of {min(lengths)} to {max(lengths)} tokens, plain encodes all 77",
        [Pass(TEXT[1], count, length, TEXT[0]) for length, count in sorted(Counter(lengths).items())],
    )


ROWS: Mapping[str, Callable[[BenchmarkInputs], Row]] = MappingProxyType(
    {
        "sclip-21": lambda inputs: sclip_row(inputs, "sclip-21", "sclip/voc21"),
        "sclip-171": lambda inputs: sclip_row(inputs, "sclip-171", "sclip/coco-stuff"),
        "tagclip": tagclip_row,
        "cls-seg": cls_seg_row,
        "text": text_row,
    }
)
"""By name."""
