"""Images at their own size: each side rounded up to whole patches, as TagCLIP and CLIP-ES take them."""

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor

from tagmask.clip.load import Clip
from tagmask.types import Image, Size

__all__ = ["MAX_PATCHES", "native_pixels", "target_size"]

MAX_PATCHES = 4096
"""Most patches of an image, by default: memory and time grow with its square."""


def native_pixels(
    clip: Clip, image: Image, *, min_patches: int = 1, max_patches: int = MAX_PATCHES
) -> Float[Tensor, "3 hs ws"]:
    """Resize to whole patches with Pillow's bicubic, and normalise with the model's mean and std.

    Args:
        clip: the frozen model.
        image: upright RGB.
        min_patches: smaller images are enlarged to about this many patches.
        max_patches: larger images are reduced to at most this many patches.
    """
    size = (image.shape[0], image.shape[1])
    height, width = target_size(size, clip.vision.patch, min_patches=min_patches, max_patches=max_patches)
    scaled = PILImage.fromarray(image).resize((width, height), PILImage.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(scaled)).to(clip.device).permute(2, 0, 1).float() / 255
    mean = torch.tensor(clip.mean, device=clip.device)[:, None, None]
    std = torch.tensor(clip.std, device=clip.device)[:, None, None]
    return (pixels - mean) / std


def target_size(size: Size, patch: int, *, min_patches: int = 1, max_patches: int = MAX_PATCHES) -> Size:
    """Return (h, w) in whole patches: each side rounded up, within the limits on patches.

    Example:
        >>> target_size((375, 500), 16)
        (384, 512)
        >>> target_size((3000, 4000), 16, max_patches=1200)
        (480, 640)
    """
    rows, columns = (-(-side // patch) for side in size)
    wanted = min(max(rows * columns, min_patches), max_patches)
    if wanted != rows * columns:
        scale = (wanted / (size[0] * size[1])) ** 0.5
        rows, columns = (max(1, round(side * scale)) for side in size)
        rows = min(rows, max_patches)
        columns = min(columns, max_patches // rows)
    return rows * patch, columns * patch
