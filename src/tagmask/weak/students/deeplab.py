"""DeepLab v1 on WideResNet-38: the network that WeakCLIP's paper trains on pseudo-masks.

    pixels -> trunk, 4096 channels at 1/8 -> 3x3 dilated by 12, 512 -> BN, ReLU -> 1x1, 512 -> BN, ReLU
           -> dropout 0.5 -> 1x1, k classes

Callers resize the logits to the input bilinearly with aligned corners (`tagmask.weak.students.evaluate`).
"""

from collections.abc import Iterator
from typing import cast

from torch import nn

from tagmask.checks import check_number
from tagmask.types import Pixels
from tagmask.weak.students.kind import Logits, ParameterGroup
from tagmask.weak.students.layers import MOST_CHANNELS
from tagmask.weak.students.resnet38 import BATCH_NORM_MOMENTUM, ResNet38

__all__ = ["DeepLab", "deeplab_groups"]


class DeepLab(nn.Module):
    """The trunk with a large-field-of-view head.

    Args:
        classes: number of classes.
        base: channels of the trunk's first convolution; 64 is the published network, less a narrower one.
        hidden: channels of the head's two hidden convolutions.
        dropout: element-wise, before the last convolution.

    Raises:
        InputError: a setting out of range.

    Source:
        As coded for WeakCLIP's retraining. Departure: there, new weights have PyTorch's default
        initialisation; here, convolutions are initialised as in the trunk (He et al., fan out), biases 0.
    """

    def __init__(self, classes: int, base: int = 64, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        check_number("hidden", hidden, 1, MOST_CHANNELS, whole=True)
        check_number("dropout", dropout, 0, 0.9)
        self.trunk = ResNet38(base)
        self.head = nn.Sequential(
            nn.Conv2d(self.trunk.width, hidden, 3, padding=12, dilation=12),
            nn.BatchNorm2d(hidden, momentum=BATCH_NORM_MOMENTUM),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.BatchNorm2d(hidden, momentum=BATCH_NORM_MOMENTUM),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, classes, 1),
        )
        for convolution in _convolutions(self.head):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, pixels: Pixels) -> Logits:
        """Compute logits at one eighth of the image's size."""
        return cast(Logits, self.head(self.trunk(pixels)))


def deeplab_groups(net: DeepLab) -> tuple[ParameterGroup, ...]:
    """Parameter groups: factor 10 for the head, 1 for the trunk, doubled for biases.

    Batch norm parameters and the first convolution are in no group: they keep their loaded values.

    Source:
        WeakCLIP's retraining. The authors' code uses bias factors that it does not define, and would fail;
        twice the rate and no weight decay come from the code that it is based on.
    """
    parts = (("trunk", net.trunk, 1.0), ("head", net.head, 10.0))
    groups = []
    for name, part, factor in parts:
        trained = [conv for conv in _convolutions(part) if conv.weight.requires_grad]
        weights = tuple(cast(nn.Parameter, conv.weight) for conv in trained)
        biases = tuple(cast(nn.Parameter, conv.bias) for conv in trained if conv.bias is not None)
        groups.append(ParameterGroup(f"{name} weights", weights, factor, decays=True))
        groups.append(ParameterGroup(f"{name} biases", biases, 2 * factor, decays=False))
    return tuple(group for group in groups if group.parameters)


def _convolutions(part: nn.Module) -> Iterator[nn.Conv2d]:
    return (module for module in part.modules() if isinstance(module, nn.Conv2d))
