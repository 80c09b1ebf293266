"""CLIP-ES: masks of given tags from Grad-CAM and attention, without training.

    Y. Lin, M. Chen, W. Wang, B. Wu, K. Li, B. Lin, H. Liu, X. He. "CLIP is Also an Efficient Segmenter: A
    Text-Driven Approach for Weakly Supervised Semantic Segmentation", CVPR 2023.

With TagCLIP's tags in place of ground-truth tags this is CLS-SEG (TagCLIP, AAAI 2024); the two programs
differ in settings only. In the paper's order: *text*, synonyms fused into one prompt; *softmax Grad-CAM*, in
which the image's tags and the background words compete; *CAA*, class-aware attention-based affinity; *masks*;
input and output of a dense CRF, with the confidence threshold of *confidence-guided* labels.

    K     tags of an image, in the given order      N      patches, row-major (gh x gw)
    cam   (K, gh, gw) activation maps, 0..1         plane  a map at the image's size; background first

As coded by the authors: one scale, no flip; maps are scaled twice by (z - min) / (1e-7 + range); boxes lose
the last grid row and column (`lose_border`), so an image with a single row of patches is all background;
planes are rounded to float16 (`half_planes`) before the argmax.

Departures: an image without tags is all background (the authors' program stops), or `ignore_index` where
there is no background plane; patches that receive no attention have zero affinity (the authors divide by 0).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Integer
from torch import Tensor

from tagmask.checks import check_number
from tagmask.clip.load import Clip
from tagmask.dense.boxes import component_boxes_union
from tagmask.dense.features import CaptureSpec, TowerFeatures, extract_features
from tagmask.dense.gradcam import softmax_gradcam
from tagmask.dense.positions import bilinear_half_always
from tagmask.dense.windows import resize_matrix
from tagmask.errors import InputError
from tagmask.method import Method
from tagmask.papers.clip_es_settings import ClipEsSettings, tagclip_settings
from tagmask.papers.tagclip import patch_cosines, preprocess_bicubic, scaled_layers
from tagmask.refine.affinity import balanced
from tagmask.refine.cda import class_distributions, combined, distribution_affinity
from tagmask.types import Image, Size, TextFeatures

__all__ = [
    "METHODS",
    "ClassTexts",
    "ClipEsSettings",
    "captured",
    "check_tags",
    "clamped_planes",
    "crf_labels",
    "crf_probabilities",
    "encode_image",
    "full_size_maps",
    "fuse_names",
    "label_pixels",
    "tag_maps",
    "with_background",
]

_RANGE_EPSILON = 1e-7
_MIN_PROBABILITY = 1e-5
"""Lower bound of a plane before the CRF takes its logarithm."""
_STRIP = 2**24
"""Values in one strip of full-resolution planes: 64 MiB in float32."""


@dataclass(frozen=True, eq=False)
class ClassTexts:
    """Unit text features, one row per class."""

    foreground: Float[Tensor, "f e"]
    background: Float[Tensor, "q e"]
    """Background words, which compete with every tag. Without them a single tag has nothing to compete with:
    no gradient and an empty map."""


def encode_image(
    clip: Clip, image: Image, settings: ClipEsSettings, *, attention: bool = True
) -> TowerFeatures:
    """Extract the tower features that `tag_maps` needs; without attention, what Grad-CAM needs.

    TagCLIP's features serve as well if they include what is `captured` here. The two differ only
    where the position table is not resized, and only by its rounding to float16.
    """
    pixels = preprocess_bicubic(clip, image, tagclip_settings(settings))
    capture = captured(settings, len(clip.vision.blocks)) if attention else None
    return extract_features(clip.vision, pixels[None], bilinear_half_always, capture=capture)


def captured(settings: ClipEsSettings, depth: int) -> CaptureSpec:
    """What must be captured from the layers before the last of a tower of `depth` layers."""
    layers = frozenset(scaled_layers(settings.attention_layers, depth)) - {depth - 1}
    return CaptureSpec(averages=frozenset({layers} if layers else ()))


@torch.inference_mode()
def tag_maps(
    clip: Clip, tower: TowerFeatures, texts: ClassTexts, tags: Sequence[int], settings: ClipEsSettings
) -> Float[Tensor, "K gh gw"]:
    """Return the refined map of each tag on the patch grid, 0..1.

    Raises:
        InputError: a tag is repeated or out of range, or `tower` lacks what is `captured`.
    """
    check_tags(tags, len(texts.foreground))
    if not len(tags):
        return texts.foreground.new_zeros(0, *tower.grid)
    maps = activation_maps(clip, tower, texts, tags, settings)
    attention = patch_attention(tower, settings)
    if settings.affinity == "cda":
        return min_max_scaled(cda_maps(maps, attention, tower, texts, settings))
    return min_max_scaled(refine_maps(maps, attention, settings))


# -- Text ------------------------------------------------------------------------------------------------


def fuse_names(lines: Sequence[str]) -> tuple[str, ...]:
    """Return one text per class, with its synonyms joined by commas as in the paper's class names.

    Example:
        >>> fuse_names(["cat", "dog, puppy"])
        ('cat', 'dog,puppy')
    """
    return tuple(",".join(name.strip() for name in line.split(", ")) for line in lines)


def competing_texts(texts: ClassTexts, tags: Sequence[int]) -> TextFeatures:
    """Texts of the softmax: the image's tags, then the background; no other class."""
    return torch.cat([texts.foreground[list(tags)], texts.background])


