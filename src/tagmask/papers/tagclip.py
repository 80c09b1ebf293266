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

As coded by the authors, which is not always as printed: P_local is the maximum of the *refined* scores; only
candidates are fused with their crop; boxes lose the last grid row and column (`lose_border`); a candidate
with an empty box ends the re-identification of all later ones (`early_exit`). The last two can be switched
off.

Departures: files become upright RGB (alpha on white) before they are scaled; a class may have several names
and takes the best score; images over `max_patches` are reduced (no photo of the paper's data sets is).
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_number
from tagmask.clip.load import Clip
from tagmask.dense.boxes import component_boxes_union, mask_box
from tagmask.dense.features import TowerFeatures, class_token_features, extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.dense.prompts import Names, merge_names
from tagmask.errors import InputError
from tagmask.method import Method, OwnWords
from tagmask.types import Image, Images, Pixels, Size, TextFeatures

__all__ = ["METHODS", "TagclipSettings", "score_images"]

_PAPER_DEPTH = 12
_MASKED = -1000.0
"""Added to the class token's attention logits for patches outside the candidate's mask."""
_CROP_BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True)
class TagclipSettings:
    """Settings of TagCLIP; the defaults are the paper's for PASCAL VOC and COCO."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("early_exit", "lose_border")
    """Settings that are True with `as_="published"` and False with `as_="corrected"`."""

    dmar: bool = True
    """Refine patch scores by dual-masked attention."""
    cwr: bool = True
    """Re-identify each candidate in its own crop."""
    attention_layers: tuple[int, ...] = (8, 9, 10)
    """Layers of a 12-layer tower whose attention is averaged; scaled in proportion for other depths."""
    votes: int = 4
    """Minimum number of layers, of 12, in which an attention is above the layer's mean, for it to count."""
    candidate_tau: float = 0.5
    """A candidate scores above this fraction of the score range over all patches and classes."""
    mask_tau: float = 0.5
    """A candidate's mask: patches above this fraction of the class's own score range."""
    fusion: float = 0.5
    """Weight of the patch score; the crop's score has weight 1 - this."""
    early_exit: bool = True
    """As coded: a candidate with an empty box ends re-identification."""
    lose_border: bool = True
    """As coded: boxes are clipped one cell short, and the last grid row and column are never inside."""
    min_patches: int = 1
    """Smaller images are enlarged to about this many patches."""
    max_patches: int = 4096
    """Larger images are reduced to at most this many patches: memory and time grow with its square."""

    def __post_init__(self) -> None:
        for name in ("candidate_tau", "mask_tau", "fusion"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("votes", self.votes, 0, _PAPER_DEPTH, whole=True)
        check_number("min_patches", self.min_patches, 1, whole=True)
        check_number("max_patches", self.max_patches, 1, whole=True)
        if self.min_patches > self.max_patches:
            raise InputError(
                f"min_patches {self.min_patches} is greater than max_patches {self.max_patches}. "
                "Give 1 <= min_patches <= max_patches."
            )
        if not self.attention_layers:
            raise InputError("attention_layers is empty. Give one or more layers, for example (8, 9, 10).")
        for layer in self.attention_layers:
            check_number("a layer of attention_layers", layer, 0, _PAPER_DEPTH - 1, whole=True)


@dataclass(frozen=True, eq=False)
class RefinedScores:
    """Result of DMAR for one image, with its intermediate steps."""

    attention: Float[Tensor, "N N"]
    """W: averaged attention where enough layers agree, else 0."""
    once: Float[Tensor, "N C"]
    """Refined by the attention mask only."""
    class_mask: Bool[Tensor, "N C"]
    scores: Float[Tensor, "N C"]
    """Refined by both masks."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Classes to re-identify, each in its own crop."""

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
        Scores in 0..1, float32, one array per image. They are comparable within an image and lie well below
        1, since the attention is not rescaled.
    """
    per_image = []
    for image in images:
        pixels = preprocess_bicubic(clip, image, settings)
        tower = encode_image(clip, pixels, settings)
        per_image.append(local_scores(clip, pixels, tower, names, texts, foreground, settings))
    finals = reidentify(clip, per_image, names, texts, settings)
    return [final.cpu().numpy() for final in finals]


def preprocess_bicubic(clip: Clip, image: Image, settings: TagclipSettings) -> Float[Tensor, "3 hs ws"]:
    """Resize to whole patches with Pillow's bicubic, and normalise with the model's mean and std."""
    height, width = target_size((image.shape[0], image.shape[1]), clip.vision.patch, settings)
    scaled = PILImage.fromarray(image).resize((width, height), PILImage.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(scaled)).to(clip.device).permute(2, 0, 1).float() / 255
    mean = torch.tensor(clip.mean, device=clip.device)[:, None, None]
    std = torch.tensor(clip.std, device=clip.device)[:, None, None]
    return (pixels - mean) / std


def target_size(size: Size, patch: int, settings: TagclipSettings) -> Size:
    """Return (h, w) in whole patches: each side rounded up, within the settings' limits on patches.

    Example:
        >>> target_size((375, 500), 16, TagclipSettings())
        (384, 512)
        >>> target_size((3000, 4000), 16, TagclipSettings(max_patches=1200))
        (480, 640)
    """
    rows, columns = (-(-side // patch) for side in size)
    wanted = min(max(rows * columns, settings.min_patches), settings.max_patches)
    if wanted != rows * columns:
        scale = (wanted / (size[0] * size[1])) ** 0.5
        rows, columns = (max(1, round(side * scale)) for side in size)
        rows = min(rows, settings.max_patches)
        columns = min(columns, settings.max_patches // rows)
    return rows * patch, columns * patch


# -- Coarse scores ---------------------------------------------------------------------------------------


def encode_image(
    clip: Clip,
    pixels: Float[Tensor, "3 h w"],
    settings: TagclipSettings,
    *,
    extra_layers: Set[int] = frozenset(),
) -> TowerFeatures:
    """Extract the tower features for tagging, and the attention of `extra_layers` for other methods."""
    depth = len(clip.vision.blocks)
    layers = frozenset(range(depth - 1)) if settings.dmar else frozenset()
    return extract_features(clip.vision, pixels[None], bilinear_half, attention=layers | extra_layers)


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
    scores = coarse_scores(clip, tower, names, texts)
    if settings.dmar:
        scores = refine_scores(scores, patch_attention(tower), tower.grid, settings).scores
    local = scores[:, :foreground].amax(dim=0)
    return LocalScores(pixels, local, find_candidates(scores, local, tower.grid, settings))


def coarse_scores(
    clip: Clip, tower: TowerFeatures, names: Names, texts: TextFeatures
) -> Float[Tensor, "N C"]:
    """Softmax over all texts, background included, of each patch's value-path feature.

    The authors keep the last block and add -100 to its attention logits off the diagonal: every token attends
    only to itself, which is the value path. A class with several names takes the best score.
    """
    features = F.normalize(tower.project_last_block(None)[0, 1:], dim=-1)
    probabilities = torch.softmax(clip.logit_scale * features @ texts.T, dim=-1)
    return merge_names(probabilities.T, names).T


def patch_attention(tower: TowerFeatures) -> list[Float[Tensor, "N N"]]:
    """A_l of all layers, including the last block's own attention; without the class token."""
    layers = [tower.attention[layer] for layer in sorted(tower.attention)] + [tower.last_attention]
    return [layer[0, 1:, 1:] for layer in layers]


# -- DMAR: dual-masking attention refinement -------------------------------------------------------------


def refine_scores(
    coarse: Float[Tensor, "N C"],
    attention: Sequence[Float[Tensor, "N N"]],
    grid: Size,
    settings: TagclipSettings,
) -> RefinedScores:
    """Compute P_refined = W (M_cls * P), with W = mean attention where enough layers agree."""
    depth = len(attention)
    agreed = count_votes(attention) >= needed_votes(settings.votes, depth)
    layers = scaled_layers(settings.attention_layers, depth)
    averaged = torch.stack([attention[layer] for layer in layers]).mean(dim=0) * agreed
    once = averaged @ coarse
    mask = class_masks(once, grid, lose_border=settings.lose_border)
    # The mask acts on the keys: it selects the patches that contribute to a class, not those that receive.
    twice = averaged @ (mask * coarse)
    scores = torch.where(once.amax(dim=0) > 0, twice, once)
    return RefinedScores(averaged, once, mask, scores)


def count_votes(attention: Sequence[Float[Tensor, "N N"]]) -> Int[Tensor, "N N"]:
    """Count the layers in which an attention is above the layer's mean."""
    votes = torch.zeros_like(attention[0], dtype=torch.int16)
    for layer in attention:
        votes += layer > layer.mean()
    return votes


def class_masks(once: Float[Tensor, "N C"], grid: Size, *, lose_border: bool) -> Bool[Tensor, "N C"]:
    """Return, for each class, the union of the bounding boxes of its above-average regions."""
    maps = _to_unit_range(once.T.unflatten(1, grid))
    union, _ = component_boxes_union(maps, maps.mean(dim=(1, 2)), lose_border=lose_border)
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
        for target in range(layer * depth // _PAPER_DEPTH, (layer + 1) * depth // _PAPER_DEPTH)
    }
    return sorted(scaled) or [max(0, depth - 2)]


def needed_votes(votes: int, depth: int) -> int:
    """Scale votes of 12 layers to `depth` layers, rounded up."""
    return -(-votes * depth // _PAPER_DEPTH)


# -- CWR: class-wise re-identification -------------------------------------------------------------------


def find_candidates(
    scores: Float[Tensor, "N C"], local: Float[Tensor, " f"], grid: Size, settings: TagclipSettings
) -> Candidates:
    """Find the foreground classes above the threshold, with mask and box; the range includes background."""
    low, high = scores.min(), scores.max()
    classes = torch.nonzero(local > low + settings.candidate_tau * (high - low)).flatten()
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
