"""TagCLIP: multi-label tags from patch scores.

    Y. Lin, M. Chen, K. Zhang, H. Li, M. Li, Z. Yang, D. Lv, B. Lin, H. Liu, D. Cai.
    "TagCLIP: A Local-to-Global Framework to Enhance Open-Vocabulary Multi-Label Classification of CLIP
    without Training", AAAI 2024.

In the paper's order: *coarse* scores of every patch from the value path of the last block; *DMAR*,
dual-masking attention refinement; *CWR*, class-wise re-identification of each candidate in its own crop;
tags.

    N    patches, row-major (gh x gw)      C  classes: f foreground ones first, then background
    A_l  (N, N) head-averaged attention of layer l, without the class token; rows sum to less than 1
    P    (N, C) softmax scores of patches

As coded by the authors, which is not as printed: P_local is the maximum of the *refined* scores, not of the
coarse ones (`local_source`); a class counts in boxes around its regions, not in the patches above its mean
(`class_mask`); background texts compete in the softmax (`background_competes`); a layer's mean is that of
pairs of patches (`vote_mean`), and K layers are enough, not more than K (`strict_votes`); only candidates are
fused with their crop (`cwr_scope`). `as_="printed"` sets all of these to the paper's formulas. What looks
unintended has a switch too: boxes lose the last grid row and column (`lose_border`), and a candidate with an
empty box ends the re-identification of all later ones (`early_exit`).

Departures: files become upright RGB (alpha on white) before they are scaled; a class may have several names
and takes the best score; images over `max_patches` are reduced (no photo of the paper's data sets is).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from tagmask.clip.load import Clip
from tagmask.dense.boxes import component_boxes_union, mask_box
from tagmask.dense.features import CaptureSpec, TowerFeatures, class_token_features, extract_features
from tagmask.dense.native_size import native_pixels
from tagmask.dense.positions import bilinear_half
from tagmask.dense.prompts import Names, merge_names
from tagmask.dense.rule import affinity
from tagmask.method import Method, OwnWords
from tagmask.papers.tagclip_settings import PAPER_DEPTH, TagclipSettings
from tagmask.types import Image, Images, Pixels, Size, TextFeatures

__all__ = ["METHODS", "TagclipSettings", "score_images"]

_MASKED = -1000.0
"""Added to the class token's attention logits for patches outside the candidate's mask."""
_CROP_BATCH_SIZE = 16


@dataclass(frozen=True, eq=False)
class RefinedScores:
    """Result of DMAR for one image, with its intermediate steps."""

    attention: Float[Tensor, "N N"]
    """W: averaged attention where enough layers agree, else 0; without the attention mask, all of it."""
    once: Float[Tensor, "N C"]
    """Refined without the class mask."""
    class_mask: Bool[Tensor, "N C"]
    """M_cls; True everywhere if it is not used."""
    scores: Float[Tensor, "N C"]
    """P_refined."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Classes to re-identify, each in its own crop; those without any patch in their box are left out."""

    classes: tuple[int, ...]
    boxes: Int[Tensor, "k 4"]
    """In grid cells, half-open."""
    masks: Bool[Tensor, "k gh gw"]


@dataclass(frozen=True, eq=False)
class LocalScores:
    """Patch scores of one image, and what CWR needs to re-identify its candidates."""

    pixels: Float[Tensor, "3 hs ws"]
    """Scaled and normalised."""
    scores: Float[Tensor, " f"]
    """P_local: the best patch score of each foreground class."""
    candidates: Candidates


@torch.inference_mode()
def score_images(
    clip: Clip,
    images: Images,
    names: Names,
    texts: TextFeatures,
    foreground: int,
    settings: TagclipSettings,
) -> list[Float[np.ndarray, " f"]]:
    """Return the final score of every foreground class in every image.

    Args:
        clip: the frozen model.
        images: upright RGB of any sizes; the crops of all images are encoded in shared batches.
        names: foreground classes, then background classes, with their names.
        texts: unit features of `names.texts`.
        foreground: the number of foreground classes.
        settings: the method's settings.

    Returns:
        Scores, float32, one array per image: 0..1, or from -1 without `patch_softmax`. They are comparable
        within an image and, unless they come from the coarse scores, lie well below 1, since the attention is
        not rescaled.
    """
    names, texts = competing_texts(names, texts, foreground, settings)
    per_image = []
    for image in images:
        pixels = preprocess_bicubic(clip, image, settings)
        tower = encode_image(clip, pixels, settings)
        per_image.append(local_scores(clip, pixels, tower, names, texts, foreground, settings))
    finals = reidentify(clip, per_image, names, texts, settings)
    return [final.cpu().numpy() for final in finals]


