"""The adapter: from feature maps of one size at four depths of the tower to a pyramid of four scales.

    depth   operations                    side, in patches
    1       norm, upsampled 2x twice      4
    2       norm, upsampled 2x            2
    3       norm                          1
    4       norm, max pooled 2x           1/2

Upsampling is a transposed convolution with kernel 2 and stride 2. Its windows do not overlap, so it is one
matrix product per patch. The decoder's first convolution is 1 x 1 and directly follows it; `lateral` computes
both as one product with fewer rows. Everything is computed with channels last, as the tower's tokens are.
"""

from typing import NamedTuple, cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AffineMap", "Pyramid", "halved", "upsampled", "upsampling"]

Maps = tuple[Tensor, Tensor, Tensor, Tensor]
_Doubling = tuple[nn.GroupNorm, nn.ConvTranspose2d]
_Quadrupling = tuple[nn.GroupNorm, nn.ConvTranspose2d, nn.Module, nn.Module, nn.ConvTranspose2d]


def halved(x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b d _ _"]:
    """Max pooling over 2 x 2 blocks; an odd last row or column is dropped, a single one is kept.

    Example:
        >>> import torch
        >>> halved(torch.tensor([[[[1.0, 5.0, 9.0], [2.0, 3.0, 9.0]]]])).tolist()
        [[[[5.0]]]]
    """
    kernel = (min(2, x.shape[-2]), min(2, x.shape[-1]))
    return F.max_pool2d(x, kernel, stride=kernel)


class AffineMap(NamedTuple):
    """An affine map of a patch's features; of an upsampling, one per pixel (y, x) of the 2 x 2."""

    weight: Float[Tensor, "*yx out d"]
    bias: Float[Tensor, "*yx out"]

    def then(self, weight: Float[Tensor, "out2 out"], bias: Float[Tensor, " out2"]) -> "AffineMap":
        """Compose with a 1 x 1 convolution that follows.

        For 256 of 768 channels an upsampling then takes a third of its operations, and the 1 x 1 convolution
        none. Results and gradients are equal up to rounding.
        """
        return AffineMap(weight @ self.weight, self.bias @ weight.T + bias)

    def after(self, norm: nn.GroupNorm) -> "AffineMap":
        """Compose with the weight and bias of the norm before it: its input needs no gradient then."""
        return AffineMap(self.weight * norm.weight, self.weight @ norm.bias + self.bias)


def upsampling(convolution: nn.ConvTranspose2d) -> AffineMap:
    """A transposed convolution with kernel 2 and stride 2, as affine maps."""
    bias = cast(Tensor, convolution.bias).expand(2, 2, -1)
    return AffineMap(convolution.weight.permute(2, 3, 1, 0), bias)


def upsampled(x: Float[Tensor, "b gh gw d"], linear: AffineMap) -> Float[Tensor, "b 2*gh 2*gw out"]:
    """Apply an upsampling; equal to the transposed convolution up to rounding."""
    cells = F.linear(x, linear.weight.flatten(0, 2), linear.bias.flatten())
    b, gh, gw, _ = x.shape
    rows = cells.view(b, gh, gw, 2, 2, -1).transpose(2, 3)
    return rows.reshape(b, 2 * gh, 2 * gw, -1)


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
        # torch 2.13 crashes in the backward pass of a GroupNorm whose input has its channels last and needs
        # no gradient.
        first, second, third, fourth = (x.contiguous() for x in maps)
        return self.fpn1(first), self.fpn2(second), self.fpn3(third), halved(self.fpn4(fourth))

    def lateral(self, maps: Maps, convolutions: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Compute the pyramid followed by one 1 x 1 convolution per level, fused where possible.

        Args:
            maps: as for `forward`, in any memory format.
            convolutions: weight (out, d) and bias (out,) for each level.

        Returns:
            Four maps (b, out, _, _) with channels last in memory.
        """
        first, second, third, fourth = (self._normalised(x) for x in maps)
        conv1, conv2, conv3, conv4 = convolutions
        norm1, double1, batch_norm, activation, quadruple1 = cast(_Quadrupling, self.fpn1)
        norm2, double2 = cast(_Doubling, self.fpn2)
        norm4 = cast(nn.GroupNorm, self.fpn4[0])
        first = upsampled(first, upsampling(double1).after(norm1))
        first = _channels_last(activation(batch_norm(_channels_first(first))))
        fourth = _channels_last(halved(_channels_first(fourth * norm4.weight + norm4.bias)))
        levels = [
            upsampled(first, upsampling(quadruple1).then(*conv1)),
            upsampled(second, upsampling(double2).then(*conv2).after(norm2)),
            F.linear(third, *AffineMap(*conv3).after(self.fpn3)),
            F.linear(fourth, *conv4),
        ]
        return [_channels_first(level) for level in levels]

    def _normalised(self, x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b gh gw d"]:
        """Normalise over all values of an image, without a weight and bias, as all four norms do."""
        rows = _channels_last(x)
        return F.layer_norm(rows, rows.shape[1:], eps=self.fpn3.eps)


def _channels_last(x: Float[Tensor, "b d gh gw"]) -> Float[Tensor, "b gh gw d"]:
    return x.permute(0, 2, 3, 1)


def _channels_first(x: Float[Tensor, "b gh gw d"]) -> Float[Tensor, "b d gh gw"]:
    return x.permute(0, 3, 1, 2)
