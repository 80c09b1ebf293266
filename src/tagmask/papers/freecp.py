"""FreeCP: drops the words that an image does not contain, then masks with the propagated maps of the others.

    Q. Chen, L. Yang, Y. Chen, N. Zhao, J. Lai, J. Shao, X. Xie. "Training-Free Class Purification for
    Open-Vocabulary Semantic Segmentation", ICCV 2025.

In the paper's order, for one window: *propagation* of each class's map along the averaged self-attention;
*redundancy purification* (RP) drops classes whose map is not the same before and after; *ambiguity
purification* (AP) decides by crops among classes whose propagated maps coincide. The propagated maps of the
classes left are the scores.

    p   patches, gh x gw, row-major        A  (p, p) attention of all layers but the last, averaged
    P   (c, gh, gw) softmax over all texts M  P, scaled by one minimum and maximum of the window
    R   (c, gh, gw) propagated M, 0..1     s  (c,) agreement of P and R, 0..0.5

As coded by the authors, which is not as printed: s = Σ P R / Σ (P + R), which orders classes like the paper's
measure s / (1 - s); and AP measures overlap by Σ min / Σ max. Boxes lose the last grid row and column, as in
TagCLIP. The published figures were made with other forms of the base methods (`PurifySettings`).

Departures: a class may have several names and takes its best probability; a window whose maps are flat has
R = 0, where the authors' program divides by 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from tagmask.checks import check_number
from tagmask.dense.boxes import component_boxes_union, contour_boxes
from tagmask.dense.prompts import Names, merge_names
from tagmask.method import Method, OwnWords
from tagmask.papers.preprocessing import InputSettings
from tagmask.refine.affinity import Affinity, balanced

__all__ = [
    "METHODS",
    "FreecpTagSettings",
    "RefinedMaps",
    "ambiguity",
    "box_mask",
    "choose",
    "crops_of",
    "fused_boxes",
    "overlap",
    "probabilities",
    "propagation",
    "redundancy",
    "refine",
    "refine_window",
    "relative_score",
    "scaled",
]

_BOX_THRESHOLD = 0.4
_CROP_SIDE = 112
_EPSILON = 1e-8

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class RefinedMaps:
    """The classes of one window before any is dropped; background texts have no map."""

    maps: Float[Tensor, "c gh gw"]
    """R."""
    scores: Float[Tensor, " c"]
    """s."""


def refine_window(
    cosines: Float[Tensor, "q gh gw"],
    affinity: Affinity,
    names: Names,
    scale: float,
    *,
    background: bool,
) -> RefinedMaps:
    """Propagate the maps of one window and score them.

    Args:
        cosines: of every text with every patch; NaN counts as no evidence.
        affinity: `propagation` of the window's attention.
        names: of the texts.
        scale: the weights' logit scale.
        background: the first class is the background, whose texts compete and have no map.
    """
    if len(names.classes) == int(background):  # no word competes
        return RefinedMaps(cosines.new_zeros(0, *cosines.shape[1:]), cosines.new_zeros(0))
    plain, first = probabilities(cosines, names, scale, background=background)
    shares = scaled(plain)[first:]
    refined = refine(affinity, shares, box_mask(shares))
    return RefinedMaps(refined, redundancy(plain[first:], refined))


def probabilities(
    cosines: Float[Tensor, "q gh gw"], names: Names, scale: float, *, background: bool
) -> tuple[Float[Tensor, "k gh gw"], int]:
    """P: softmax over all texts, then the best name of each class.

    Returns:
        The texts of the background, one by one, then the classes; and the number of the former.
    """
    plain = torch.softmax(cosines.float() * scale, dim=0).nan_to_num(0.0)
    if not background:
        return merge_names(plain, names), 0
    first = sum(owner == 0 for owner in names.owners)
    owners = tuple(owner - 1 for owner in names.owners[first:])
    classes = merge_names(plain[first:], Names(names.classes[1:], names.texts[first:], owners))
    return torch.cat([plain[:first], classes]), first


def scaled(maps: Float[Tensor, "k gh gw"]) -> Float[Tensor, "k gh gw"]:
    """M: scaled to 0..1 by the least and greatest value of all maps together; 0 where all are equal."""
    least, most = maps.min(), maps.max()
    return (maps - least) / (most - least) if bool(most > least) else torch.zeros_like(maps)


def propagation(attention: Float[Tensor, "p p"]) -> Affinity:
    """T before it is squared: A with columns, then rows, divided by their sums, three times; symmetrised.

    The mean over heads and over all layers before the last, without the class token, is A. It is the affinity
    of CLIP-ES with other layers.
    """
    return balanced(attention, rounds=3)


def box_mask(maps: Float[Tensor, "c gh gw"]) -> Bool[Tensor, "c gh gw"]:
    """B: the boxes around each class's regions above 0.4 of its maximum."""
    threshold = torch.full((len(maps),), _BOX_THRESHOLD, dtype=torch.float64)
    return component_boxes_union(maps, threshold)[0]


