"""Test scenes, their ground truth, and zero-shot classification of single objects."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from numpy import ndarray
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F

from tagmask.bench.miniature.setups import COLOURED
from tagmask.clip.load import Clip
from tagmask.dense.features import class_token_features
from tagmask.dense.prompts import text_features
from tagmask.miniature.evaluation_scenes import is_held_out_style, single_object, unseen_scene
from tagmask.miniature.scenes import CLASS_NAMES, COLOURS, Scene, is_held_out_colour
from tagmask.settings.words import read_list

__all__ = ["ZeroShot", "image_features", "objects_only", "present", "scenes", "word_classes", "zero_shot"]


def scenes(count: int) -> list[Scene]:
    """Return the first `count` test scenes."""
    return [unseen_scene(seed) for seed in range(count)]


# -- Zero-shot -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ZeroShot:
    """Zero-shot accuracy on single objects, 0..1, and the numbers of objects."""

    everything: float
    unseen_pairs: float
    """Objects in a colour that training excluded for their class."""
    unseen_styles: float
    """Objects in a style that training excluded."""
    colour_and_name: float
    """All objects, classified among all pairs of colour and name ("a red car")."""
    count: int
    pairs: int
    styles: int


def zero_shot(clip: Clip, count: int) -> ZeroShot:
    """Classify single large objects by the class token, among 24 names and among 264 coloured names."""
    singles = [scene for scene in map(single_object, range(count)) if scene.plan.things]
    things = [scene.plan.things[0] for scene in singles]
    features = torch.cat(
        [
            image_features(clip, [scene.image for scene in singles[i : i + 32]])
            for i in range(0, len(singles), 32)
        ]
    )
    templates = read_list("sclip_templates80")
    kinds = np.array([thing.kind for thing in things])
    correct = (features @ text_features(clip, CLASS_NAMES, templates).T).argmax(dim=1).numpy() == kinds
    pairs = [f"{colour} {name}" for name in CLASS_NAMES for colour in COLOURS]
    true_pairs = np.array([thing.kind * len(COLOURS) + thing.colour for thing in things])
    correct_pairs = (features @ text_features(clip, pairs, templates).T).argmax(dim=1).numpy() == true_pairs
    new_pair = np.array([is_held_out_colour(thing.kind, thing.colour) for thing in things])
    new_style = np.array([is_held_out_style(thing) for thing in things])
    return ZeroShot(
        everything=_share(correct),
        unseen_pairs=_share(correct[new_pair]),
        unseen_styles=_share(correct[new_style]),
        colour_and_name=_share(correct_pairs),
        count=len(singles),
        pairs=int(new_pair.sum()),
        styles=int(new_style.sum()),
    )


def _share(correct: Bool[ndarray, " n"]) -> float:
    """Mean; NaN if empty."""
    return float(correct.mean()) if len(correct) else math.nan


@torch.inference_mode()
def image_features(clip: Clip, images: Sequence[UInt8[ndarray, "_ _ 3"]]) -> Tensor:
    """Encode images at the model's input size with CLIP's class token; unit vectors."""
    side = clip.geometry.grid * clip.geometry.patch
    scaled = [PILImage.fromarray(i).resize((side, side), PILImage.Resampling.BICUBIC) for i in images]
    pixels = torch.from_numpy(np.stack([np.asarray(i) for i in scaled])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(triple)[:, None, None] for triple in (clip.mean, clip.std))
    features = class_token_features(clip.vision, ((pixels - mean) / std).to(clip.device))
    return F.normalize(features, dim=-1).cpu()


# -- Ground truth --------------------------------------------------------------------------------------------


def present(scenes: Sequence[Scene]) -> Bool[ndarray, "n c"]:
    """Return which object classes are visible in each scene."""
    truth = np.zeros((len(scenes), len(CLASS_NAMES)), dtype=bool)
    for i, scene in enumerate(scenes):
        truth[i, [thing.kind for thing in scene.content.things]] = True
    return truth


def word_classes(scene: Scene) -> UInt8[ndarray, "256"]:
    """Return the class of each 8-bit label of `MANY_WORDS`, with the background before them.

    A name in a colour belongs to its class if an object of that class and colour is visible, else, as all
    other labels, to no class: 1 + the number of classes.
    """
    visible = {(thing.kind, thing.colour) for thing in scene.content.things}
    first = 1 + len(CLASS_NAMES)
    table = np.full(256, first, np.uint8)
    table[:first] = range(first)
    for label, (kind, colour) in enumerate(COLOURED, first):
        if (kind, colour) in visible:
            table[label] = 1 + kind
    return table


def objects_only(labels: UInt8[ndarray, "h w"]) -> UInt8[ndarray, "h w"]:
    """Map a scene's mask to class 0 for all backgrounds and 1 .. 24 for objects."""
    return np.where(labels < len(CLASS_NAMES), labels + 1, 0).astype(np.uint8)
