"""Blocks whose bfloat16 weights are in the order that a processor's matrix products need.

Torch keeps weights row by row and reorders them in every product. Here oneDNN reorders them once, in place of
the plain ones, and applies the MLP's activation within the product. The values are those of the plain blocks,
but for the activation, whose input is no longer rounded to bfloat16.

A packed block is frozen; gradients pass through it, slowly. Copies of it, by `copy.deepcopy` or pickle, are
plain blocks, and `state_dict` gives plain tensors, so that whatever trains, converts or saves a tower needs
to know nothing of this.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.clip.hardware import cpu_has_bfloat16
from tagmask.clip.model import Activation, Block, Mlp, SelfAttention, Vision
from tagmask.types import Heads, Tokens

__all__ = ["PackedBlock", "can_pack", "pack_blocks", "packed_flops"]

_FUSED: Mapping[Activation | None, tuple[str, str]] = MappingProxyType(
    {None: ("none", ""), F.silu: ("swish", ""), F.gelu: ("gelu", "none")}
)
"""Names and variants of the activations that oneDNN applies within a product."""


class _Product:
    """A frozen linear layer in bfloat16, with an activation."""

    def __init__(
        self, weight: Float[Tensor, "m d"], bias: Float[Tensor, " m"], activation: Activation | None = None
    ) -> None:
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
        self.bias = bias.detach().clone()
        self._activation = activation

    @property
    def weight(self) -> Float[Tensor, "m d"]:
        """The plain weights, computed anew."""
        return self._packed.to_dense()

    def __call__(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b m"]:
        """Compute the product and the activation."""
        x = x.to(torch.bfloat16)
        if x.requires_grad and torch.is_grad_enabled():
            # The packed product has no derivative, and torch would give 0 for it.
            plain = F.linear(x, self.weight, self.bias)
            return plain if self._activation is None else self._activation(plain)
        name, variant = _FUSED[self._activation]
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, name, [], variant)
        return out


class _PackedAttention(SelfAttention):
    def __init__(self, plain: SelfAttention) -> None:
        nn.Module.__init__(self)
        self.heads = plain.heads
        weights, biases = plain.in_proj_weight.chunk(3), plain.in_proj_bias.chunk(3)
        self.inputs = [_Product(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
        self.output = _Product(plain.out_proj.weight, plain.out_proj.bias)

    def project(self, z: Tokens, part: int | None = None) -> Tensor:
        if part is None:
            return torch.cat([project(z) for project in self.inputs], dim=-1)
        return self.inputs[part](z)

    def qkv(self, z: Tokens) -> tuple[Heads, Heads, Heads]:
        z = z.to(torch.bfloat16)
        q, k, v = (self.split(project(z)) for project in self.inputs)
        return q, k, v

    def merge(self, y: Heads) -> Tokens:
        return self.output(y.transpose(1, 2).flatten(2))

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}in_proj_weight"] = torch.cat([part.weight for part in self.inputs])
        destination[f"{prefix}in_proj_bias"] = torch.cat([part.bias for part in self.inputs])
        destination[f"{prefix}out_proj.weight"] = self.output.weight
        destination[f"{prefix}out_proj.bias"] = self.output.bias


class _PackedMlp(Mlp):
    def __init__(self, plain: Mlp) -> None:
        nn.Module.__init__(self)
        self.activation = plain.activation
        self.wide = _Product(plain.c_fc.weight, plain.c_fc.bias, plain.activation)
        self.narrow = _Product(plain.c_proj.weight, plain.c_proj.bias)

    def forward(self, x: Tokens) -> Tokens:
        return self.narrow(self.wide(x))

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        for name, product in (("c_fc", self.wide), ("c_proj", self.narrow)):
            destination[f"{prefix}{name}.weight"] = product.weight
            destination[f"{prefix}{name}.bias"] = product.bias


class PackedBlock(Block):
    """A frozen block with packed weights; it replaces `plain`."""

    def __init__(self, plain: Block) -> None:
        nn.Module.__init__(self)
        self.ln_1, self.ln_2 = plain.ln_1, plain.ln_2
        self.attn = _PackedAttention(plain.attn)
        self.mlp = _PackedMlp(plain.mlp)
        self.eval()

    def __reduce__(self) -> tuple[Callable[..., Block], tuple[object, ...]]:
        return _plain_block, (self.mlp.activation, self.state_dict())


def _plain_block(activation: Activation, tensors: Mapping[str, Tensor]) -> Block:
    with torch.device("meta"):
        block = Block(len(tensors["ln_1.weight"]), activation)
    block.load_state_dict(tensors, assign=True)
    return block.requires_grad_(False).eval()


def pack_blocks(vision: Vision) -> None:
    """Pack all blocks of a bfloat16 tower but the last, whose weights the methods read, where this is faster.

    Each block's plain weights are freed before the next is packed.
    """
    layers = vision.transformer.resblocks
    for i, block in enumerate(vision.blocks[:-1]):
        if block.mlp.activation in _FUSED and can_pack(block.mlp.c_fc.weight):
            layers[i] = PackedBlock(block)


def can_pack(weight: Tensor) -> bool:
    """Whether a packed product of weights like this is faster than a plain one, and equal to it here."""
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _packing_works()


def packed_flops() -> dict[object, Callable[..., int]]:
    """How to count the operations of packed products, for torch's `FlopCounterMode`."""

    def count(x: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
        return 2 * math.prod(x) * weight[0]

    return {torch.ops.mkldnn._linear_pointwise: count} if _packing_works() else {}


@cache
def _packing_works() -> bool:
    # The operators are torch's own for its compiler, not part of its interface: another release may lack
    # or change them.
    if not cpu_has_bfloat16():
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(rows, 64, generator=generator).bfloat16() for rows in (5, 96))
    bias = x.new_ones(96)
    hidden = F.linear(x.float(), weight.float(), bias.float())
    try:
        for activation in _FUSED:
            expected = hidden if activation is None else activation(hidden)
            packed = _Product(weight, bias, activation)
            if not torch.allclose(packed(x).float(), expected, rtol=1e-2, atol=1e-2):
                return False
        return torch.equal(packed.weight, weight)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
