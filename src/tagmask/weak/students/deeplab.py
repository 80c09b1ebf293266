"""DeepLab v1 on WideResNet-38: the network that WeakCLIP's pseudo-masks retrain.

    pixels -> trunk, 4096 channels at 1/8 -> 3x3 dilated by 12, 512 -> BN, ReLU -> 1x1, 512 -> BN, ReLU
           -> dropout 0.5 -> 1x1, k classes

Logits are enlarged to the input bilinearly with aligned corners by whoever needs them there
(`tagmask.weak.students.evaluate`).
"""

from collections.abc import Iterator
from typing import cast

from torch import nn

from tagmask.types import Pixels
from tagmask.weak.students.kind import Logits, ParameterGroup
from tagmask.weak.students.resnet38 import BATCH_NORM_MOMENTUM, ResNet38

__all__ = ["DeepLab", "deeplab_groups"]


class DeepLab(nn.Module):
    """The trunk and a large-field-of-view head.

    Args:
        classes: logits per place.
        base: channels of the trunk's first convolution; 64 is the published network, less makes a narrow one.
        hidden: channels of the head's two hidden convolutions.
        dropout: before the last convolution, of single values.

    Source:
        As coded for WeakCLIP's retraining. The values there of new weights are PyTorch's defaults but for the
        convolutions, which are drawn here as the trunk's (He et al., fan out), biases 0.
    """

    def __init__(self, classes: int, base: int = 64, hidden: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
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
        """Logits on the grid of one eighth."""
        return cast(Logits, self.head(self.trunk(pixels)))


def deeplab_groups(net: DeepLab) -> tuple[ParameterGroup, ...]:
    """What is trained, and how fast: the head ten times as fast as the trunk, biases twice as weights.

    Norms' scales and shifts are in no group, nor is the first convolution: they stay as they are loaded.

    Source:
        WeakCLIP's retraining. The program there asks for factors of its biases that it does not define, and
        would stop; twice the rate and no decay are those of the programs that it comes from.
    """
    parts = (("trunk", net.trunk, 1.0), ("head", net.head, 10.0))
    groups = []
    for name, part, factor in parts:
        trained = [each for each in _convolutions(part) if each.weight.requires_grad]
        weights = tuple(cast(nn.Parameter, each.weight) for each in trained)
        biases = tuple(cast(nn.Parameter, each.bias) for each in trained if each.bias is not None)
        groups.append(ParameterGroup(f"{name} weights", weights, factor, decays=True))
        groups.append(ParameterGroup(f"{name} biases", biases, 2 * factor, decays=False))
    return tuple(group for group in groups if group.parameters)


def _convolutions(part: nn.Module) -> Iterator[nn.Conv2d]:
    return (module for module in part.modules() if isinstance(module, nn.Conv2d))
