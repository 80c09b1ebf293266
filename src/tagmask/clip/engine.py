"""What may run the first blocks of an image tower in place of torch."""

from collections.abc import Mapping, Set
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from tagmask.types import Tokens

__all__ = ["Engine"]


@runtime_checkable
class Engine(Protocol):
    """Runs blocks 0 to n of an image tower with their attention as trained. Called by several threads."""

    @property
    def precision(self) -> str:
        """The lowest precision of its matrix products: "float32", "bfloat16" or "int8"."""

    @property
    def identity(self) -> Mapping[str, str]:
        """All that decides its results, the weights excluded; part of a run's fingerprint."""

    def __call__(
        self, x: Tokens, layers: Set[int], bias: Float[Tensor, "#b #heads n n"] | None = None
    ) -> Mapping[int, Tokens]:
        """Run the blocks from the first to the last of `layers`.

        Args:
            x: the tokens before the first block.
            layers: blocks whose output is returned, counted from 0.
            bias: added to the attention logits of every block.

        Returns:
            The residual stream (float32) at the output of each of these blocks.
        """
