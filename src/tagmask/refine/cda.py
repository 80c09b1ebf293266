"""CDA: affinity of patches whose distributions over all classes are alike.

    Z. Yang, X. Zhao, X. Wang, Q. Zhang, J. Xiao. "Leveraging Class Distributions in CLIP for Weakly
    Supervised Semantic Segmentation", CVPR 2026: its class-distribution-aware (CDA) module.

    P_i = softmax over the texts of patch i's cosines, scaled to 0..1 by their minimum and maximum
    S   = (1 - JS(P_i, P_j)) / tau         JS: Jensen-Shannon divergence, natural logarithm, 0..log 2
    A   = softmax over j of S              rows sum to 1
    M   = A T, or A ⊙ T                    T: CLIP-ES's affinity; rows divided by their sums again
    cam' = cam Mᵗ                          cam: maps as rows; t steps; no boxes

Attention often misses that two patches belong to one object; texts of all classes and of the background tell.
The formulas are those of the paper's summary. Not verified in it, and chosen here: that the minimum and the
maximum are each patch's own, and which patch features the cosines are of (`papers.clip_es`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.errors import ShapeError
from tagmask.refine.affinity import Affinity

__all__ = ["COMBINATIONS", "CombinedAffinity", "class_distributions", "combined", "distribution_affinity"]

COMBINATIONS = ("product", "elementwise")
_STRIP = 2**22
"""Numbers in one strip of pairs of patches and texts: 16 MiB in float32."""


def class_distributions(cosines: Float[Tensor, "p q"]) -> Float[Tensor, "p q"]:
    """Turn each patch's cosines with all texts into a distribution: scaled to 0..1, then a softmax.

    Example:
        >>> class_distributions(torch.tensor([[0.2, 0.3], [0.1, 0.1]]))
        tensor([[0.2689, 0.7311],
                [0.5000, 0.5000]])
    """
    least = cosines.amin(dim=1, keepdim=True)
    extent = cosines.amax(dim=1, keepdim=True) - least
    # A patch to which all texts are alike has no preference.
    return torch.softmax((cosines - least) / extent.clamp(min=torch.finfo(cosines.dtype).tiny), dim=1)


def divergences(one: Float[Tensor, "r q"], other: Float[Tensor, "p q"]) -> Float[Tensor, "r p"]:
    """Jensen-Shannon divergence of every distribution of `one` with every one of `other`; natural logarithm.

    It is half the sum of m ((1 + x) log(1 + x) + (1 - x) log(1 - x)), with m the mean of both and x their
    difference over their sum. Differences of entropies would lose what small divergences consist of.
    """
    mean = (one[:, None] + other) / 2
    x = (one[:, None] - other) / (2 * mean)
    terms = torch.special.xlog1py(1 + x, x) + torch.special.xlog1py(1 - x, -x)
    divergence: Tensor = (mean * terms).sum(dim=2) / 2
    return divergence


def distribution_affinity(distributions: Float[Tensor, "p q"], tau: float) -> Float[Tensor, "p p"]:
    """Return A: the softmax over j of (1 - JS(P_i, P_j)) / tau.

    Args:
        distributions: of each patch over the texts; positive, rows sum to 1.
        tau: temperature. It is to be compared with divergences, which are far below log 2: scaled cosines
            give flat distributions.
    """
    patches, texts = distributions.shape
    affinity = distributions.new_empty(patches, patches)
    for rows in torch.arange(patches).split(max(1, _STRIP // (patches * texts))):
        divergence = divergences(distributions[rows], distributions)
        affinity[rows] = torch.softmax((1 - divergence) / tau, dim=1)
    return affinity


@dataclass(frozen=True, eq=False)
class CombinedAffinity:
    """M, by which rows of maps are multiplied; its rows sum to 1, or to 0 for patches without affinity."""

    matrix: Float[Tensor, "p p"]
    """M without what `then` multiplies."""
    then: Affinity | None
    """T of a product A T, which is never computed."""

    def spread(self, maps: Float[Tensor, "k p"], *, times: int) -> Float[Tensor, "k p"]:
        """Return maps Mᵗ.

        Args:
            maps: one per row.
            times: t; 0 returns the maps unchanged.

        Raises:
            ShapeError: the maps have a different number of patches.
        """
        if maps.shape[1] != len(self.matrix):
            raise ShapeError(
                f"Got maps of {maps.shape[1]} patches for an affinity of {len(self.matrix)}. "
                "Give maps on the grid of the affinity."
            )
        for _ in range(times):
            maps = maps @ self.matrix
            if self.then is not None:
                maps = self.then.spread(maps, times=1)
        return maps


def combined(cda: Float[Tensor, "p p"], attention: Affinity, combination: str) -> CombinedAffinity:
    """Combine both affinities, and divide the rows by their sums.

    Args:
        cda: from `distribution_affinity`.
        attention: CLIP-ES's, symmetric.
        combination: one of `COMBINATIONS`.

    Example:
        >>> from tagmask.refine.affinity import balanced
        >>> attention = balanced(torch.tensor([[0.6, 0.2], [0.2, 0.6]]))
        >>> combined(torch.tensor([[0.5, 0.5], [0.1, 0.9]]), attention, "elementwise").matrix
        tensor([[0.7500, 0.2500],
                [0.0357, 0.9643]])
    """
    least = torch.finfo(cda.dtype).tiny
    if combination == "elementwise":
        matrix = cda * attention.spread(torch.eye(len(cda), dtype=cda.dtype, device=cda.device), times=1)
        return CombinedAffinity(matrix / matrix.sum(dim=1, keepdim=True).clamp(min=least), None)
    # Row sums of A T are A applied to those of T, which is symmetric.
    sums = cda @ attention.spread(cda.new_ones(1, len(cda)), times=1)[0]
    return CombinedAffinity(cda / sums.clamp(min=least)[:, None], attention)
