"""CLIP-ES: masks of an image's tags, from gradients and attention, without training.

    Y. Lin, M. Chen, W. Wang, B. Wu, K. Li, B. Lin, H. Liu, X. He. "CLIP is Also an Efficient Segmenter: A
    Text-Driven Approach for Weakly Supervised Semantic Segmentation", CVPR 2023.

With tags from TagCLIP in place of true image labels this is CLS-SEG (TagCLIP, AAAI 2024); the two programs
differ in settings only. In the paper's order: *text*, synonyms fused into one prompt; *softmax Grad-CAM*, in
which an image's tags and the background words compete; *CAA*, class-aware attention-based affinity; *masks*;
what goes into a dense CRF and comes out of it, with the cut of *confidence-guided* labels.

    K     tags of an image, in the order given      N      patches, row-major (gh x gw)
    cam   (K, gh, gw) activation maps, 0..1         plane  a map at the image's own size; background first

As coded by the authors: one scale, no flip; maps are scaled twice by (z - min) / (1e-7 + range); boxes lose
the last grid row and column (`lose_border`), so that an image of one row of patches is all background; planes
are held in float16 (`half_planes`) before the arg-max.

Departures: an image without tags is all background (their program stops), or `ignore_index` where there is no
background plane; patches that nobody attends to have no affinity (they divide by 0).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from tagmask.checks import check_number
from tagmask.clip.load import Clip
from tagmask.dense.boxes import component_boxes_union
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.gradcam import softmax_gradcam
from tagmask.dense.positions import bilinear_half_always
from tagmask.dense.windows import resize_matrix
from tagmask.errors import InputError
from tagmask.method import Method
from tagmask.papers.tagclip import TagclipSettings, preprocess_bicubic, scaled_layers
from tagmask.refine.affinity import balanced
from tagmask.types import Image, Size, TextFeatures

__all__ = [
    "METHODS",
    "ClassTexts",
    "ClipEsSettings",
    "captured_layers",
    "check_tags",
    "crf_labels",
    "crf_probabilities",
    "encode_image",
    "fuse_names",
    "label_pixels",
    "tag_maps",
]

_PAPER_DEPTH = 12
_LEAST_RANGE = 1e-7
_LEAST_PROBABILITY = 1e-5
"""Of a plane, before the CRF takes its logarithm."""
_STRIP = 2**24
"""Numbers in one strip of full-resolution planes: 64 MiB in float32."""


@dataclass(frozen=True, kw_only=True)
class ClipEsSettings:
    """Every number of the method; the defaults are CLIP-ES's for PASCAL VOC."""

    QUIRKS: ClassVar[tuple[str, ...]] = ("lose_border",)
    """Those that are True as published and False as corrected."""

    attention_layers: tuple[int, ...] = tuple(range(4, 12))
    """Layers of a 12-layer tower whose attention is averaged; other depths use the same share."""
    scalings: int = 2
    """How often a map is scaled to 0..1 before its box mask. Once leaves maps of tiny gradients under 1."""
    box_threshold: float = 0.4
    """Boxes go around regions above this share of a map's greatest score; only patches in them are spread."""
    lose_border: bool = True
    """As coded: boxes are clipped one cell short, and the last grid row and column are never inside."""
    sinkhorn_rounds: int = 3
    """Of column and row division, before the affinity is made symmetric."""
    affinity_power: int = 2
    """How often scores travel along the affinity."""
    background_power: float | None = 1.0
    """The background plane is (1 - greatest map) to this power; None: no such plane, all pixels get tags."""
    confidence: float | None = None
    """Labels whose probability after a CRF stays under it are taken away; None keeps all. CLIP-ES trains its
    segmenter with 0.95."""
    half_planes: bool = True
    """As coded: planes are rounded to float16, where near ties become ties."""
    min_patches: int = 1
    """Smaller images are enlarged to about so many patches."""
    max_patches: int = 4096
    """Larger images are reduced to at most so many patches: memory and time grow with their square."""

    def __post_init__(self) -> None:
        _shared(self)  # its rules hold here too
        check_number("scalings", self.scalings, 1, whole=True)
        check_number("box_threshold", self.box_threshold, 0, 1)
        check_number("sinkhorn_rounds", self.sinkhorn_rounds, 0, whole=True)
        check_number("affinity_power", self.affinity_power, 0, whole=True)
        if self.background_power is not None:
            check_number("background_power", self.background_power, 0)
        if self.confidence is not None:
            check_number("confidence", self.confidence, 0, 1)


@dataclass(frozen=True, eq=False)
class ClassTexts:
    """Unit features, one a class."""

    foreground: Float[Tensor, "f e"]
    background: Float[Tensor, "q e"]
    """Of what co-occurs with the classes. It competes with every tag: a single tag without any has no rival,
    so no gradient, and an empty map."""


def encode_image(clip: Clip, image: Image, settings: ClipEsSettings) -> TowerFeatures:
    """The pass that `tag_maps` reads.

    TagCLIP's own pass serves as well, if it kept the `captured_layers`: the two differ only where the image
    needs no stretched position table, and there by the table's rounding to float16.
    """
    pixels = preprocess_bicubic(clip, image, _shared(settings))
    watched = captured_layers(settings, len(clip.vision.blocks))
    return extract_features(clip.vision, pixels[None], bilinear_half_always, attention=watched)


