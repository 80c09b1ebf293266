"""WideResNet-38: a wide pre-activation residual network, dilated to an output stride of 8.

The last three stages use dilation instead of stride: wherever the ImageNet classifier halves the grid, all
later kernels are dilated by two. The first kernel of stage 5 stays undilated, since it reads the finer grid.

    stage   blocks  kind        width in, middle, out   stride  dilation  grid
    conv1a  1       3x3         3, 64                   1       1         1
    b2      3       basic       64, 128, 128            2       1         1/2
    b3      3       basic       128, 256, 256           2       1         1/4
    b4      6       basic       256, 512, 512           2       1         1/8
    b5      3       basic       512, 512, 1024          1       1, then 2 1/8
    b6      1       bottleneck  1024, 512, 1024, 2048   1       4         1/8
    b7      1       bottleneck  2048, 1024, 2048, 4096  1       4         1/8

Module names are those of the common converted ImageNet weights.

Source:
    Wu, Shen and van den Hengel, "Wider or deeper" (2016), model A1, with the strides and dilations common in
    weakly supervised segmentation, such as in WeakCLIP's retraining.
"""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from tagmask.checks import check_number
from tagmask.types import Pixels

__all__ = ["BATCH_NORM_MOMENTUM", "BasicBlock", "Bottleneck", "ResNet38"]

BATCH_NORM_MOMENTUM = 3e-4
"""Momentum of all running statistics, as coded by the authors: the ImageNet statistics change slowly."""


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, momentum=BATCH_NORM_MOMENTUM)


def _kernel(before: int, after: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution with same padding, without a bias."""
    padding = dilation * (size // 2)
    return nn.Conv2d(before, after, size, stride, padding, dilation, bias=False)


class BasicBlock(nn.Module):
    """Pre-activation residual block: norm, ReLU, 3x3, norm, ReLU, 3x3.

    If width or stride change, the skip connection is a 1x1 convolution of the first ReLU's output; otherwise
    it is the input.

    Args:
        before: channels in.
        middle: channels between the two convolutions.
        after: channels out.
        stride: of the first convolution.
        dilations: of the first and of the second convolution.
    """

    def __init__(
        self, before: int, middle: int, after: int, stride: int = 1, dilations: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        self.bn_branch2a = _norm(before)
        self.conv_branch2a = _kernel(before, middle, 3, stride, dilations[0])
        self.bn_branch2b1 = _norm(middle)
        self.conv_branch2b1 = _kernel(middle, after, 3, 1, dilations[1])
        changes = before != after or stride != 1
        self.conv_branch1 = _kernel(before, after, 1, stride) if changes else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c1 h1 w1"]:
        """Apply the block."""
        active = self.bn_branch2a(x).relu()
        skip = x if self.conv_branch1 is None else self.conv_branch1(active)
        branch = self.bn_branch2b1(self.conv_branch2a(active)).relu()
        return cast(Tensor, skip + self.conv_branch2b1(branch))


class Bottleneck(nn.Module):
    """Bottleneck block: 1x1 to a quarter of the output width, dilated 3x3 to a half, 1x1; channel dropout.

    Args:
        before: channels in.
        after: channels out, a multiple of 4.
        dilation: of the 3x3 convolution.
        dropout: probability of dropping a whole channel before the second and the third convolution.
    """

    def __init__(self, before: int, after: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = _norm(before)
        self.conv_branch2a = _kernel(before, after // 4, 1)
        self.bn_branch2b1 = _norm(after // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _kernel(after // 4, after // 2, 3, 1, dilation)
        self.bn_branch2b2 = _norm(after // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = _kernel(after // 2, after, 1)
        self.conv_branch1 = _kernel(before, after, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c1 h w"]:
        """Apply the block."""
        active = self.bn_branch2a(x).relu()
        branch = self.bn_branch2b1(self.conv_branch2a(active)).relu()
        branch = self.conv_branch2b1(self.dropout_2b1(branch))
        branch = self.dropout_2b2(self.bn_branch2b2(branch).relu())
        return cast(Tensor, self.conv_branch1(active) + self.conv_branch2b2(branch))


class ResNet38(nn.Module):
    """The trunk: pixels to features at one eighth of the image's size.

    Args:
        base: channels of the first convolution; 64 is the published network (4096 output channels), less a
            narrower one of the same depth.

    Raises:
        InputError: base is not a whole number from 1 to 64.
    """

    def __init__(self, base: int = 64) -> None:
        super().__init__()
        check_number("base", base, 1, 64, whole=True)
        self.width = 64 * base
        """Output channels."""
        w2, w3, w4, w5, w6 = (base * factor for factor in (2, 4, 8, 16, 32))
        self.conv1a = _kernel(3, base, 3)
        self.b2 = BasicBlock(base, w2, w2, stride=2)
        self.b2_1 = BasicBlock(w2, w2, w2)
        self.b2_2 = BasicBlock(w2, w2, w2)
        self.b3 = BasicBlock(w2, w3, w3, stride=2)
        self.b3_1 = BasicBlock(w3, w3, w3)
        self.b3_2 = BasicBlock(w3, w3, w3)
        self.b4 = BasicBlock(w3, w4, w4, stride=2)
        self.b4_1 = BasicBlock(w4, w4, w4)
        self.b4_2 = BasicBlock(w4, w4, w4)
        self.b4_3 = BasicBlock(w4, w4, w4)
        self.b4_4 = BasicBlock(w4, w4, w4)
        self.b4_5 = BasicBlock(w4, w4, w4)
        self.b5 = BasicBlock(w4, w4, w5, dilations=(1, 2))
        self.b5_1 = BasicBlock(w5, w4, w5, dilations=(2, 2))
        self.b5_2 = BasicBlock(w5, w4, w5, dilations=(2, 2))
        self.b6 = Bottleneck(w5, w6, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(w6, self.width, dilation=4, dropout=0.5)
        self.bn7 = _norm(self.width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.conv1a.requires_grad_(False)

    def forward(self, pixels: Pixels) -> Float[Tensor, "b c gh gw"]:
        """Compute features after the last ReLU; gh = ceil(h / 8), gw = ceil(w / 8)."""
        return self.stages(pixels)[-1]

    def stages(
        self, pixels: Pixels
    ) -> tuple[Float[Tensor, "b c4 gh gw"], Float[Tensor, "b c5 gh gw"], Float[Tensor, "b c6 gh gw"]]:
        """Compute features of stages 4, 5 and 7, each after the norm and the ReLU that follow it."""
        x = self.conv1a(pixels)
        x = self.b2_2(self.b2_1(self.b2(x)))
        x = self.b3_2(self.b3_1(self.b3(x)))
        x = self.b4_5(self.b4_4(self.b4_3(self.b4_2(self.b4_1(self.b4(x))))))
        fourth = self.b5.bn_branch2a(x).relu()
        x = self.b5_2(self.b5_1(self.b5(x)))
        fifth = self.b6.bn_branch2a(x).relu()
        x = self.b7(self.b6(x))
        return fourth, fifth, self.bn7(x).relu()
