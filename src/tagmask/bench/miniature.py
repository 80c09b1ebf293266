"""The miniature world's tables: what the bundled CLIP knows, and whether the papers' order holds on it.

Every figure is over scenes that training never showed, in a world whose truth is exact.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F

from tagmask.api import Segmenter, Tagger
from tagmask.bench.metrics import ConfusionMatrix
from tagmask.bench.tag_metrics import mean_average_precision
from tagmask.clip.load import Clip
from tagmask.dense.features import class_features
from tagmask.dense.prompts import text_features
from tagmask.miniature.scenes import BACKGROUND_NAMES, CLASS_NAMES, COLOURS, Scene, kept_from_training
from tagmask.miniature.trials import held_style, single_object, unseen_scene
from tagmask.settings.kinds import own_tag_masks, own_tags
from tagmask.settings.words import read_list

__all__ = [
    "ABLATION",
    "MASK_ROWS",
    "TAG_ROWS",
    "AblationRow",
    "MaskRow",
    "MaskWay",
    "ZeroShot",
    "ablation_row",
    "masks_row",
    "objects_only",
    "scenes",
    "tags_row",
    "zero_shot",
]


def scenes(count: int) -> list[Scene]:
    """The first `count` unseen scenes."""
    return [unseen_scene(seed) for seed in range(count)]


# -- Zero-shot -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZeroShot:
    """Shares of single objects that are named right, 0..1, and how many were asked."""

    everything: float
    unseen_pairs: float
    """Objects in a colour that training never showed them in."""
    unseen_styles: float
    """Objects drawn in a way that training never showed."""
    colour_and_name: float
    """Of all objects: "a red car" is the best of all pairs of colour and name."""
    count: int
    pairs: int
    styles: int


def zero_shot(clip: Clip, count: int) -> ZeroShot:
    """Name single large objects by the class token, among the 24 names (and among 264 coloured names)."""
    singles = [scene for scene in map(single_object, range(count)) if scene.plan.things]
    things = [scene.plan.things[0] for scene in singles]
    seen = torch.cat(
        [
            image_features(clip, [scene.image for scene in singles[i : i + 32]])
            for i in range(0, len(singles), 32)
        ]
    )
    templates = read_list("sclip_templates80")
    kinds = np.array([thing.kind for thing in things])
    named = (seen @ text_features(clip, CLASS_NAMES, templates).T).argmax(dim=1).numpy() == kinds
    pairs = [f"{colour} {name}" for name in CLASS_NAMES for colour in COLOURS]
    own = np.array([thing.kind * len(COLOURS) + thing.colour for thing in things])
    paired = (seen @ text_features(clip, pairs, templates).T).argmax(dim=1).numpy() == own
    new_pair = np.array([kept_from_training(thing.kind, thing.colour) for thing in things])
    new_style = np.array([held_style(thing) for thing in things])
    return ZeroShot(
        everything=_share(named),
        unseen_pairs=_share(named[new_pair]),
        unseen_styles=_share(named[new_style]),
        colour_and_name=_share(paired),
        count=len(singles),
        pairs=int(new_pair.sum()),
        styles=int(new_style.sum()),
    )


def _share(right: Bool[ndarray, " n"]) -> float:
    """NaN where nothing was asked."""
    return float(right.mean()) if len(right) else math.nan


@torch.inference_mode()
def image_features(clip: Clip, images: Sequence[UInt8[ndarray, "_ _ 3"]]) -> Tensor:
    """The class token of each image at the model's own size, as CLIP itself computes it; unit vectors."""
    side = clip.geometry.grid * clip.geometry.patch
    scaled = [PILImage.fromarray(i).resize((side, side), PILImage.Resampling.BICUBIC) for i in images]
    pixels = torch.from_numpy(np.stack([np.asarray(i) for i in scaled])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(triple)[:, None, None] for triple in (clip.mean, clip.std))
    features = class_features(clip.vision, ((pixels - mean) / std).to(clip.device))
    return F.normalize(features, dim=-1).cpu()


# -- Tags ----------------------------------------------------------------------------------------------------

Scorer = Callable[[Clip, Sequence[Scene]], Float32[ndarray, "n c"]]


def _plain(clip: Clip, found: Sequence[Scene]) -> Float32[ndarray, "n c"]:
    texts = text_features(clip, CLASS_NAMES, read_list("prompts_tag85")).cpu()
    logits = torch.cat([image_features(clip, [scene.image]) for scene in found]) @ texts.T
    scores: Float32[ndarray, "n c"] = torch.softmax(100 * logits, dim=-1).numpy()
    return scores


def _tagclip(*, dmar: bool, cwr: bool) -> Scorer:
    def score(clip: Clip, found: Sequence[Scene]) -> Float32[ndarray, "n c"]:
        tagger = Tagger(clip, CLASS_NAMES, background=BACKGROUND_NAMES, dmar=dmar, cwr=cwr)
        return np.stack([tagger(scene.image).scores for scene in found])

    return score


TAG_ROWS: Mapping[str, Scorer] = MappingProxyType(
    {
        "CLIP, softmax of the class token": _plain,
        "TagCLIP, coarse scores": _tagclip(dmar=False, cwr=False),
        "TagCLIP, coarse + DMAR": _tagclip(dmar=True, cwr=False),
        "TagCLIP, coarse + CWR": _tagclip(dmar=False, cwr=True),
        "TagCLIP, both": _tagclip(dmar=True, cwr=True),
    }
)


def tags_row(clip: Clip, found: Sequence[Scene], row: str) -> float:
    """Mean average precision of one way of tagging, in percent."""
    return 100 * mean_average_precision(TAG_ROWS[row](clip, found).astype(np.float64), present(found))