def preprocess_bicubic(clip: Clip, image: Image, settings: TagclipSettings) -> Float[Tensor, "3 hs ws"]:
    """Resize to whole patches with Pillow's bicubic, and normalise with the model's mean and std."""
    return native_pixels(clip, image, min_patches=settings.min_patches, max_patches=settings.max_patches)


def competing_texts(
    names: Names, texts: TextFeatures, foreground: int, settings: TagclipSettings
) -> tuple[Names, Float[Tensor, "k e"]]:
    """Return the classes and texts of the softmax: all, or those of the foreground."""
    if settings.background_competes:
        return names, texts
    count = sum(owner < foreground for owner in names.owners)
    return Names(names.classes[:foreground], names.texts[:count], names.owners[:count]), texts[:count]


# -- Coarse scores ---------------------------------------------------------------------------------------


def encode_image(
    clip: Clip,
    pixels: Float[Tensor, "3 h w"],
    settings: TagclipSettings,
    *,
    extra: CaptureSpec | None = None,
) -> TowerFeatures:
    """Extract the tower features for tagging, and what else `extra` captures for other methods."""
    capture = captured(settings, len(clip.vision.blocks)) | (extra or CaptureSpec())
    return extract_features(clip.vision, pixels[None], bilinear_half, capture=capture)


def captured(settings: TagclipSettings, depth: int) -> CaptureSpec:
    """What DMAR reads from the layers before the last of a tower of `depth` layers."""
    if not settings.dmar:
        return CaptureSpec()
    layers = frozenset(scaled_layers(settings.attention_layers, depth)) - {depth - 1}
    masked = depth > 1 and settings.dmar_masks in ("both", "attention")
    return CaptureSpec(
        averages=frozenset({layers} if layers else ()),
        votes=frozenset({settings.vote_mean} if masked else ()),
    )


def local_scores(
    clip: Clip,
    pixels: Float[Tensor, "3 h w"],
    tower: TowerFeatures,
    names: Names,
    texts: TextFeatures,
    foreground: int,
    settings: TagclipSettings,
) -> LocalScores:
    """Score the patches of one image and find its candidates for re-identification."""
    cosines = patch_cosines(tower, texts, keep_attention=settings.last_attention)
    coarse = coarse_scores(clip, cosines, names, settings)
    return refined_local_scores(pixels, tower, coarse, foreground, settings)


def refined_local_scores(
    pixels: Float[Tensor, "3 h w"],
    tower: TowerFeatures,
    coarse: Float[Tensor, "N C"],
    foreground: int,
    settings: TagclipSettings,
) -> LocalScores:
    """Refine the coarse scores of one image; candidates are found from the refined scores in any case."""
    refined = coarse
    if settings.dmar:
        refined = refine_scores(coarse, patch_attention(tower, settings), tower.grid, settings).scores
    best = refined[:, :foreground].amax(dim=0)
    candidates = find_candidates(refined, best, tower.grid, settings)
    local = coarse[:, :foreground].amax(dim=0) if settings.local_source == "coarse" else best
    return LocalScores(pixels, local, candidates)


def patch_cosines(tower: TowerFeatures, texts: TextFeatures, *, keep_attention: bool) -> Float[Tensor, "N q"]:
    """Cosine of each patch's feature with each text.

    The authors keep the last block and add -100 to its attention logits off the diagonal: every token attends
    only to itself, which is the value path.
    """
    weights = affinity(tower.q, tower.k) if keep_attention else None
    return F.normalize(tower.project_last_block(weights)[0, 1:], dim=-1) @ texts.T


