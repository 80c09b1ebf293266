"""PSA: pixel-level semantic affinity, the step from MCTformer's maps to its pseudo-masks.

    J. Ahn, S. Kwak. "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
    Supervised Semantic Segmentation", CVPR 2018; as MCTformer's authors use it.

    cell     8 x 8 pixels; gh x gw cells                 f_i  features of cell i
    pair     two cells less than 5 cells apart           a_ij = exp(-mean over channels |f_i - f_j|)
    T        a_ij ** 8, columns normalised; 0 for cells that are no pair, 1 before normalising for i = j
    walk     maps T ** 64, with maps as row vectors over cells

As coded, only cells outside the last 4 rows and the 4 outer columns of both sides start pairs; the others are
second members only. So cells in the lower corners are in no pair. The walk is 64 products with the sparse T;
its power, which the authors form, is never needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.checks import check_number
from tagmask.errors import ShapeError
from tagmask.types import Size

__all__ = [
    "BACKGROUND_SCORE",
    "CELL",
    "OFFSETS",
    "UNLABELLED",
    "AffinityHead",
    "PairLabels",
    "affinity_labels",
    "affinity_loss",
    "pair_affinities",
    "pair_labels",
    "random_walk",
    "walked_maps",
]

CELL: Final = 8
"""Side of a cell in pixels."""
BACKGROUND_SCORE: Final = 0.39
"""Score of the background in every pixel, which takes part in the walk."""
UNLABELLED: Final = 255
"""Label of cells that are in no labelled pair."""
_REACH: Final = 4
OFFSETS: Final[tuple[tuple[int, int], ...]] = tuple(
    (dy, dx)
    for dy in range(_REACH + 1)
    for dx in range(-_REACH, _REACH + 1)
    if dy * dy + dx * dx < (_REACH + 1) ** 2 and (dy > 0 or dx > 0)
)
"""Offsets (rows, columns) from the first to the second cell of a pair."""
_EPS: Final = 1e-5
_POWER: Final = 8
_STEPS: Final = 64

Features: TypeAlias = Float[Tensor, "b d gh gw"]
PairValues: TypeAlias = Float[Tensor, "b o s"]
"""One value per offset and starting cell (row-major)."""
PairMask: TypeAlias = Bool[Tensor, "b o s"]


class AffinityHead(nn.Module):
    """Features of cells for the affinity, from three stages of a convolutional network.

    Each stage, and then all of them together, go through a 1x1 convolution without a bias and an ELU.

    Args:
        inputs: channels of the stages; ResNet38's by default.
        parts: channels that each is reduced to.
    """

    def __init__(
        self, inputs: Sequence[int] = (512, 1024, 4096), parts: Sequence[int] = (64, 128, 256)
    ) -> None:
        super().__init__()
        self.f8_3, self.f8_4, self.f8_5 = (
            nn.Conv2d(before, after, 1, bias=False) for before, after in zip(inputs, parts, strict=True)
        )
        self.f9 = nn.Conv2d(sum(parts), sum(parts), 1, bias=False)
        for layer in (self.f8_3, self.f8_4, self.f8_5):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(
        self,
        first: Float[Tensor, "b d4 gh gw"],
        second: Float[Tensor, "b d5 gh gw"],
        third: Float[Tensor, "b d6 gh gw"],
    ) -> Features:
        """Compute the features; all stages have the grid of cells."""
        parts = [F.elu(self.f8_3(first)), F.elu(self.f8_4(second)), F.elu(self.f8_5(third))]
        return F.elu(self.f9(torch.cat(parts, dim=1)))


# -- Pairs ---------------------------------------------------------------------------------------------------


def pair_affinities(features: Features) -> PairValues:
    """Affinity of each pair, in 0..1. A grid of 4 rows or 8 columns, or fewer, has no pairs."""
    first, seconds = _pairs(features)
    return torch.stack([torch.exp(-(first - second).abs().mean(dim=1)) for second in seconds], dim=1)


@dataclass(frozen=True, eq=False)
class PairLabels:
    """Which pairs count in the loss, and as what."""

    background: PairMask
    """Both cells are background."""
    foreground: PairMask
    """Both cells have the same class."""
    negative: PairMask
    """The cells differ."""


def pair_labels(labels: UInt8[Tensor, "b gh gw"]) -> PairLabels:
    """Label pairs from the labels of cells: 0 background, classes from 1, or `UNLABELLED`."""
    first, seconds = _pairs(labels[:, None])
    known = torch.stack([(first != UNLABELLED) & (each != UNLABELLED) for each in seconds], dim=1)[:, :, 0]
    same = torch.stack([first == each for each in seconds], dim=1)[:, :, 0]
    empty = (first == 0).expand(-1, len(OFFSETS), -1)
    return PairLabels(known & same & empty, known & same & ~empty, known & ~same)


def affinity_loss(affinities: PairValues, labels: PairLabels) -> dict[str, Tensor]:
    """Mean loss of a batch's pairs of each kind, and "total": a quarter, a quarter and a half of these."""
    near, far = -torch.log(affinities + _EPS), -torch.log(1 + _EPS - affinities)
    terms = {
        "background": _mean(near, labels.background),
        "foreground": _mean(near, labels.foreground),
        "negative": _mean(far, labels.negative),
    }
    total = terms["background"] / 4 + terms["foreground"] / 4 + terms["negative"] / 2
    return {**terms, "total": total}


