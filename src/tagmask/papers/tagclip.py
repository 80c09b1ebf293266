"""TagCLIP: which words are in the image, from patch scores.

    Y. Lin, M. Chen, K. Zhang, H. Li, M. Li, Z. Yang, D. Lv, B. Lin, H. Liu, D. Cai.
    "TagCLIP: A Local-to-Global Framework to Enhance Open-Vocabulary Multi-Label Classification of CLIP
    without Training", AAAI 2024.

In the paper's order: *coarse* scores of every patch from the value path of the last block; *DMAR*,
dual-masking attention refinement; *CWR*, class-wise re-identification of each candidate in its own crop;
tags.

    N    patches, row-major (gh x gw)      C  classes: f foreground ones first, then background
    A_l  (N, N) head-averaged attention of layer l, class token cut off; rows sum to less than 1
    P    (N, C) softmax scores of patches

As coded by the authors, which is not always as printed: P_local is the maximum of the *refined* scores; only
candidates are fused with their crop; boxes lose the last grid row and column (`lose_border`); a candidate
with an empty box ends the re-identification of all later ones (`early_exit`). The last two can be switched
off.

Departures: files become upright RGB (alpha on white) before they are scaled; a class may have several names
and takes its best; images over `max_patches` are reduced, which no photo of the paper's data sets reaches.
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
_HIDDEN = -1000.0
"""Added to the class token's attention logits of patches outside the candidate's mask."""
_CROPS_A_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class TagclipSettings:
    """Every number of the method; the defaults are those for PASCAL VOC and COCO."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("early_exit", "lose_border")
    """Those that are True as published and False as corrected."""

    dmar: bool = True
    """Refine patch scores by dual-masked attention."""
    cwr: bool = True
    """Re-identify candidates in their own crops."""
    attention_layers: tuple[int, ...] = (8, 9, 10)
    """Layers of a 12-layer tower whose attention is averaged; other depths use the same share."""
    votes: int = 4
    """Of 12 layers, how many must find an attention above their mean for it to count."""
    candidate_tau: float = 0.5
    """Candidates score above this share of the range of all patches and classes."""
    mask_tau: float = 0.5
    """A candidate's mask: patches above this share of the class's own range."""
    fusion: float = 0.5
    """Weight of the patch score beside the crop's score."""
    early_exit: bool = True
    """As coded: a candidate with an empty box ends re-identification."""
    lose_border: bool = True
    """As coded: boxes are clipped one cell short, and the last grid row and column are never inside."""
    min_patches: int = 1
    """Smaller images are enlarged to about so many patches."""
    max_patches: int = 4096
    """Larger images are reduced to at most so many patches: memory and time grow with their square."""

    def __post_init__(self) -> None:
        for name in ("candidate_tau", "mask_tau", "fusion"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("votes", self.votes, 0, _PAPER_DEPTH, whole=True)
        check_number("min_patches", self.min_patches, 1, whole=True)
        check_number("max_patches", self.max_patches, 1, whole=True)
        if self.min_patches > self.max_patches:
            raise InputError(
                f"min_patches {self.min_patches} and max_patches {self.max_patches} leave no size; "
                "give 1 <= min_patches <= max_patches"
            )
        if not self.attention_layers:
            raise InputError("attention_layers is empty; give one or more layers, as in (8, 9, 10)")
        for layer in self.attention_layers:
            check_number("a layer of attention_layers", layer, 0, _PAPER_DEPTH - 1, whole=True)


@dataclass(frozen=True, eq=False)
class Refined:
    """What DMAR leaves for one image, its intermediate steps included."""

    attention: Float[Tensor, "N N"]
    """Averaged attention where enough layers agree, else 0."""
    once: Float[Tensor, "N C"]
    """Refined by the attention mask alone."""
    class_mask: Bool[Tensor, "N C"]
    scores: Float[Tensor, "N C"]
    """Refined by both masks."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Classes to look at again, each in its own crop."""

    classes: tuple[int, ...]
    boxes: Int[Tensor, "k 4"]
    """In grid cells, half-open."""
    masks: Bool[Tensor, "k gh gw"]


@dataclass(frozen=True, eq=False)
class Local:
    """One image after its patches have been scored, before its crops are."""

    pixels: Float[Tensor, "3 hs ws"]
    """Scaled and normalised."""
    scores: Float[Tensor, " f"]
    """P_local: each foreground class's best patch."""
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
    """Final score of every foreground class in every image.

    Args:
        clip: the frozen model.
        images: upright RGB of any sizes; the crops of all of them go through the tower together.
        names: foreground classes, then background ones, with their names.
        texts: unit features of `names.texts`.
        foreground: how many of the classes are foreground.
        settings: the method.

    Returns:
        Scores in 0..1, float32, one array an image. They are comparable within an image; they lie well under
        1, since nothing rescales the attention.
    """
    found = []
    for image in images:
        pixels = preprocess_bicubic(clip, image, settings)
        tower = encode_image(clip, pixels, settings)
        found.append(first_scores(clip, pixels, tower, names, texts, foreground, settings))
    finals = reidentify(clip, found, names, texts, settings)
    return [final.cpu().numpy() for final in finals]


def preprocess_bicubic(clip: Clip, image: Image, settings: TagclipSettings) -> Float[Tensor, "3 hs ws"]:
    """Scaled up to whole patches by Pillow's bicubic, then normalised as the weights want it."""
    height, width = target_size((image.shape[0], image.shape[1]), clip.vision.patch, settings)
    scaled = PILImage.fromarray(image).resize((width, height), PILImage.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(scaled)).to(clip.device).permute(2, 0, 1).float() / 255
    mean = torch.tensor(clip.mean, device=clip.device)[:, None, None]
    std = torch.tensor(clip.std, device=clip.device)[:, None, None]
    return (pixels - mean) / std


def target_size(size: Size, patch: int, settings: TagclipSettings) -> Size:
    """(h, w) in whole patches: each side rounded up on its own, within the settings' limits on patches.

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
    also: Set[int] = frozenset(),
) -> TowerFeatures:
    """The pass that tagging reads, with the attention of the layers in `also` for others to read."""
    depth = len(clip.vision.blocks)
    wanted = frozenset(range(depth - 1)) if settings.dmar else frozenset()
    return extract_features(clip.vision, pixels[None], bilinear_half, attention=wanted | also)


def first_scores(
    clip: Clip,
    pixels: Float[Tensor, "3 h w"],
    tower: TowerFeatures,
    names: Names,
    texts: TextFeatures,
    foreground: int,
    settings: TagclipSettings,
) -> Local:
    """All that is known of one image before its candidates are looked at again."""
    scores = coarse_scores(clip, tower, names, texts)
    if settings.dmar:
        scores = refine_scores(scores, patch_attention(tower), tower.grid, settings).scores
    local = scores[:, :foreground].amax(dim=0)
    return Local(pixels, local, find_candidates(scores, local, tower.grid, settings))


def coarse_scores(
    clip: Clip, tower: TowerFeatures, names: Names, texts: TextFeatures
) -> Float[Tensor, "N C"]:
    """Softmax over all texts, background included, of each patch's value-path feature.

    The authors keep the last block and mask its attention by -100 off the diagonal: every token attends to
    itself alone, which is the value path. A class with several names takes its best.
    """
    features = F.normalize(tower.project_last_block(None)[0, 1:], dim=-1)
    probabilities = torch.softmax(clip.logit_scale * features @ texts.T, dim=-1)
    return merge_names(probabilities.T, names).T


def patch_attention(tower: TowerFeatures) -> list[Float[Tensor, "N N"]]:
    """A_l of all layers, the last one's natural attention included; class token cut off."""
    layers = [tower.attention[layer] for layer in sorted(tower.attention)] + [tower.last_attention]
    return [layer[0, 1:, 1:] for layer in layers]


# -- DMAR: dual-masking attention refinement -------------------------------------------------------------


def refine_scores(
    coarse: Float[Tensor, "N C"],
    attention: Sequence[Float[Tensor, "N N"]],
    grid: Size,
    settings: TagclipSettings,
) -> Refined:
    """P_refined = W (M_cls * P), with W = mean attention where enough layers agree."""
    depth = len(attention)
    agreed = count_votes(attention) >= needed_votes(settings.votes, depth)
    layers = scaled_layers(settings.attention_layers, depth)
    averaged = torch.stack([attention[layer] for layer in layers]).mean(dim=0) * agreed
    once = averaged @ coarse
    mask = class_masks(once, grid, lose_border=settings.lose_border)
    # The mask acts on keys: it says which patches may speak for a class, not which may hear.
    twice = averaged @ (mask * coarse)
    scores = torch.where(once.amax(dim=0) > 0, twice, once)
    return Refined(averaged, once, mask, scores)


def count_votes(attention: Sequence[Float[Tensor, "N N"]]) -> Int[Tensor, "N N"]:
    """In how many layers an attention is above its layer's mean."""
    votes = torch.zeros_like(attention[0], dtype=torch.int16)
    for layer in attention:
        votes += layer > layer.mean()
    return votes


def class_masks(once: Float[Tensor, "N C"], grid: Size, *, lose_border: bool) -> Bool[Tensor, "N C"]:
    """Per class, the bounding boxes of its above-average regions."""
    maps = _stretch(once.T.unflatten(1, grid))
    union, _ = component_boxes_union(maps, maps.mean(dim=(1, 2)), lose_border=lose_border)
    return union.flatten(1).T


def scaled_layers(layers: Sequence[int], depth: int) -> list[int]:
    """Layers of a 12-layer tower as the same share of a tower of `depth`.

    Example:
        >>> scaled_layers((8, 9, 10), 12), scaled_layers((8, 9, 10), 24)
        ([8, 9, 10], [16, 17, 18, 19, 20, 21])
    """
    scaled = {
        there
        for layer in layers
        for there in range(layer * depth // _PAPER_DEPTH, (layer + 1) * depth // _PAPER_DEPTH)
    }
    return sorted(scaled) or [max(0, depth - 2)]


def needed_votes(votes: int, depth: int) -> int:
    """Votes of 12 layers as the same share of `depth` layers, rounded up."""
    return -(-votes * depth // _PAPER_DEPTH)


# -- CWR: class-wise re-identification -------------------------------------------------------------------


def find_candidates(
    scores: Float[Tensor, "N C"], local: Float[Tensor, " f"], grid: Size, settings: TagclipSettings
) -> Candidates:
    """Foreground classes above the range threshold (over all classes, background too), with mask and box."""
    low, high = scores.min(), scores.max()
    classes = torch.nonzero(local > low + settings.candidate_tau * (high - low)).flatten()
    masks = _stretch(scores.T[classes].unflatten(1, grid)) > settings.mask_tau
    boxes = mask_box(masks, lose_border=settings.lose_border)
    good = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    if settings.early_exit:
        good = good.cumprod(dim=0).bool()
    return Candidates(tuple(classes[good].tolist()), boxes[good], masks[good])


def reidentify(
    clip: Clip, found: Sequence[Local], names: Names, texts: TextFeatures, settings: TagclipSettings
) -> list[Tensor]:
    """P_final: a candidate's patch score averaged with its score in its own crop; others keep theirs.

    Crops of all images go through the tower together. Returns foreground scores, one tensor an image; with
    `cwr` off they are the patch scores.
    """
    finals = [local.scores.clone() for local in found]
    if not settings.cwr:
        return finals
    jobs = [(image, i) for image, local in enumerate(found) for i in range(len(local.candidates.classes))]
    for start in range(0, len(jobs), _CROPS_A_BATCH):
        batch = jobs[start : start + _CROPS_A_BATCH]
        pairs = [candidate_crop(clip, found[image], i) for image, i in batch]
        crops, masks = (torch.stack(part) for part in zip(*pairs, strict=True))
        for (image, i), row in zip(batch, crop_scores(clip, crops, masks, names, texts), strict=True):
            c = found[image].candidates.classes[i]
            finals[image][c] = settings.fusion * finals[image][c] + (1 - settings.fusion) * row[c]
    return finals


def crop_scores(
    clip: Clip, crops: Pixels, masks: Bool[Tensor, "b gh gw"], names: Names, texts: TextFeatures
) -> Float[Tensor, "b C"]:
    """Softmax scores of crops whose class token sees only the patches of its mask, in every layer."""
    hidden = (~masks.flatten(1)).float() * _HIDDEN
    features = F.normalize(class_token_features(clip.vision, crops, hidden), dim=-1)
    probabilities = torch.softmax(clip.logit_scale * features @ texts.T, dim=-1)
    return merge_names(probabilities.T, names).T


def candidate_crop(
    clip: Clip, local: Local, index: int
) -> tuple[Float[Tensor, "3 s s"], Bool[Tensor, "g g"]]:
    """The candidate's box of the image at the tower's own size, and its mask on the tower's grid."""
    patch, side = clip.vision.patch, clip.vision.grid
    x0, y0, x1, y1 = local.candidates.boxes[index].tolist()
    part = local.pixels[None, :, y0 * patch : y1 * patch, x0 * patch : x1 * patch]
    crop = F.interpolate(part, size=(side * patch, side * patch), mode="bilinear", align_corners=False)
    cells = local.candidates.masks[index, y0:y1, x0:x1].float()[None, None]
    return crop[0], F.interpolate(cells, size=(side, side), mode="nearest")[0, 0] > 0


def _stretch(maps: Float[Tensor, "c gh gw"]) -> Float[Tensor, "c gh gw"]:
    """Each map to 0..1. A constant map becomes all zeros, where the authors' program divides 0 by 0."""
    shifted = maps - maps.amin(dim=(1, 2), keepdim=True)
    top = shifted.amax(dim=(1, 2), keepdim=True)
    return torch.where(top > 0, shifted / top, torch.zeros_like(shifted))


METHODS = (
    Method(
        name="tagclip",
        kind="tagclip",
        summary="refined patch scores, best words looked at again",
        source="TagCLIP, Lin et al., AAAI 2024",
        settings=TagclipSettings,
        own_words=OwnWords(background=True),
    ),
)