def captured_layers(settings: ClipEsSettings, depth: int) -> frozenset[int]:
    """Layers before the last whose attention a pass must keep."""
    return frozenset(scaled_layers(settings.attention_layers, depth)) - {depth - 1}


@torch.inference_mode()
def tag_maps(
    clip: Clip, tower: TowerFeatures, texts: ClassTexts, tags: Sequence[int], settings: ClipEsSettings
) -> Float[Tensor, "K gh gw"]:
    """Refined map of each tag on the patch grid, 0..1.

    Raises:
        InputError: tags that are repeated or no foreground class, or a pass without the layers needed.
    """
    check_tags(tags, len(texts.foreground))
    if not len(tags):
        return texts.foreground.new_zeros(0, *tower.grid)
    maps = activation_maps(clip, tower, texts, tags, settings)
    return min_max_scaled(refine_maps(maps, patch_attention(tower, settings), settings))


# -- Text ------------------------------------------------------------------------------------------------


def fuse_names(lines: Sequence[str]) -> tuple[str, ...]:
    """One text a class: synonyms side by side in one prompt, as the paper's names have them.

    Example:
        >>> fuse_names(["cat", "dog, puppy"])
        ('cat', 'dog,puppy')
    """
    return tuple(",".join(name.strip() for name in line.split(", ")) for line in lines)


def competing_texts(texts: ClassTexts, tags: Sequence[int]) -> TextFeatures:
    """What the softmax runs over: the image's own tags, then the background; no other class."""
    return torch.cat([texts.foreground[list(tags)], texts.background])


# -- Softmax Grad-CAM ------------------------------------------------------------------------------------


def activation_maps(
    clip: Clip, tower: TowerFeatures, texts: ClassTexts, tags: Sequence[int], settings: ClipEsSettings
) -> Float[Tensor, "K gh gw"]:
    """Grad-CAM of each tag, scaled. A map that is 0 everywhere stays so."""
    rivals = competing_texts(texts, tags)
    maps = softmax_gradcam(tower, rivals, range(len(tags)), clip.logit_scale).maps
    for _ in range(settings.scalings):
        maps = min_max_scaled(maps)
    return maps


def min_max_scaled(maps: Float[Tensor, "K gh gw"]) -> Float[Tensor, "K gh gw"]:
    """Each map to 0..1, nearly: the range in the denominator is 1e-7 wider."""
    shifted = maps - maps.amin(dim=(1, 2), keepdim=True)
    return shifted / (_LEAST_RANGE + shifted.amax(dim=(1, 2), keepdim=True))


# -- CAA: class-aware attention-based affinity -----------------------------------------------------------


def patch_attention(tower: TowerFeatures, settings: ClipEsSettings) -> Float[Tensor, "N N"]:
    """Attention averaged over the settings' layers; class token cut off, rows sum to less than 1.

    Raises:
        InputError: the pass has not kept one of the layers.
    """
    depth = len(tower.vision.blocks)
    if missing := captured_layers(settings, depth) - tower.attention.keys():
        raise InputError(
            f"the pass kept no attention of layers {sorted(missing)}; name them when it is made "
            "(`attention=captured_layers(settings, depth)`)"
        )
    first, *others = scaled_layers(settings.attention_layers, depth)
    total = _among_patches(tower, first).clone()
    for layer in others:
        total += _among_patches(tower, layer)
    return total / (1 + len(others))


def _among_patches(tower: TowerFeatures, layer: int) -> Float[Tensor, "N N"]:
    last = layer == len(tower.vision.blocks) - 1
    tokens: Tensor = tower.last_attention if last else tower.attention[layer]
    return tokens[0, 1:, 1:]


def refine_maps(
    maps: Float[Tensor, "K gh gw"], attention: Float[Tensor, "N N"], settings: ClipEsSettings
) -> Float[Tensor, "K gh gw"]:
    """Spread each map along the affinity, from the patches in its boxes to all; not scaled."""
    threshold = torch.full((len(maps),), settings.box_threshold, dtype=torch.float64)
    boxes, _ = component_boxes_union(maps, threshold, lose_border=settings.lose_border)
    affinity = balanced(attention, rounds=settings.sinkhorn_rounds)
    spread = affinity.spread((boxes * maps).flatten(1), times=settings.affinity_power)
    return spread.view_as(maps)


# -- Masks -----------------------------------------------------------------------------------------------