def refine(
    affinity: Affinity, maps: Float[Tensor, "c gh gw"], mask: Bool[Tensor, "c gh gw"]
) -> Float[Tensor, "c gh gw"]:
    """R: T² (B ⊙ M), each class scaled to 0..1; 0 for a class without a box."""
    spread = affinity.spread((maps * mask).flatten(1), times=2)
    least, most = spread.amin(dim=1, keepdim=True), spread.amax(dim=1, keepdim=True)
    return ((spread - least) / (most - least + _EPSILON)).view_as(maps)


def redundancy(plain: Float[Tensor, "c gh gw"], refined: Float[Tensor, "c gh gw"]) -> Float[Tensor, " c"]:
    """How far each class's map is the same before and after: s = Σ P R / (Σ P + Σ R), 0..0.5."""
    shared = (plain * refined).sum(dim=(1, 2))
    return shared / (plain.sum(dim=(1, 2)) + refined.sum(dim=(1, 2)) + _EPSILON)


def relative_score(s: float) -> float:
    """The paper's measure, s / (1 - s), 0..1.

    Example:
        >>> relative_score(0.5)
        1.0
    """
    return s / (1 - s)


# -- Ambiguity ------------------------------------------------------------------------------------------


def overlap(maps: Float[Tensor, "k gh gw"]) -> Float[Tensor, "k k"]:
    """Σ min / Σ max of every two maps."""
    flat = maps.flatten(1)
    rows = [
        torch.minimum(row, flat).sum(dim=1) / torch.maximum(row, flat).sum(dim=1).clamp(min=_EPSILON)
        for row in flat
    ]
    return torch.stack(rows) if rows else flat.new_zeros(0, 0)


def ambiguity(maps: Float[Tensor, "k gh gw"], threshold: float) -> list[tuple[int, ...]]:
    """Groups of maps that are connected by overlaps of at least `threshold`; a map alone is a group too.

    Example:
        >>> ambiguity(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.9, 0.0]]]), 0.8)
        [(0, 2), (1,)]
    """
    connected = (overlap(maps) >= threshold).tolist()
    groups: list[tuple[int, ...]] = []
    unseen = dict.fromkeys(range(len(maps)))
    while unseen:
        group, waiting = set(), [next(iter(unseen))]
        while waiting:
            member = waiting.pop()
            if member in unseen:
                del unseen[member]
                group.add(member)
                waiting += [other for other in unseen if connected[member][other]]
        groups.append(tuple(sorted(group)))
    return groups


def fused_boxes(maps: Float[Tensor, "k gh gw"]) -> list[Box]:
    """The boxes of a group: one per contour of the mean of its maps, holes included, in cells."""
    return contour_boxes(maps.mean(dim=0), _BOX_THRESHOLD)


def crops_of(
    window: Float[Tensor, "3 h w"], boxes: Sequence[Box], patch: int
) -> Float[Tensor, "k 3 side side"] | None:
    """Cut boxes out of a window and resize each to 112 x 112, whatever its shape; None if one is empty."""
    if any(x0 >= x1 or y0 >= y1 for x0, y0, x1, y1 in boxes):
        return None
    side = max(_CROP_SIDE, patch)
    crops = [
        F.interpolate(
            window[None, :, y0 * patch : y1 * patch, x0 * patch : x1 * patch],
            size=(side, side),
            mode="bilinear",
            align_corners=False,
        )
        for x0, y0, x1, y1 in boxes
    ]
    return torch.cat(crops) if crops else window.new_zeros(0, 3, side, side)


def choose(cosines: Float[Tensor, "crops k"]) -> tuple[int, ...]:
    """The classes of a group with the greatest cosine of some crop; all of them if there are no crops.

    Args:
        cosines: of each crop with each class's description.
    """
    if not len(cosines):
        return tuple(range(cosines.shape[1]))
    return tuple(sorted(set(cosines.max(dim=1).indices.tolist())))


# -- Tags -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FreecpTagSettings(InputSettings):
    """Settings of FreeCP as a tagger, which no paper has: a word is a tag if it is not redundant."""

    base: str = "sclip"
    """The dense method whose maps are scored, with its default settings."""
    redundancy: float = 0.15
    """A tag's agreement, in the best window, exceeds it: s, 0..0.5; shown scores are s / (1 - s)."""
    crop: int = 384
    """Side of a window in pixels."""
    stride: int = 112
    """Pixels from one window to the next."""

    def __post_init__(self) -> None:
        InputSettings.__post_init__(self)
        check_number("redundancy", self.redundancy, 0, 1)
        check_number("crop", self.crop, 1, whole=True)
        check_number("stride", self.stride, 1, self.crop, whole=True)


METHODS = (
    Method(
        name="freecp",
        kind="freecp",
        summary="words whose map is the same before and after propagation (in masks: purify)",
        source="FreeCP, Chen et al., ICCV 2025; as a tagger: this project's use of its redundancy score",
        settings=FreecpTagSettings,
        own_words=OwnWords(templates="sclip_templates80", background=True),
    ),
)
