"""The steps behind an image's tags and masks, as maps on the patch grid, to be drawn.

TagCLIP: scores with the last attention kept and removed, refined, and the crops. CLIP-ES: Grad-CAM, boxes,
refined maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Integer
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.dense.boxes import component_boxes_union
from tagmask.errors import InputError
from tagmask.papers import clip_es, tagclip
from tagmask.pipelines.tag_first import TagFirstPipeline
from tagmask.pipelines.tagging import TagclipPipeline
from tagmask.settings.recipes import TagFirstRecipe, TagRecipe
from tagmask.types import Image

__all__ = ["CamSteps", "Crop", "TagSteps", "cam_steps", "tag_steps"]

Maps = Float32[np.ndarray, "c gh gw"]


@dataclass(frozen=True, eq=False)
class Crop:
    """The crop in which a class is re-identified."""

    box: tuple[int, int, int, int]
    """In grid cells, half-open."""
    mask: Bool[np.ndarray, "gh gw"]
    score: float
    """Of the class, in the crop."""


@dataclass(frozen=True, eq=False)
class TagSteps:
    """TagCLIP's steps for one image."""

    words: tuple[str, ...]
    kept: Maps
    """Patch scores with the last block's attention."""
    coarse: Maps
    """Patch scores without it: P_coarse."""
    once: Maps
    """Refined without the class mask."""
    class_mask: Bool[np.ndarray, "c gh gw"]
    refined: Maps
    """P_refined."""
    crops: Mapping[int, Crop]
    """Of each class that is re-identified."""
    final: Float32[np.ndarray, " c"]
    chosen: tuple[int, ...]
    """The tags."""


@dataclass(frozen=True, eq=False)
class CamSteps:
    """CLIP-ES's steps for the tags of one image."""

    words: tuple[str, ...]
    """Of each tag."""
    cams: Float32[np.ndarray, "k gh gw"]
    """Scaled Grad-CAM."""
    boxes: Bool[np.ndarray, "k gh gw"]
    """Patches that are spread along the affinity."""
    refined: Float32[np.ndarray, "k gh gw"]
    masks: Bool[np.ndarray, "k h w"]
    """Pixels that get the tag."""


@torch.inference_mode()
def tag_steps(clip: Clip, recipe: TagRecipe, image: Image) -> TagSteps:
    """Return TagCLIP's steps for an image.

    Args:
        clip: the frozen model.
        recipe: of TagCLIP; DMAR is computed even if its `dmar` is off, to be seen.
        image: upright RGB.

    Raises:
        InputError: a recipe of another method.
    """
    if recipe.method != "tagclip":
        raise InputError(f"{recipe.name} is not TagCLIP. Give a recipe such as tagclip/voc2012.")
    pipeline = TagclipPipeline(clip, recipe)
    query, settings = pipeline.query, pipeline.settings
    names, texts = tagclip.competing_texts(query.names, query.features, query.foreground, settings)
    pixels = tagclip.preprocess_bicubic(clip, image, settings)
    tower = tagclip.encode_image(clip, pixels, replace(settings, dmar=True))
    by_attention = {
        keep: tagclip.coarse_scores(
            clip, tagclip.patch_cosines(tower, texts, keep_attention=keep), names, settings
        )
        for keep in (False, True)
    }
    coarse = by_attention[settings.last_attention]
    refined = tagclip.refine_scores(coarse, tagclip.patch_attention(tower, settings), tower.grid, settings)
    local = tagclip.refined_local_scores(pixels, tower, coarse, query.foreground, settings)
    final = tagclip.reidentify(clip, [local], names, texts, settings)[0].cpu().numpy()
    candidates = local.candidates
    crops = {}
    for i, c in enumerate(candidates.classes if settings.cwr else ()):
        pixels_of_crop, mask = tagclip.candidate_crop(clip, local, i)
        scores = tagclip.crop_scores(clip, pixels_of_crop[None], mask[None], names, texts)
        x0, y0, x1, y1 = candidates.boxes[i].tolist()
        crops[c] = Crop((x0, y0, x1, y1), candidates.masks[i].cpu().numpy(), float(scores[0, c]))

    def maps(scores: Tensor) -> Maps:
        grid: Maps = scores[:, : query.foreground].T.unflatten(1, tower.grid).cpu().numpy()
        return grid

    return TagSteps(
        words=query.words,
        kept=maps(by_attention[True]),
        coarse=maps(by_attention[False]),
        once=maps(refined.once),
        class_mask=maps(refined.class_mask.float()) > 0,
        refined=maps(refined.scores),
        crops=crops,
        final=final,
        chosen=pipeline.choose(final),
    )


@torch.inference_mode()
def cam_steps(
    clip: Clip, recipe: TagFirstRecipe, image: Image, tags: Sequence[int] | None = None
) -> CamSteps:
    """Return CLIP-ES's steps for the tags of an image.

    Args:
        clip: the frozen model.
        recipe: of CLS-SEG or CLIP-ES.
        image: upright RGB.
        tags: the image's tags; None to find them.

    Raises:
        InputError: no tags are given and the recipe has no tagger, or a tag is out of range.
    """
    pipeline = TagFirstPipeline(clip, recipe)
    labelled = pipeline([image], [tags], ignore_index=65535, keep_scores=False)[0]
    found = labelled.tags or ()
    settings = recipe.variant
    tower = clip_es.encode_image(clip, image, settings)
    if not found:
        empty = np.zeros((0, *tower.grid), np.float32)
        return CamSteps((), empty, empty > 0, empty, np.zeros((0, *image.shape[:2]), bool))
    cams = clip_es.activation_maps(clip, tower, pipeline.class_texts, found, settings)
    threshold = torch.full((len(found),), settings.box_threshold, dtype=torch.float64)
    boxes, _ = component_boxes_union(cams, threshold, lose_border=settings.lose_border)
    refined = clip_es.tag_maps(clip, tower, pipeline.class_texts, found, settings)
    shift = int(pipeline.background)
    labels: Integer[np.ndarray, "h w"] = labelled.labels
    return CamSteps(
        words=tuple(pipeline.words[tag + shift] for tag in found),
        cams=cams.cpu().numpy(),
        boxes=boxes.cpu().numpy(),
        refined=refined.cpu().numpy(),
        masks=np.stack([labels == tag + shift for tag in found]),
    )