def _mean(values: PairValues, chosen: PairMask) -> Float[Tensor, ""]:
    return (values * chosen).sum() / (chosen.sum() + _EPS)


def _pairs(values: Tensor) -> tuple[Tensor, list[Tensor]]:
    """First members of all pairs (b, d, s), and the second members for each offset."""
    h, w = _starts((values.shape[-2], values.shape[-1]))
    first = values[..., :h, _REACH : _REACH + w].flatten(2)
    seconds = [values[..., dy : dy + h, _REACH + dx : _REACH + dx + w].flatten(2) for dy, dx in OFFSETS]
    return first, seconds


def _starts(grid: Size) -> Size:
    """Size of the block of cells that start pairs."""
    h, w = grid[0] - _REACH, grid[1] - 2 * _REACH
    return (h, w) if h > 0 and w > 0 else (0, 0)


# -- Labels --------------------------------------------------------------------------------------------------


def affinity_labels(low: Float[Tensor, "k h w"], high: Float[Tensor, "k h w"]) -> UInt8[Tensor, "gh gw"]:
    """Label cells where two readings of the scores agree, from scores of a training crop.

    A cell has a class where the low background power's scores say so, and is background where the high
    power's still do.

    Args:
        low: scores for background power 1, background first; 0 outside the image.
        high: scores for background power 12.

    Returns:
        0 background, position of the class in the first axis, or `UNLABELLED`.

    Raises:
        ShapeError: planes that differ in shape, or whose sides are no multiples of a cell.
    """
    if low.shape != high.shape or low.shape[1] % CELL or low.shape[2] % CELL:
        raise ShapeError(
            f"The scores are {tuple(low.shape)} and {tuple(high.shape)}. Expected one shape (k, h, w), with "
            f"sides that are multiples of {CELL}."
        )
    sure, background = (F.avg_pool2d(each[None].float(), CELL)[0] for each in (low, high))
    labels = sure.argmax(dim=0).to(torch.uint8)
    labels[labels == 0] = UNLABELLED
    labels[background.argmax(dim=0) == 0] = 0
    labels[torch.cat([sure, background]).amax(dim=0) < _EPS] = UNLABELLED
    return labels


# -- Random walk ---------------------------------------------------------------------------------------------


def random_walk(
    maps: Float[Tensor, "c gh gw"], affinities: Float[Tensor, "o s"], steps: int = _STEPS
) -> Float[Tensor, "c gh gw"]:
    """Spread maps along the affinities.

    Args:
        maps: one per class, on the grid of cells.
        affinities: of an image, from `pair_affinities`.
        steps: products with the transition matrix.
    """
    check_number("steps", steps, 0, whole=True)
    weights = affinities**_POWER
    norm = _spread(torch.ones_like(maps[:1]), weights)
    for _ in range(steps):
        maps = _spread(maps, weights) / norm
    return maps


def _spread(maps: Float[Tensor, "c gh gw"], weights: Float[Tensor, "o s"]) -> Float[Tensor, "c gh gw"]:
    """Product with the symmetric matrix of weights, whose diagonal is 1."""
    h, w = _starts((maps.shape[1], maps.shape[2]))
    result, own = maps.clone(), (slice(None), slice(0, h), slice(_REACH, _REACH + w))
    for (dy, dx), row in zip(OFFSETS, weights, strict=True):
        other = (slice(None), slice(dy, dy + h), slice(_REACH + dx, _REACH + dx + w))
        weight = row.reshape(h, w)
        result[own] += weight * maps[other]
        result[other] += weight * maps[own]
    return result


def walked_maps(
    maps: Float[Tensor, "c h w"], affinities: Float[Tensor, "o s"], background: float = BACKGROUND_SCORE
) -> Float[Tensor, "c1 h w"]:
    """Refine an image's localisation maps by the random walk.

    Args:
        maps: of the classes of its tags, 0..1, at the image's size.
        affinities: of the image, padded right and below to a multiple of a cell.
        background: score of the background.

    Returns:
        The background's map, then those of the classes. As coded, padding has the score 0 for the
        background too, so cells that the image covers in part weigh less.
    """
    h, w = maps.shape[1:]
    scores = torch.cat([maps.new_full((1, h, w), background), maps])
    padded = F.pad(scores, (0, -w % CELL, 0, -h % CELL))
    walked = random_walk(F.avg_pool2d(padded[None], CELL)[0], affinities)
    full = F.interpolate(walked[None], size=padded.shape[1:], mode="bilinear", align_corners=False)
    return full[0, :, :h, :w]
