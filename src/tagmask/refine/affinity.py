"""Attention as an affinity between patches, and propagation of score maps along it.

Attention weights say how much each patch takes from every other. Balanced (rows and columns sum to about 1)
and made symmetric, they measure the similarity of patches, and scores propagate between similar patches.

    p  patches    k  maps    A  attention    S = diag(rows) A diag(columns)    T = (S + Sᵀ) / 2
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.errors import InputError, ShapeError

__all__ = ["Affinity", "balanced"]


@dataclass(frozen=True, eq=False)
class Affinity:
    """A symmetric affinity T, stored as the attention and two scale vectors, without another p x p array."""

    attention: Float[Tensor, "p p"]
    rows: Float[Tensor, " p"]
    columns: Float[Tensor, " p"]

    def spread(self, maps: Float[Tensor, "k p"], *, times: int = 2) -> Float[Tensor, "k p"]:
        """Apply T to every map, `times` times.

        T (T z) is the published (T T) z, at 2 k p² products instead of p³.

        Args:
            maps: one per row, any real numbers. To exclude patches as sources, set them to 0 first.
            times: the power of T; 0 returns the maps unchanged.

        Raises:
            ShapeError: the maps have a different number of patches.
            InputError: negative `times`.
        """
        if maps.shape[1] != len(self.rows):
            raise ShapeError(
                f"Got maps of {maps.shape[1]} patches for an affinity of {len(self.rows)}. "
                "Give maps on the grid of the attention."
            )
        if times < 0:
            raise InputError(f"Cannot apply the affinity {times} times. Give 0 or more.")
        for _ in range(times):
            scaled = (maps * self.columns) @ self.attention.T * self.rows
            transposed = (maps * self.rows) @ self.attention * self.columns
            maps = (scaled + transposed) / 2
        return maps


def balanced(attention: Float[Tensor, "p p"], *, rounds: int = 3) -> Affinity:
    """Balance attention (Sinkhorn): divide by column sums, then by row sums, `rounds` times; then symmetrise.

    Args:
        attention: non-negative; rows need not sum to 1.
        rounds: of column and row division; 0 only symmetrises.

    Returns:
        The affinity, in the attention's dtype. It is not exactly balanced: the last division is by rows, and
        the mean with the transpose follows. A patch that no patch attends to has affinity 0.

    Raises:
        InputError: negative `rounds`.

    Source:
        Class-aware attention affinity of CLIP-ES (CVPR 2023), as coded by the authors, who divide the whole
        matrix each time; here only the two scale vectors change.

    Example:
        >>> affinity = balanced(torch.tensor([[0.6, 0.2], [0.2, 0.6]]))
        >>> affinity.spread(torch.eye(2), times=1)
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """
    if rounds < 0:
        raise InputError(f"Cannot balance with {rounds} rounds. Give 0 or more.")
    least = torch.finfo(attention.dtype).tiny
    rows = columns = attention.new_ones(len(attention))
    for _ in range(rounds):
        columns = 1 / (rows @ attention).clamp_(min=least)
        rows = 1 / (attention @ columns).clamp_(min=least)
    return Affinity(attention, rows, columns)
