"""Attention as an affinity between patches, and score maps spread along it.

Attention says how much each patch takes from each other one. Balanced (rows and columns near sum 1) and made
symmetric, it says how alike two patches are, and a score travels to where it belongs.

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
    """A symmetric affinity T, held as the attention and two scales: no further p x p array."""

    attention: Float[Tensor, "p p"]
    rows: Float[Tensor, " p"]
    columns: Float[Tensor, " p"]

    def spread(self, maps: Float[Tensor, "k p"], *, times: int = 2) -> Float[Tensor, "k p"]:
        """T applied to every map, `times` times.

        T (T z) is the published (T T) z, at 2 k p² products instead of p³.

        Args:
            maps: one a row, any real numbers. To let some patches not speak, set them to 0 before.
            times: the power of T; 0 gives the maps back.

        Raises:
            ShapeError: the maps have another number of patches.
            InputError: negative `times`.
        """
        if maps.shape[1] != len(self.rows):
            raise ShapeError(
                f"got maps of {maps.shape[1]} patches for an affinity of {len(self.rows)}; "
                "give maps on the grid that the attention was read from"
            )
        if times < 0:
            raise InputError(f"got {times} times; give 0 or more")
        for _ in range(times):
            forth = (maps * self.columns) @ self.attention.T * self.rows
            back = (maps * self.rows) @ self.attention * self.columns
            maps = (forth + back) / 2
        return maps


def balanced(attention: Float[Tensor, "p p"], *, rounds: int = 3) -> Affinity:
    """Sinkhorn: divide by column sums, then by row sums, `rounds` times; symmetric after that.

    Args:
        attention: at least 0; rows need not sum to 1.
        rounds: of column and row division; 0 only makes it symmetric.

    Returns:
        The affinity, in the attention's dtype. It is not quite balanced: the last step was the rows', and
        the mean with the transpose comes after. A patch that nobody attends to has affinity 0.

    Raises:
        InputError: negative `rounds`.

    Source:
        Class-aware attention affinity of CLIP-ES (CVPR 2023), as coded by the authors, who divide the whole
        matrix each time; only the two scales change.

    Example:
        >>> affinity = balanced(torch.tensor([[0.6, 0.2], [0.2, 0.6]]))
        >>> affinity.spread(torch.eye(2), times=1)
        tensor([[0.7500, 0.2500],
                [0.2500, 0.7500]])
    """
    if rounds < 0:
        raise InputError(f"got {rounds} rounds; give 0 or more")
    least = torch.finfo(attention.dtype).tiny
    rows = columns = attention.new_ones(len(attention))
    for _ in range(rounds):
        columns = 1 / (rows @ attention).clamp_(min=least)
        rows = 1 / (attention @ columns).clamp_(min=least)
    return Affinity(attention, rows, columns)
