"""Layers that several students share."""

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MOST_CHANNELS", "convolution", "initialise", "resized_like"]

MOST_CHANNELS = 8192
"""Limit of a setting that gives a number of channels."""


def convolution(
    before: int, after: int, size: int, stride: int = 1, groups: int = 1, *, active: bool = True
) -> nn.Sequential:
    """Convolution with an odd kernel size and same padding, batch norm, and ReLU if `active`."""
    parts = OrderedDict[str, nn.Module](
        convolution=nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(after),
    )
    if active:
        parts["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(parts)


def resized_like(
    x: Float[Tensor, "b c h w"], like: Float[Tensor, "b c1 h1 w1"]
) -> Float[Tensor, "b c h1 w1"]:
    """Resize a feature map bilinearly to the size of another."""
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def initialise(part: nn.Module, classifier: nn.Conv2d) -> None:
    """Initialise weights: He's for convolutions; for the classifier such that logits are of order one.

    With the common std of 0.01, AdamW needs a few hundred steps just to enlarge the classifier's weights.
    """
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(classifier.weight, std=classifier.in_channels**-0.5)