# -- Softmax Grad-CAM ------------------------------------------------------------------------------------


def activation_maps(
    clip: Clip, tower: TowerFeatures, texts: ClassTexts, tags: Sequence[int], settings: ClipEsSettings
) -> Float[Tensor, "K gh gw"]:
    """Scaled Grad-CAM of each tag. A map that is 0 everywhere stays 0."""
    competing = competing_texts(texts, tags)
    maps = softmax_gradcam(tower, competing, range(len(tags)), clip.logit_scale).maps
    for _ in range(settings.scalings):
        maps = min_max_scaled(maps)
    return maps


def min_max_scaled(maps: Float[Tensor, "K gh gw"]) -> Float[Tensor, "K gh gw"]:
    """Scale each map to about 0..1: the denominator is its range + 1e-7."""
    shifted = maps - maps.amin(dim=(1, 2), keepdim=True)
    return shifted / (_RANGE_EPSILON + shifted.amax(dim=(1, 2), keepdim=True))


# -- CAA: class-aware attention-based affinity -----------------------------------------------------------


def patch_attention(tower: TowerFeatures, settings: ClipEsSettings) -> Float[Tensor, "N N"]:
    """Average the attention maps of the settings' layers; no class token, so rows sum to less than 1.

    Raises:
        InputError: `tower` lacks what is `captured`.
    """
    layers = scaled_layers(settings.attention_layers, len(tower.vision.blocks))
    return tower.average_attention(set(layers))[0, 1:, 1:]


def refine_maps(
    maps: Float[Tensor, "K gh gw"], attention: Float[Tensor, "N N"], settings: ClipEsSettings
) -> Float[Tensor, "K gh gw"]:
    """Spread each map along the affinity, from the patches in its boxes to all patches; not scaled."""
    threshold = torch.full((len(maps),), settings.box_threshold, dtype=torch.float64)
    boxes, _ = component_boxes_union(maps, threshold, lose_border=settings.lose_border)
    affinity = balanced(attention, rounds=settings.sinkhorn_rounds)
    spread = affinity.spread((boxes * maps).flatten(1), times=settings.affinity_power)
    return spread.view_as(maps)


def cda_maps(
    maps: Float[Tensor, "K gh gw"],
    attention: Float[Tensor, "N N"],
    tower: TowerFeatures,
    texts: ClassTexts,
    settings: ClipEsSettings,
) -> Float[Tensor, "K gh gw"]:
    """Spread each map along CLIP-ES's affinity combined with CDA's (`refine.cda`); no boxes, not scaled.

    The class distribution of a patch is over the texts of all classes and of the background, tags or not. Its
    features are TagCLIP's: the value path of the last block, in which patches do not mix.
    """
    every = torch.cat([texts.foreground, texts.background])
    distributions = class_distributions(patch_cosines(tower, every, keep_attention=False).float())
    affinity = combined(
        distribution_affinity(distributions, settings.cda_tau),
        balanced(attention, rounds=settings.sinkhorn_rounds),
        settings.cda_combination,
    )
    return affinity.spread(maps.flatten(1), times=settings.cda_steps).view_as(maps)


# -- Masks -----------------------------------------------------------------------------------------------


def full_size_maps(maps: Float[Tensor, "K gh gw"], size: Size) -> Float16[np.ndarray, "K h w"]:
    """Resize maps from `tag_maps` to the image's (h, w), in float16: what the authors' program saves."""
    full = np.empty((len(maps), *size), np.float16)
    for rows, strip in _strips(maps, size):
        full[:, rows] = strip.half().cpu().numpy()
    return full


def label_pixels(
    maps: Float[Tensor, "K gh gw"],
    size: Size,
    tags: Sequence[int],
    settings: ClipEsSettings,
    *,
    ignore_index: int,
    keep_scores: bool = False,
    observe: Callable[[int, Float[np.ndarray, "planes strip w"]], None] | None = None,
) -> tuple[Integer[np.ndarray, "h w"], Float[np.ndarray, "planes h w"] | None]:
    """Label each pixel by its greatest plane, in strips of rows so that memory does not grow with the image.

    Args:
        maps: from `tag_maps`.
        size: (h, w) of the image.
        tags: the class of each map.
        settings: the method's settings.
        ignore_index: the label of all pixels if there is no plane at all.
        keep_scores: also return the planes: background first if there is one, then one per tag.
        observe: called with each strip's first row and its planes, if there are any.

    Returns:
        Labels (int32): 0 for the background and tag + 1 elsewhere, or the tag itself if there is no
        background plane; and the planes or None. The first plane wins ties.
    """
    height, width = size
    has_background = settings.background_power is not None
    labels = np.full(size, ignore_index, np.int32)
    scores = np.zeros((len(tags) + has_background, height, width), np.float32) if keep_scores else None
    for rows, strip in _strips(maps, size):
        planes = with_background(strip, settings)
        if len(planes):
            labels[rows] = _plane_labels(planes.max(dim=0).indices, tags, has_background)
            if observe is not None:
                observe(rows.start, planes.cpu().numpy())
        if scores is not None:
            scores[:, rows] = planes.cpu().numpy()
    return labels, scores