def coarse_scores(
    clip: Clip, cosines: Float[Tensor, "N q"], names: Names, settings: TagclipSettings
) -> Float[Tensor, "N C"]:
    """Softmax over the competing texts, or the cosines. A class with several names takes the best score."""
    scores = torch.softmax(clip.logit_scale * cosines, dim=-1) if settings.patch_softmax else cosines
    return merge_names(scores.T, names).T


# -- DMAR: dual-masking attention refinement -------------------------------------------------------------


class PatchAttention(NamedTuple):
    """Attention between patches, without the class token."""

    averaged: Float[Tensor, "N N"]
    """Over the settings' layers; rows sum to less than 1."""
    agrees: Bool[Tensor, "N N"] | None
    """M_attn: where enough layers agree; None if it is not used."""

    @property
    def masked(self) -> Float[Tensor, "N N"]:
        """The average where enough layers agree, else 0."""
        return self.averaged if self.agrees is None else self.averaged * self.agrees


def patch_attention(tower: TowerFeatures, settings: TagclipSettings) -> PatchAttention:
    """Average the layers' attention, and find where enough of them agree; the last block's own takes part.

    Raises:
        InputError: `tower` lacks what is `captured` with these settings.
    """
    depth = len(tower.vision.blocks)
    averaged = tower.average_attention(set(scaled_layers(settings.attention_layers, depth)))[0, 1:, 1:]
    if settings.dmar_masks in ("class", "none"):
        return PatchAttention(averaged, None)
    needed = needed_votes(settings.votes, depth, strict=settings.strict_votes)
    return PatchAttention(averaged, tower.count_votes(settings.vote_mean)[0] >= needed)


def refine_scores(
    coarse: Float[Tensor, "N C"],
    attention: PatchAttention,
    grid: Size,
    settings: TagclipSettings,
) -> RefinedScores:
    """Compute P_refined = W (M_cls * P), with W = mean attention where enough layers agree."""
    weights = attention.masked
    if settings.renormalise:
        # A row that the mask leaves empty stays empty.
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    once = weights @ coarse
    if settings.dmar_masks in ("attention", "none"):
        return RefinedScores(weights, once, torch.ones_like(once, dtype=torch.bool), once)
    mask = class_masks(once, grid, settings)
    # The mask acts on the keys: it selects the patches that contribute to a class, not those that receive.
    twice = weights @ (mask * coarse)
    scores = torch.where(once.amax(dim=0) > 0, twice, once)
    return RefinedScores(weights, once, mask, scores)


def class_masks(once: Float[Tensor, "N C"], grid: Size, settings: TagclipSettings) -> Bool[Tensor, "N C"]:
    """M_cls: each class's patches above its mean, or the union of the bounding boxes of their regions."""
    if settings.class_mask == "mean":
        return once >= once.mean(dim=0)
    maps = _to_unit_range(once.T.unflatten(1, grid))
    union, _ = component_boxes_union(maps, maps.mean(dim=(1, 2)), lose_border=settings.lose_border)
    return union.flatten(1).T