def label_pixels(
    maps: Float[Tensor, "K gh gw"],
    size: Size,
    tags: Sequence[int],
    settings: ClipEsSettings,
    *,
    ignore_index: int,
    keep_scores: bool = False,
) -> tuple[Integer[np.ndarray, "h w"], Float[np.ndarray, "planes h w"] | None]:
    """The greatest plane of each pixel, in strips of rows so that memory does not follow the image's size.

    Args:
        maps: from `tag_maps`.
        size: (h, w) of the image.
        tags: the class of each map.
        settings: the method.
        ignore_index: the label of all pixels where there is no plane at all.
        keep_scores: also return the planes, background first if there is one, then one a tag.

    Returns:
        Labels (int32), 0 the background and tag + 1 elsewhere, or just the tag where there is no background
        plane; and planes or None. The first plane wins ties.
    """
    height, width = size
    behind = settings.background_power is not None
    labels = np.full(size, ignore_index, np.int32)
    scores = np.zeros((len(tags) + behind, height, width), np.float32) if keep_scores else None
    for top, bottom, planes in _strips(maps, size, settings):
        if len(planes):
            labels[top:bottom] = _named(planes.max(dim=0).indices, tags, behind)
        if scores is not None:
            scores[:, top:bottom] = planes.cpu().numpy()
    return labels, scores


def _strips(
    maps: Float[Tensor, "K gh gw"], size: Size, settings: ClipEsSettings
) -> Iterator[tuple[int, int, Float[Tensor, "planes strip w"]]]:
    """First row, last row (not included), planes in between."""
    down, across = (resize_matrix(*axis).to(maps) for axis in zip(maps.shape[1:], size, strict=True))
    rows = max(1, _STRIP // (size[1] * (len(maps) + 1)))
    for top in range(0, size[0], rows):
        bottom = min(top + rows, size[0])
        yield top, bottom, with_background(down[top:bottom] @ maps @ across.T, settings)


def with_background(maps: Float[Tensor, "K h w"], settings: ClipEsSettings) -> Float[Tensor, "planes h w"]:
    """The background plane, if the settings want one, before the tags' own; rounded as the settings say."""
    planes = maps.half() if settings.half_planes else maps
    if settings.background_power is not None:
        # What no tag claims; all of it where there is no tag.
        claimed = planes.amax(dim=0) if len(planes) else planes.new_zeros(planes.shape[1:])
        planes = torch.cat([((1 - claimed) ** settings.background_power)[None], planes])
    return planes.float()


def _named(index: Integer[Tensor, "h w"], tags: Sequence[int], behind: bool) -> Integer[np.ndarray, "h w"]:
    """Plane numbers to labels."""
    table = np.array([0, *(tag + 1 for tag in tags)] if behind else tags, np.int32)
    named: Integer[np.ndarray, "h w"] = table[index.cpu().numpy()]
    return named


# -- Around a dense CRF ----------------------------------------------------------------------------------


def crf_probabilities(
    maps: Float[Tensor, "K gh gw"], size: Size, settings: ClipEsSettings
) -> Float[np.ndarray, "planes h w"]:
    """The planes as a CRF takes them: 1e-5..1, not made to sum to 1.

    With `half_planes` they are those whose negative logarithm is a float16, in which the authors take it.
    """
    planes = torch.cat([strip for _, _, strip in _strips(maps, size, settings)], dim=1)
    if settings.half_planes:
        energy = -planes.half().clamp(min=_LEAST_PROBABILITY, max=1).log()
        return torch.exp(-energy.float()).cpu().numpy()
    return planes.clamp(min=_LEAST_PROBABILITY, max=1).cpu().numpy()


def crf_labels(
    probabilities: Float[np.ndarray, "planes h w"],
    tags: Sequence[int],
    settings: ClipEsSettings,
    *,
    ignore_index: int,
) -> tuple[Integer[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Labels after a CRF, and how sure it is of each.

    Args:
        probabilities: one a plane, as the CRF leaves them.
        tags: the class of each plane after the background's.
        settings: the method.
        ignore_index: the label of pixels under `settings.confidence`, and of all where there is no plane.

    Returns:
        Labels as `label_pixels` gives them, and the greatest probability of each pixel (0 without planes).
    """
    if not len(probabilities):
        size = probabilities.shape[1:]
        return np.full(size, ignore_index, np.int32), np.zeros(size, np.float32)
    best = torch.from_numpy(probabilities).max(dim=0)
    labels = _named(best.indices, tags, settings.background_power is not None)
    sure = best.values.numpy()
    if settings.confidence is not None:
        labels = np.where(sure < np.float32(settings.confidence), np.int32(ignore_index), labels)
    return labels, sure


# -- What is checked -------------------------------------------------------------------------------------


def check_tags(tags: Sequence[int], classes: int) -> None:
    """Refuse tags that are repeated or no foreground class.

    Raises:
        InputError: naming them.
    """
    for tag in tags:
        check_number("a tag", tag, 0, classes - 1, whole=True)
    if len(set(tags)) < len(tags):
        raise InputError(f"tags {tuple(tags)} repeat a class; give each class once")


def _shared(settings: ClipEsSettings) -> TagclipSettings:
    """What both methods have, in TagCLIP's terms."""
    return TagclipSettings(
        attention_layers=settings.attention_layers,
        min_patches=settings.min_patches,
        max_patches=settings.max_patches,
    )


METHODS = (
    Method(
        name="clip-es",
        kind="tag_first",
        summary="given tags, each by Grad-CAM and affinity",
        source="CLIP-ES, Lin et al., CVPR 2023",
        settings=ClipEsSettings,
    ),
)