def _strips(maps: Float[Tensor, "K gh gw"], size: Size) -> Iterator[tuple[slice, Float[Tensor, "K strip w"]]]:
    """Yield groups of the image's rows, and the maps there."""
    down, across = (resize_matrix(*axis).to(maps) for axis in zip(maps.shape[1:], size, strict=True))
    height = max(1, _STRIP // (size[1] * (len(maps) + 1)))
    for top in range(0, size[0], height):
        rows = slice(top, min(top + height, size[0]))
        yield rows, down[rows] @ maps @ across.T


def with_background(maps: Float[Tensor, "K h w"], settings: ClipEsSettings) -> Float[Tensor, "planes h w"]:
    """Prepend the background plane, if the settings have one; round to float16 with `half_planes`."""
    planes = maps.half() if settings.half_planes else maps
    if settings.background_power is not None:
        # Without tags everything is background.
        foreground = planes.amax(dim=0) if len(planes) else planes.new_zeros(planes.shape[1:])
        planes = torch.cat([((1 - foreground) ** settings.background_power)[None], planes])
    return planes.float()


def _plane_labels(
    index: Integer[Tensor, "h w"], tags: Sequence[int], has_background: bool
) -> Integer[np.ndarray, "h w"]:
    """Map plane indices to labels."""
    table = np.array([0, *(tag + 1 for tag in tags)] if has_background else tags, np.int32)
    labels: Integer[np.ndarray, "h w"] = table[index.cpu().numpy()]
    return labels


# -- Input and output of the dense CRF -------------------------------------------------------------------


def crf_probabilities(
    maps: Float[Tensor, "K gh gw"], size: Size, settings: ClipEsSettings
) -> Float[np.ndarray, "planes h w"]:
    """Return the planes as the CRF's input: clamped to 1e-5..1, not normalised to sum to 1.

    With `half_planes` their negative logarithm is computed in float16, as in the authors' program.
    """
    planes = [with_background(strip, settings) for _, strip in _strips(maps, size)]
    return clamped_planes(torch.cat(planes, dim=1), settings)


def clamped_planes(
    planes: Float[Tensor, "planes h w"], settings: ClipEsSettings
) -> Float[np.ndarray, "planes h w"]:
    """Return planes from `with_background` as `crf_probabilities` does."""
    if settings.half_planes:
        energy = -planes.half().clamp(min=_MIN_PROBABILITY, max=1).log()
        return torch.exp(-energy.float()).cpu().numpy()
    return planes.clamp(min=_MIN_PROBABILITY, max=1).cpu().numpy()


def crf_labels(
    probabilities: Float[np.ndarray, "planes h w"],
    tags: Sequence[int],
    settings: ClipEsSettings,
    *,
    ignore_index: int,
) -> tuple[Integer[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """Return the labels after the CRF, and the confidence of each.

    Args:
        probabilities: the CRF's output, one map per plane.
        tags: the class of each plane after the background's.
        settings: the method's settings.
        ignore_index: the label of pixels below `settings.confidence`, and of all pixels without planes.

    Returns:
        Labels as in `label_pixels`, and the greatest probability of each pixel (0 without planes).
    """
    if not len(probabilities):
        size = probabilities.shape[1:]
        return np.full(size, ignore_index, np.int32), np.zeros(size, np.float32)
    best = torch.from_numpy(probabilities).max(dim=0)
    labels = _plane_labels(best.indices, tags, settings.background_power is not None)
    confidence = best.values.numpy()
    if settings.confidence is not None:
        labels = np.where(confidence < np.float32(settings.confidence), np.int32(ignore_index), labels)
    return labels, confidence


# -- Checks ----------------------------------------------------------------------------------------------


def check_tags(tags: Sequence[int], classes: int) -> None:
    """Check that every tag is a foreground class, given once.

    Raises:
        InputError: a tag is repeated or out of range; the message names it.
    """
    for tag in tags:
        check_number("a tag", tag, 0, classes - 1, whole=True)
    if len(set(tags)) < len(tags):
        raise InputError(f"Tags {tuple(tags)} repeat a class. Give each class once.")


METHODS = (
    Method(
        name="clip-es",
        kind="tag_first",
        summary="masks of given tags by Grad-CAM and attention affinity",
        source="CLIP-ES, Lin et al., CVPR 2023",
        settings=ClipEsSettings,
    ),
)