def scaled_layers(layers: Sequence[int], depth: int) -> list[int]:
    """Map layers of a 12-layer tower to the corresponding layers of a tower of `depth` layers.

    Example:
        >>> scaled_layers((8, 9, 10), 12), scaled_layers((8, 9, 10), 24)
        ([8, 9, 10], [16, 17, 18, 19, 20, 21])
    """
    scaled = {
        target
        for layer in layers
        for target in range(layer * depth // PAPER_DEPTH, (layer + 1) * depth // PAPER_DEPTH)
    }
    return sorted(scaled) or [max(0, depth - 2)]


def needed_votes(votes: int, depth: int, *, strict: bool = False) -> int:
    """Scale votes of 12 layers to `depth` layers: at least as large a share of them, or a larger one."""
    return votes * depth // PAPER_DEPTH + 1 if strict else -(-votes * depth // PAPER_DEPTH)


# -- CWR: class-wise re-identification -------------------------------------------------------------------


def find_candidates(
    scores: Float[Tensor, "N C"], local: Float[Tensor, " f"], grid: Size, settings: TagclipSettings
) -> Candidates:
    """Find the classes to re-identify, with mask and box.

    Args:
        scores: of all patches and classes; the candidates' threshold is relative to their range.
        local: the greatest score of each foreground class.
        grid: of the patches.
        settings: the method's settings.
    """
    low, high = scores.min(), scores.max()
    above = local > low + settings.candidate_tau * (high - low)
    classes = torch.nonzero(torch.ones_like(above) if settings.cwr_scope == "all" else above).flatten()
    masks = _to_unit_range(scores.T[classes].unflatten(1, grid)) > settings.mask_tau
    boxes = mask_box(masks, lose_border=settings.lose_border)
    valid = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    if settings.early_exit:
        valid = valid.cumprod(dim=0).bool()
    return Candidates(tuple(classes[valid].tolist()), boxes[valid], masks[valid])


def reidentify(
    clip: Clip, per_image: Sequence[LocalScores], names: Names, texts: TextFeatures, settings: TagclipSettings
) -> list[Tensor]:
    """Compute P_final: fuse a candidate's patch score with the score of its crop; other classes keep theirs.

    The crops of all images are encoded in shared batches. Returns foreground scores, one tensor per image;
    with `cwr` off they are the patch scores.
    """
    finals = [local.scores.clone() for local in per_image]
    if not settings.cwr:
        return finals
    jobs = [(image, i) for image, local in enumerate(per_image) for i in range(len(local.candidates.classes))]
    for start in range(0, len(jobs), _CROP_BATCH_SIZE):
        batch = jobs[start : start + _CROP_BATCH_SIZE]
        pairs = [candidate_crop(clip, per_image[image], i) for image, i in batch]
        crops, masks = (torch.stack(part) for part in zip(*pairs, strict=True))
        for (image, i), row in zip(batch, crop_scores(clip, crops, masks, names, texts), strict=True):
            c = per_image[image].candidates.classes[i]
            finals[image][c] = settings.fusion * finals[image][c] + (1 - settings.fusion) * row[c]
    return finals


def crop_scores(
    clip: Clip, crops: Pixels, masks: Bool[Tensor, "b gh gw"], names: Names, texts: TextFeatures
) -> Float[Tensor, "b C"]:
    """Softmax scores of crops whose class token attends only to the mask's patches, in every layer."""
    bias = (~masks.flatten(1)).float() * _MASKED
    features = F.normalize(class_token_features(clip.vision, crops, bias), dim=-1)
    probabilities = torch.softmax(clip.logit_scale * features @ texts.T, dim=-1)
    return merge_names(probabilities.T, names).T


def candidate_crop(
    clip: Clip, local: LocalScores, index: int
) -> tuple[Float[Tensor, "3 s s"], Bool[Tensor, "g g"]]:
    """Return the candidate's box resized to the tower's native size, and its mask on the tower's grid."""
    patch, side = clip.vision.patch, clip.vision.grid
    x0, y0, x1, y1 = local.candidates.boxes[index].tolist()
    part = local.pixels[None, :, y0 * patch : y1 * patch, x0 * patch : x1 * patch]
    crop = F.interpolate(part, size=(side * patch, side * patch), mode="bilinear", align_corners=False)
    cells = local.candidates.masks[index, y0:y1, x0:x1].float()[None, None]
    return crop[0], F.interpolate(cells, size=(side, side), mode="nearest")[0, 0] > 0


def _to_unit_range(maps: Float[Tensor, "c gh gw"]) -> Float[Tensor, "c gh gw"]:
    """Scale each map to 0..1. A constant map becomes all zeros; the authors' program divides 0 by 0."""
    shifted = maps - maps.amin(dim=(1, 2), keepdim=True)
    top = shifted.amax(dim=(1, 2), keepdim=True)
    return torch.where(top > 0, shifted / top, torch.zeros_like(shifted))


METHODS = (
    Method(
        name="tagclip",
        kind="tagclip",
        summary="refined patch scores, candidates re-identified in their own crops",
        source="TagCLIP, Lin et al., AAAI 2024",
        settings=TagclipSettings,
        own_words=OwnWords(background=True),
    ),
)