def present(found: Sequence[Scene]) -> Bool[ndarray, "n c"]:
    """Which classes of objects can be seen in each scene."""
    truth = np.zeros((len(found), len(CLASS_NAMES)), dtype=bool)
    for i, scene in enumerate(found):
        truth[i, [thing.kind for thing in scene.content.things]] = True
    return truth


# -- Masks ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MaskWay:
    """One way of masking."""

    settings: Mapping[str, object]
    """Of the `Segmenter`, by name."""
    true_tags: bool = False
    """It is told which classes are there."""
    stuff: bool = True
    """It can also be asked for the ten backgrounds as classes of their own."""


_PAMR = {"pamr_steps": 10}
_CRF = {"crf": "cls-seg"}
_CLS_SEG = {"method": "cls-seg"}

MASK_ROWS: Mapping[str, MaskWay] = MappingProxyType(
    {
        "CLIP, attention as trained": MaskWay({"method": "clip"}),
        "MaskCLIP": MaskWay({"method": "maskclip"}),
        "SCLIP": MaskWay({}),
        "SCLIP + PAMR": MaskWay(_PAMR),
        "SCLIP + CRF": MaskWay(_CRF, stuff=False),
        "SCLIP, only tags": MaskWay({"among": "tags"}, stuff=False),
        "SCLIP, only tags + PAMR": MaskWay({"among": "tags", **_PAMR}, stuff=False),
        "CLS-SEG": MaskWay(_CLS_SEG, stuff=False),
        "CLS-SEG + CRF": MaskWay({**_CLS_SEG, **_CRF}, stuff=False),
        "SCLIP, true tags": MaskWay({}, true_tags=True, stuff=False),
        "CLIP-ES (CLS-SEG, true tags)": MaskWay(_CLS_SEG, true_tags=True, stuff=False),
        "CLIP-ES + CRF": MaskWay({**_CLS_SEG, **_CRF}, true_tags=True, stuff=False),
    }
)


@dataclass(frozen=True, eq=False)
class MaskRow:
    """What one way of masking reaches."""

    miou: float
    """Over the 24 classes and the background, in percent."""
    stuff: float | None
    """Over the 24 classes and the 10 backgrounds as classes of their own, in percent."""
    classes: Mapping[str, float]
    """IoU of each class (background first), in percent."""


def masks_row(clip: Clip, found: Sequence[Scene], way: MaskWay) -> MaskRow:
    """Mean IoU of one way of masking, with a background class and, where it can, without one."""
    objects = Segmenter(clip, CLASS_NAMES, background=BACKGROUND_NAMES, **_free(way.settings))
    told = present(found)
    matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
    for scene, there in zip(found, told, strict=True):
        tags = np.flatnonzero(there).tolist() if way.true_tags else None
        matrix.update(objects(scene.image, tags=tags).labels, objects_only(scene.labels))
    classes = dict(zip(objects.words, (100 * matrix.iou()).tolist(), strict=True))
    return MaskRow(100 * matrix.miou(), _stuff(clip, found, way) if way.stuff else None, classes)


def _stuff(clip: Clip, found: Sequence[Scene], way: MaskWay) -> float:
    names = (*CLASS_NAMES, *BACKGROUND_NAMES)
    everything = Segmenter(clip, names, background=[], **_free(way.settings))
    matrix = ConfusionMatrix(len(names))
    for scene in found:
        matrix.update(everything(scene.image).labels, scene.labels)
    return 100 * matrix.miou()


def _free(settings: Mapping[str, object]) -> dict[str, Any]:
    """Settings as keyword arguments, whose types only the recipe knows."""
    return dict(settings)


# -- Tags, and the masks that they lead to -------------------------------------------------------------------

ABLATION: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "coarse scores": {"dmar": False, "cwr": False},
        "coarse + CWR": {"dmar": False, "cwr": True},
        "coarse + DMAR": {"dmar": True, "cwr": False},
        "both": {"dmar": True, "cwr": True},
    }
)


@dataclass(frozen=True)
class AblationRow:
    """What one way of finding tags reaches, all in percent."""

    average_precision: float
    """Mean over classes."""
    precision: float
    """Share of the tags taken that are there."""
    recall: float
    """Share of what is there that is taken."""
    miou: float
    """Of CLS-SEG's masks of these tags."""


def ablation_row(clip: Clip, found: Sequence[Scene], parts: Mapping[str, bool]) -> AblationRow:
    """Tags found with some of TagCLIP's parts, and CLS-SEG's masks of them."""
    recipe = own_tag_masks(CLASS_NAMES, BACKGROUND_NAMES)
    tagger = replace(recipe.tagger or own_tags(CLASS_NAMES, BACKGROUND_NAMES), **_free(parts))
    scores = _tagclip(**parts)(clip, found)
    segmenter = Segmenter(clip, recipe=replace(recipe, tagger=tagger))
    matrix = ConfusionMatrix(1 + len(CLASS_NAMES))
    truth = present(found)
    right = taken = 0
    for scene, there in zip(found, truth, strict=True):
        masked = segmenter(scene.image)
        tags = masked.tags or ()
        right, taken = right + int(there[list(tags)].sum()), taken + len(tags)
        matrix.update(masked.labels, objects_only(scene.labels))
    return AblationRow(
        average_precision=100 * mean_average_precision(scores.astype(np.float64), truth),
        precision=100 * right / max(taken, 1),
        recall=100 * right / max(int(truth.sum()), 1),
        miou=100 * matrix.miou(),
    )


def objects_only(labels: UInt8[ndarray, "h w"]) -> UInt8[ndarray, "h w"]:
    """A scene's truth with all backgrounds as class 0 and objects from 1 on."""
    return np.where(labels < len(CLASS_NAMES), labels + 1, 0).astype(np.uint8)
