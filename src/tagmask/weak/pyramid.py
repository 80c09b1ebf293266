"""The adapter: maps of one size from four depths of the tower -> a pyramid of four sizes.

    depth   becomes                       side, in patches
    1       norm, twice doubled           4
    2       norm, doubled                 2
    3       norm                          1
    4       norm, halved                  1/2

Doubling is a transposed convolution of kernel 2. The decoder's first convolution is 1 x 1 and follows a
doubling directly; the two are one doubling to fewer channels, which `lateral` computes.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Pyramid", "halved", "thinned_doubling"]

Maps = tuple[Tensor, Tensor, Tensor, Tensor]


def halved(x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b d _ _"]:
    """The largest of each 2 x 2 block; an odd last row or column is not seen, a single one is kept.

    Example:
        >>> halved(torch.tensor([[[[1.0, 5.0, 9.0], [2.0, 3.0, 9.0]]]])).tolist()
        [[[[5.0]]]]
    """
    kernel = (min(2, x.shape[-2]), min(2, x.shape[-1]))
    return F.max_pool2d(x, kernel, stride=kernel)


def thinned_doubling(
    x: Float[Tensor, "b d gh gw"],
    double: nn.ConvTranspose2d,
    weight: Float[Tensor, "out d2"],
    bias: Float[Tensor, " out"],
) -> Float[Tensor, "b out _ _"]:
    """A doubling followed by a 1 x 1 convolution, as one doubling.

    Both are linear, so their weights are multiplied instead: for 256 of 768 channels that is a third of the
    first's operations and none of the second's. Equal but for rounding, gradients too.

    Args:
        x: input of the doubling.
        double: kernel 2, stride 2, with a bias.
        weight: of the 1 x 1 convolution.
        bias: of the 1 x 1 convolution.
    """
    both = torch.einsum("ioyx,po->ipyx", double.weight, weight)
    added = bias if double.bias is None else weight @ double.bias + bias
    return F.conv_transpose2d(x, both, added, stride=2)


class Pyramid(nn.Module):
    """Four maps (b, d, gh, gw) to sides 4, 2, 1 and 1/2 of theirs, all of width d.

    Source:
        WeakCLIP (Zhu et al., IJCV 2024), as coded by the authors; their SyncBatchNorm is a BatchNorm here, of
        the same names.
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
        # The halving that follows has no weights; the norm keeps the name it has in the authors' files.
        self.fpn4 = nn.Sequential(nn.GroupNorm(1, width))

    def forward(self, maps: Maps) -> Maps:
        """The whole pyramid, at full width."""
        first, second, third, fourth = maps
        return self.fpn1(first), self.fpn2(second), self.fpn3(third), halved(self.fpn4(fourth))

    def lateral(self, maps: Maps, convolutions: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """The pyramid behind one 1 x 1 convolution a level, never made at full width.

        Args:
            maps: as for `forward`.
            convolutions: weight (out, d) and bias (out,) for each level.
        """
        first, second, third, fourth = maps
        (w1, b1), (w2, b2), (w3, b3), (w4, b4) = convolutions
        for part in list(self.fpn1)[:-1]:
            first = part(first)
        return [
            thinned_doubling(first, cast(nn.ConvTranspose2d, self.fpn1[-1]), w1, b1),
            thinned_doubling(self.fpn2[0](second), cast(nn.ConvTranspose2d, self.fpn2[-1]), w2, b2),
            F.conv2d(self.fpn3(third), w3[..., None, None], b3),
            F.conv2d(halved(self.fpn4(fourth)), w4[..., None, None], b4),
        ]
