"""PSA's affinity network: ResNet38 with a head for pixel affinities, its file, and masks refined by it.

format   "tagmask affinity 1"     base   channels of the trunk's first convolution
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from tagmask.clip.archives import read_weights
from tagmask.clip.hardware import choose_device
from tagmask.errors import WeightsError
from tagmask.files import write_bytes
from tagmask.papers.mctformer import normalised
from tagmask.papers.psa import CELL, AffinityHead, pair_affinities, walked_maps
from tagmask.types import Image, Pixels
from tagmask.weak.cam_files import Cams
from tagmask.weak.map_files import LONGEST
from tagmask.weak.students.resnet38 import ResNet38

__all__ = ["AffinityNet", "load_affinity", "save_affinity", "walked_labels"]

_FORMAT: Final = "tagmask affinity 1"
_PARTS: Final = (64, 128, 256)
_FROZEN: Final = ("conv1a", "b2", "b2_1", "b2_2")


class AffinityNet(nn.Module):
    """Features of cells of 8 x 8 pixels, whose distances are affinities.

    As published, batch norms keep their statistics and their weights, and the first two stages of the trunk
    are not trained.

    Args:
        base: channels of the trunk's first convolution; 64 is the published network.
    """

    def __init__(self, base: int = 64) -> None:
        super().__init__()
        self.base = base
        self.trunk = ResNet38(base)
        self.head = AffinityHead((8 * base, 16 * base, 64 * base), _PARTS)
        for name, module in self.trunk.named_modules():
            if isinstance(module, nn.BatchNorm2d) or name in _FROZEN:
                module.requires_grad_(False)

    def train(self, mode: bool = True) -> "AffinityNet":
        """Set the mode; batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.trunk.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, pixels: Pixels) -> Float[Tensor, "b d gh gw"]:
        """Compute the features of all cells; sides of the image are multiples of 8."""
        return cast(Tensor, self.head(*self.trunk.stages(pixels)))


def walked_labels(net: AffinityNet, image: Image, cams: Cams, background: float) -> UInt8[np.ndarray, "h w"]:
    """Label an image by its localisation maps, spread along affinities.

    Args:
        net: in evaluation mode, on any device.
        image: upright RGB; a longer side than `LONGEST` is reduced for the network.
        cams: maps of the classes of its tags, at the image's size.
        background: score of the background.

    Returns:
        0 for the background, class + 1 for a class; all 0 without tags.
    """
    h, w = image.shape[:2]
    keys = sorted(cams)
    if not keys:
        return np.zeros((h, w), np.uint8)
    device = next(net.parameters()).device
    pixels = normalised(image, min(1.0, LONGEST / max(h, w))).to(device)
    size = (pixels.shape[2], pixels.shape[3])
    maps = torch.from_numpy(np.stack([cams[key] for key in keys])).to(device)
    # Padded after normalising, as coded: with the mean colour.
    padded = F.pad(pixels, (0, -size[1] % CELL, 0, -size[0] % CELL))
    with torch.no_grad():
        affinities = pair_affinities(net(padded).float())[0]
        walked = walked_maps(_resized(maps, size), affinities, background)
    values = np.array([0, *(key + 1 for key in keys)], np.uint8)
    labels: UInt8[np.ndarray, "h w"] = values[_resized(walked, (h, w)).argmax(dim=0).cpu().numpy()]
    return labels


def _resized(maps: Float[Tensor, "c h w"], size: Sequence[int]) -> Float[Tensor, "c h1 w1"]:
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return F.interpolate(maps[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def save_affinity(path: Path, net: AffinityNet) -> None:
    """Write a network to a file, atomically.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_bytes(path, safetensors.torch.save(tensors, {"format": _FORMAT, "base": str(net.base)}))


def load_affinity(path: Path, *, device: str = "auto") -> AffinityNet:
    """Load a network that `save_affinity` wrote, in evaluation mode and without gradients.

    Raises:
        WeightsError: the file is absent, damaged, or of another format.
    """
    archive = read_weights(path)
    if archive.metadata.get("format") != _FORMAT:
        raise WeightsError(
            f"{path} is not an affinity network of this version (format {archive.metadata.get('format')!r}). "
            "Give the file that `tagmask train affinity` wrote."
        )
    try:
        with torch.random.fork_rng([]):
            net = AffinityNet(int(archive.metadata.get("base", "")))
        net.load_state_dict({name: tensor.clone() for name, tensor in archive.tensors.items()})
    except (ValueError, RuntimeError) as error:  # InputError is a ValueError
        reason = str(error).splitlines()
        raise WeightsError(
            f"{path} is damaged ({reason[min(1, len(reason) - 1)].strip()[:200]}). Copy it again."
        ) from error
    return net.requires_grad_(False).eval().to(choose_device(device))
