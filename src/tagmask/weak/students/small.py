"""`small`: a light student of this project, for CPUs and small data sets.

    stem 1/4 -> stage 1/4 -> stage 1/8 -> stage 1/16 -> stage 1/32
                    |            |             |             |
                   1x1          1x1           1x1       1x1 + global mean
                    +<-- up <----+<--- up <----+<--- up <----+       each sum, then a separable 3x3
                    |
               classifier at 1/4

Stages are residual blocks of two dense 3x3 convolutions with batch norm and ReLU: depthwise blocks would have
fewer parameters, but they are memory-bound and train no faster on a CPU. 2.6 million parameters; 3.8 billion
multiplications for a 512 x 512 image.
"""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tagmask.checks import check_number
from tagmask.types import Pixels
from tagmask.weak.students.kind import Logits
from tagmask.weak.students.layers import MOST_CHANNELS, convolution, initialise, resized_like

__all__ = ["Small"]

_DEPTHS = (1, 2, 2, 2)
"""Blocks of the stages at 1/4, 1/8, 1/16 and 1/32."""
_STRIDES = (1, 2, 2, 2)
"""Strides of the stages."""
_WIDTHS = (1.5, 3.0, 5.0, 6.0)
"""Channels of the stages, in units of the stem's."""


class Small(nn.Module):
    """A convolutional encoder with a top-down decoder.

    Args:
        classes: number of classes.
        width: channels of the stem, a multiple of 8; all other widths scale with it.
        dropout: probability of dropping a whole channel before the classifier.

    Raises:
        InputError: a setting out of range.
    """

    def __init__(self, classes: int, width: int = 32, dropout: float = 0.1) -> None:
        super().__init__()
        check_number("width", width, 8, MOST_CHANNELS, whole=True)
        check_number("dropout", dropout, 0, 0.9)
        widths = [int(width * factor) for factor in _WIDTHS]
        self.stem = nn.Sequential(convolution(3, width, 3, 2), convolution(width, widths[0], 3, 2))
        self.stages = nn.ModuleList(
            _stage(before, after, depth, stride)
            for before, after, depth, stride in zip(
                [widths[0], *widths[:-1]], widths, _DEPTHS, _STRIDES, strict=True
            )
        )
        inner = widths[1]
        self.sideways = nn.ModuleList(convolution(wide, inner, 1, active=False) for wide in widths)
        self.context = nn.Conv2d(widths[-1], inner, 1)
        self.mixes = nn.ModuleList(_separable(inner) for _ in widths[:-1])
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(inner, classes, 1)
        initialise(self, self.classifier)

    def forward(self, pixels: Pixels) -> Logits:
        """Compute logits at one quarter of the image's size; sides may be any, best are multiples of 32."""
        x = self.stem(pixels)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        merged = self.sideways[-1](x) + self.context(x.mean((2, 3), keepdim=True))
        for level, sideways, mix in reversed(list(zip(levels[:-1], self.sideways, self.mixes, strict=False))):
            merged = mix(resized_like(merged, level) + sideways(level))
        return cast(Logits, self.classifier(self.dropout(merged)))


class _Block(nn.Module):
    """Two 3x3 convolutions with a skip connection."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        identity = before == after and stride == 1
        self.body = nn.Sequential(
            convolution(before, after, 3, stride), convolution(after, after, 3, active=False)
        )
        self.past = nn.Identity() if identity else convolution(before, after, 1, stride, active=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c1 h1 w1"]:
        return functional.relu(self.body(x) + self.past(x))


def _stage(before: int, after: int, depth: int, stride: int) -> nn.Sequential:
    first = _Block(before, after, stride)
    return nn.Sequential(first, *(_Block(after, after, 1) for _ in range(depth - 1)))


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        convolution(width, width, 3, groups=width, active=False), convolution(width, width, 1)
    )
