"""The adapter: from feature maps of one size at four depths of the tower to a pyramid of four scales.

    depth   operations                    side, in patches
    1       norm, upsampled 2x twice      4
    2       norm, upsampled 2x            2
    3       norm                          1
    4       norm, max pooled 2x           1/2

Upsampling is a transposed convolution with kernel 2 and stride 2. The decoder's first convolution is 1 x 1
and directly follows it; `lateral` computes both as one transposed convolution with fewer channels.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Pyramid", "fused_upsampling", "halved"]

Maps = tuple[Tensor, Tensor, Tensor, Tensor]


def halved(x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b d _ _"]:
    """Max pooling over 2 x 2 blocks; an odd last row or column is dropped, a single one is kept.

    Example:
        >>> halved(torch.tensor([[[[1.0, 5.0, 9.0], [2.0, 3.0, 9.0]]]])).tolist()
        [[[[5.0]]]]
    """
    kernel = (min(2, x.shape[-2]), min(2, x.shape[-1]))
    return F.max_pool2d(x, kernel, stride=kernel)


def fused_upsampling(
    x: Float[Tensor, "b d gh gw"],
    upsample: nn.ConvTranspose2d,
    weight: Float[Tensor, "out d2"],
    bias: Float[Tensor, " out"],
) -> Float[Tensor, "b out _ _"]:
    """Transposed convolution followed by a 1 x 1 convolution, fused into one transposed convolution.

    Both are linear, so their weights are multiplied: for 256 of 768 channels this takes a third of the
    transposed convolution's operations and none of the 1 x 1 convolution's. Results and gradients are equal
    up to rounding.

    Args:
        x: input.
        upsample: transposed convolution with kernel 2 and stride 2.
        weight: of the 1 x 1 convolution.
        bias: of the 1 x 1 convolution.
    """
    fused_weight = torch.einsum("ioyx,po->ipyx", upsample.weight, weight)
    fused_bias = bias if upsample.bias is None else weight @ upsample.bias + bias
    return F.conv_transpose2d(x, fused_weight, fused_bias, stride=2)


class Pyramid(nn.Module):
    """Resize four feature maps (b, d, gh, gw) by 4, 2, 1 and 1/2; all keep width d.

    Source:
        WeakCLIP (Zhu et al., IJCV 2024), as coded by the authors; their SyncBatchNorm is a BatchNorm here,
        with the same parameter names.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fpn1 = nn.Sequential(
            nn.GroupNorm(1, width),
            nn.ConvTranspose2d(width, width, 2, stride=2),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, stride=2),
        )
        self.fpn2 = nn.Sequential(nn.GroupNorm(1, width), nn.ConvTranspose2d(width, width, 2, stride=2))
        self.fpn3 = nn.GroupNorm(1, width)
        # The max pooling that follows has no weights; the norm keeps its name in the authors' files.
        self.fpn4 = nn.Sequential(nn.GroupNorm(1, width))

    def forward(self, maps: Maps) -> Maps:
        """Compute the pyramid at full width."""
        first, second, third, fourth = maps
        return self.fpn1(first), self.fpn2(second), self.fpn3(third), halved(self.fpn4(fourth))

    def lateral(self, maps: Maps, convolutions: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Compute the pyramid followed by one 1 x 1 convolution per level, fused where possible.

        Args:
            maps: as for `forward`.
            convolutions: weight (out, d) and bias (out,) for each level.
        """
        first, second, third, fourth = maps
        (w1, b1), (w2, b2), (w3, b3), (w4, b4) = convolutions
        for part in list(self.fpn1)[:-1]:
            first = part(first)
        return [
            fused_upsampling(first, cast(nn.ConvTranspose2d, self.fpn1[-1]), w1, b1),
            fused_upsampling(self.fpn2[0](second), cast(nn.ConvTranspose2d, self.fpn2[-1]), w2, b2),
            F.conv2d(self.fpn3(third), w3[..., None, None], b3),
            F.conv2d(halved(self.fpn4(fourth)), w4[..., None, None], b4),
        ]
