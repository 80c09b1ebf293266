"""The decoder: a feature pyramid network with the score map as extra input, and a semantic head.

level  side    lateral            output          head, each unit 3 x 3 convolution, norm, ReLU
1      h/4     1 x 1 to width     3 x 3           one unit
2      h/8     1 x 1 to width     3 x 3           one unit, upsampled 2x
3      h/16    1 x 1 to width     3 x 3           two units, each upsampled 2x
4      h/32    1 x 1 to width     3 x 3           three units, each upsampled 2x
"""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.types import Size
from tagmask.weak.pyramid import Maps, Pyramid

__all__ = ["Fpn", "SemanticHead"]

_UNITS = (1, 1, 2, 3)


class _Conv(nn.Module):
    """A convolution, named as in the authors' state dict."""

    def __init__(self, channels: int, out: int, side: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, side, padding=side // 2)
        _kaiming(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Fpn(nn.Module):
    """Feature pyramid network: 1 x 1, top-down sums, 3 x 3. No norm, no activation.

    Args:
        channels: channels of the pyramid's feature maps.
        scores: channels of the score map that is concatenated to every level; 0: no score map.
        width: output channels.

    Source:
        Lin et al., CVPR 2017; WeakCLIP's text guidance is the score map among the inputs, as coded by its
        authors.
    """

    def __init__(self, channels: int, scores: int, width: int) -> None:
        super().__init__()
        self.channels = channels
        self.scores = scores
        self.lateral_convs = nn.ModuleList(_Conv(channels + scores, width, 1) for _ in range(4))
        self.fpn_convs = nn.ModuleList(_Conv(width, width, 3) for _ in range(4))

    def forward(
        self, pyramid: Pyramid, maps: Maps, scores: Float[Tensor, "b k gh gw"]
    ) -> list[Float[Tensor, "b width _ _"]]:
        """Compute four feature maps, finest first.

        Equal to: compute the pyramid, resize the scores to each level (bilinear, aligned corners),
        concatenate, convolve. A convolution of concatenated maps is the sum of two convolutions; the first
        one is fused with the pyramid's last step. Channels are last in memory.

        Args:
            pyramid: the adapter, with `channels` channels.
            maps: its input.
            scores: cosine scores; ignored if the network has no score map.
        """
        convs = [cast(_Conv, lateral).conv for lateral in self.lateral_convs]
        weights = [(conv.weight[:, : self.channels, 0, 0], cast(Tensor, conv.bias)) for conv in convs]
        levels = pyramid.lateral(maps, weights)
        if self.scores:
            scores = scores.contiguous(memory_format=torch.channels_last)
            levels = [
                level + F.conv2d(_resized(scores, level, corners=True), conv.weight[:, self.channels :])
                for level, conv in zip(levels, convs, strict=True)
            ]
        for fine, coarse in ((2, 3), (1, 2), (0, 1)):
            size = levels[fine].shape[-2:]
            levels[fine] = levels[fine] + F.interpolate(levels[coarse], size=size, mode="nearest")
        return [conv(level) for conv, level in zip(self.fpn_convs, levels, strict=True)]


class _Unit(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        _kaiming(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class SemanticHead(nn.Module):
    """Upsample all levels to the finest, sum them, and classify every pixel.

    Args:
        channels: channels of each level.
        width: channels of the units.
        classes: output channels.
        dropout: probability of dropping a whole channel before the last convolution.

    Source:
        Semantic FPN (Kirillov et al., CVPR 2019) as in WeakCLIP's library: upsampling is bilinear with
        align_corners off.
    """

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.scale_heads = nn.ModuleList(
            _scale_head(channels, width, units, upsampled=level > 0) for level, units in enumerate(_UNITS)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(width, classes, 1)

    def forward(self, levels: Sequence[Float[Tensor, "b width _ _"]]) -> Float[Tensor, "b k _ _"]:
        """Logits at the size of the first level, float32.

        Equal to: upsample all levels, sum them, drop channels, convolve. The last upsampling of each level
        does not mix channels and the last convolution does not mix pixels, so it is computed first, and
        few channels are upsampled and summed.
        """
        ones = levels[0].new_ones(len(levels[0]), self.conv_seg.in_channels, 1, 1)
        weight = self.dropout(ones)[:, None, :, 0, 0] * self.conv_seg.weight[None, :, :, 0, 0]
        total = self._logits(self.scale_heads[0](levels[0]), weight)
        for head, level in zip(self.scale_heads[1:], levels[1:], strict=True):
            *units, upsample = cast(nn.Sequential, head)
            for unit in units:
                level = unit(level)
            total = total + _resized(upsample(self._logits(level, weight)), total, corners=False)
        return total + cast(Tensor, self.conv_seg.bias)[:, None, None]

    @staticmethod
    def _logits(x: Float[Tensor, "b width h w"], weight: Float[Tensor, "b k width"]) -> Tensor:
        rows: Tensor = x.flatten(2).transpose(1, 2) @ weight.transpose(1, 2)
        return rows.transpose(1, 2).reshape(len(x), -1, *x.shape[-2:]).float()


def _scale_head(channels: int, width: int, units: int, *, upsampled: bool) -> nn.Sequential:
    # Upsampling is a separate module, so that the units have the authors' indices: 0, 2, 4.
    parts: list[nn.Module] = []
    for unit in range(units):
        parts.append(_Unit(channels if unit == 0 else width, width))
        if upsampled:
            parts.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*parts)


def _resized(x: Tensor, like: Tensor, *, corners: bool) -> Tensor:
    size: Size = (like.shape[-2], like.shape[-1])
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=corners)


def _kaiming(conv: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
