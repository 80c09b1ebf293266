"""An engine that runs the blocks in torch and records what it was asked for."""

from collections.abc import Mapping, Set

from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.clip.model import Block
from tagmask.types import Tokens

__all__ = ["TorchBlocks", "with_torch_blocks"]


class TorchBlocks:
    precision = "int8"
    identity: Mapping[str, str] = {"name": "test", "precision": "int8"}

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.calls: list[tuple[set[int], bool]] = []

    def __call__(
        self, x: Tokens, layers: Set[int], bias: Float[Tensor, "#b #heads n n"] | None = None
    ) -> Mapping[int, Tokens]:
        self.calls.append((set(layers), bias is not None))
        outputs = {}
        for layer in range(max(layers) + 1):
            x = self.blocks[layer](x, bias)
            outputs[layer] = x
        return {layer: outputs[layer] for layer in layers}


def with_torch_blocks(clip: Clip) -> tuple[Clip, TorchBlocks]:
    engine = TorchBlocks(clip.vision.blocks[:-1])
    return clip.with_engine(engine), engine
