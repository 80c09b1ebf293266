"""`small`: a light student of this project's own, for processors without a GPU and for small data.

    stem 1/2 -> stage 1/4 -> stage 1/8 -> stage 1/16 -> stage 1/32
                    |            |             |             |
                   1x1          1x1           1x1       1x1 + mean of the picture
                    +<-- up <----+<--- up <----+<--- up <----+       each sum, then a separable 3x3
                    |
               classifier at 1/4

Stages are inverted residuals (1x1 up, depthwise 5x5, 1x1 down) with batch norm and ReLU, which every runtime
fuses into plain convolutions. 1.3 million parameters; 2.6 billion multiplications
for a picture of 512 x 512.
"""

from collections import OrderedDict
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tagmask.checks import check_number
from tagmask.types import Pixels
from tagmask.weak.students.kinds import Logits

__all__ = ["Small"]

_DEPTHS = (2, 3, 4, 2)
"""Blocks of the stages at 1/4, 1/8, 1/16 and 1/32."""
_WIDTHS = (1.5, 3.0, 5.0, 6.0)
"""Their channels, in units of the stem's."""


class Small(nn.Module):
    """A convolutional encoder with a top-down decoder.

    Args:
        classes: logits per place.
        width: channels of the stem, a multiple of 8; all others grow with it.
        expansion: of the channels inside a block.
        dropout: of whole channels before the classifier.

    Raises:
        InputError: a setting out of range.
    """

    def __init__(self, classes: int, width: int = 32, expansion: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        check_number("width", width, 8, whole=True)
        check_number("expansion", expansion, 1, whole=True)
        check_number("dropout", dropout, 0, 0.9)
        widths = [int(width * factor) for factor in _WIDTHS]
        self.stem = _convolution(3, width, 3, stride=2)
        self.stages = nn.ModuleList(
            _stage(before, after, depth, expansion)
            for before, after, depth in zip([width, *widths[:-1]], widths, _DEPTHS, strict=True)
        )
        inner = widths[1]
        self.sideways = nn.ModuleList(_convolution(wide, inner, 1, active=False) for wide in widths)
        self.context = nn.Conv2d(widths[-1], inner, 1)
        self.mixes = nn.ModuleList(_separable(inner) for _ in widths[:-1])
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(inner, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.classifier.weight, std=0.01)

    def forward(self, pixels: Pixels) -> Logits:
        """Logits at one quarter; sides of `pixels` are best multiples of 32, and may be any."""
        x = self.stem(pixels)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        merged = self.sideways[-1](x) + self.context(x.mean((2, 3), keepdim=True))
        for level, sideways, mix in reversed(list(zip(levels[:-1], self.sideways, self.mixes, strict=False))):
            merged = mix(_enlarged(merged, level) + sideways(level))
        return cast(Logits, self.classifier(self.dropout(merged)))


class _Block(nn.Module):
    """1x1 up, depthwise 5x5, 1x1 down; added to its input where width and grid are kept."""

    def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        self.adds = before == after and stride == 1
        self.body = nn.Sequential(
            _convolution(before, inner, 1),
            _convolution(inner, inner, 5, stride=stride, groups=inner),
            _convolution(inner, after, 1, active=False),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c1 h1 w1"]:
        y = self.body(x)
        return cast(Tensor, x + y if self.adds else y)


def _stage(before: int, after: int, depth: int, expansion: int) -> nn.Sequential:
    first = _Block(before, after, expansion, stride=2)
    return nn.Sequential(first, *(_Block(after, after, expansion, stride=1) for _ in range(depth - 1)))


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(width, width, 3, groups=width, active=False), _convolution(width, width, 1)
    )


def _convolution(
    before: int, after: int, size: int, stride: int = 1, groups: int = 1, *, active: bool = True
) -> nn.Sequential:
    parts = OrderedDict[str, nn.Module](
        convolution=nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(after),
    )
    if active:
        parts["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


def _enlarged(x: Float[Tensor, "b c h w"], like: Float[Tensor, "b c1 h1 w1"]) -> Float[Tensor, "b c h1 w1"]:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
