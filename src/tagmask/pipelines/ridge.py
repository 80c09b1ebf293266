"""Ridge regression of corrections on patch features, with the penalty chosen by leaving images out.

    X  patches, unit features           (p, e)
    P  today's scores of the classes    (p, c)
    Y  the true shares of the classes   (p, c)
    w  weights of the patches           (p)

    D = argmin sum_p w_p |X_p D - (Y_p - P_p)|^2 + penalty |D|^2

X itself is never held for all images: only X^T w X, e x e, which grows image by image. Without an image,
X^T w X and X^T w (Y - P) are those of all images minus its own, so that leaving it out needs no second pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

__all__ = ["DEFAULT_PENALTY", "NormalEquations", "PatchRows", "Validation", "mean_iou", "validate"]

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(-4, 7))
"""0.01 to 1000 in half powers of ten, in patches: features are unit vectors."""
DEFAULT_PENALTY = 1.0
"""Where there is one image, so that none can be left out."""


@dataclass(frozen=True, eq=False)
class PatchRows:
    """The patches of one image, on the CPU."""

    features: Float32[Tensor, "p e"] = field(repr=False)
    scores: Float32[Tensor, "p c"] = field(repr=False)
    truth: Float32[Tensor, "p c"] = field(repr=False)
    weights: Float32[Tensor, " p"] = field(repr=False)
    """Share of each patch's pixels that have a class."""

    @property
    def residuals(self) -> Float32[Tensor, "p c"]:
        """What is to be added to the scores."""
        return self.truth - self.scores


class NormalEquations:
    """X^T w X and X^T w (Y - P), summed over images."""

    def __init__(self, width: int, classes: int) -> None:
        self.gram: Float64[Tensor, "e e"] = torch.zeros(width, width, dtype=torch.float64)
        self.moments: Float64[Tensor, "e c"] = torch.zeros(width, classes, dtype=torch.float64)
        self.images = 0

    def add(self, rows: PatchRows) -> None:
        """Add one image."""
        gram, moments = _products(rows)
        self.gram += gram
        self.moments += moments
        self.images += 1

    def solve(self, penalty: float) -> Float32[Tensor, "e c"]:
        """Return D; 0 for an infinite penalty."""
        if math.isinf(penalty):
            return torch.zeros_like(self.moments, dtype=torch.float32)
        ridge = penalty * torch.eye(len(self.gram), dtype=torch.float64)
        solved: Tensor = torch.linalg.solve(self.gram + ridge, self.moments)
        return solved.float()


@dataclass(frozen=True)
class Validation:
    """How well images are predicted by a head that was fitted without them."""

    penalty: float
    """The penalty with the best `after`; infinite if no correction is better than none."""
    images: int
    """Number of images that were left out, one at a time."""
    before: float
    """Mean IoU over the classes, 0..1, of today's scores on the patches of these images."""
    after: float
    """The same with the correction."""


def validate(
    equations: NormalEquations, left_out: Sequence[PatchRows], least_gain: float = 0.0
) -> Validation:
    """Choose the penalty by leaving out each of some images.

    The criterion is the mean IoU on the patches left out, not the squared error that the fit minimises: the
    error mostly measures how well the height of the scores is met, and prefers penalties that are ten to a
    hundred times too large for the best class to be the right one.

    Args:
        equations: of all images.
        left_out: the images to leave out, each of which is in `equations`. With a single image in all, the
            default penalty is taken, and nothing is known of the gain.
        least_gain: mean IoU to gain; with less, the penalty is infinite.
    """
    if equations.images < 2 or not left_out:
        return Validation(DEFAULT_PENALTY, 0, math.nan, math.nan)
    candidates = (*PENALTIES, math.inf)
    counts = torch.zeros(len(candidates), *(left_out[0].truth.shape[1],) * 2, dtype=torch.float64)
    for rows in left_out:
        gram, moments = _products(rows)
        values, vectors = torch.linalg.eigh(equations.gram - gram)
        values = values.clamp(min=0)
        turned, moments = rows.features.double() @ vectors, vectors.T @ (equations.moments - moments)
        for i, penalty in enumerate(candidates):
            shrunk = moments / (values + penalty)[:, None]
            counts[i] += _confusion(rows.scores + turned @ shrunk, rows)
    quality = [mean_iou(each) for each in counts]
    best = max(range(len(candidates)), key=lambda i: (quality[i], i))  # of equal ones the largest penalty
    if quality[best] - quality[-1] < least_gain:
        best = len(candidates) - 1
    return Validation(candidates[best], len(left_out), before=quality[-1], after=quality[best])


def mean_iou(counts: Float64[Tensor, "c c"]) -> float:
    """Mean IoU over the classes that occur in the truth or the prediction, 0..1.

    Args:
        counts: patches by true class and predicted class.
    """
    union = counts.sum(dim=0) + counts.sum(dim=1) - counts.diagonal()
    found = union > 0
    return float((counts.diagonal()[found] / union[found]).mean()) if found.any() else math.nan


def _products(rows: PatchRows) -> tuple[Float64[Tensor, "e e"], Float64[Tensor, "e c"]]:
    features = rows.features.double()
    weighted = (features * rows.weights[:, None]).T
    return weighted @ features, weighted @ rows.residuals.double()


def _confusion(scores: Float[Tensor, "p c"], rows: PatchRows) -> Float64[Tensor, "c c"]:
    """A patch counts for each true class by the class's share of it."""
    counts = torch.zeros(rows.truth.shape[1], rows.truth.shape[1], dtype=torch.float64)
    shares = (rows.truth * rows.weights[:, None]).double()
    return counts.index_add_(0, scores.argmax(dim=1), shares).T
