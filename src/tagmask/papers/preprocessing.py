"""Image preprocessing of the one-pass taggers, in three modes.

    centre   short side resized to the tower's native size, then a centre crop (CLIP, TaI-DPT, PIAA)
    square   both sides resized to the tower's native size, aspect ratio ignored (CLIP Surgery)
    native   the image's size, each side rounded up to whole patches (TagCLIP)

Departure: palette and CMYK files are converted to RGB before they are resized; some of the authors' programs
convert them afterwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PILImage
from torch import Tensor

from tagmask.checks import check_choice
from tagmask.clip.load import Clip
from tagmask.dense.features import TowerFeatures, extract_features
from tagmask.dense.positions import bilinear_half
from tagmask.papers import tagclip
from tagmask.papers.tagclip import TagclipSettings
from tagmask.types import Image, Images, Pixels

__all__ = ["INPUTS", "InputSettings", "batches", "encode_image", "to_pixels"]

INPUTS = ("centre", "square", "native")

_BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """Settings of the preprocessing."""

    input: str = "native"
    """"centre", "square" or "native"."""
    min_patches: int = 1
    """Native mode: smaller images are enlarged to about this many patches."""
    max_patches: int = 4096
    """Native mode: larger images are reduced to at most this many patches."""

    def __post_init__(self) -> None:
        check_choice("input", self.input, INPUTS)
        _native(self)


def to_pixels(clip: Clip, image: Image, settings: InputSettings) -> Float[Tensor, "3 hs ws"]:
    """Resize with Pillow's bicubic, crop in centre mode, and normalise with the model's mean and std."""
    if settings.input == "native":
        return tagclip.preprocess_bicubic(clip, image, _native(settings))
    side = clip.geometry.grid * clip.geometry.patch
    scaled = _square(image, side) if settings.input == "square" else _centre(image, side)
    pixels = torch.from_numpy(np.array(scaled)).to(clip.device).permute(2, 0, 1).float() / 255
    mean, std = (
        torch.tensor(channels, device=clip.device)[:, None, None] for channels in (clip.mean, clip.std)
    )
    return (pixels - mean) / std


def batches(clip: Clip, images: Images, settings: InputSettings) -> Iterator[tuple[list[int], Pixels]]:
    """Yield batches of equally sized images, each with its indices in `images`."""
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
    for index, image in enumerate(images):
        pixels = to_pixels(clip, image, settings)
        batch = waiting.setdefault(tuple(pixels.shape), [])
        batch.append((index, pixels))
        if len(batch) == _BATCH_SIZE:
            yield _stack(waiting.pop(tuple(pixels.shape)))
    for batch in waiting.values():
        yield _stack(batch)


def encode_image(clip: Clip, pixels: Pixels) -> TowerFeatures:
    """Run all blocks but the last.

    Positions as in TagCLIP: the stored table on the tower's native grid, else resized bilinearly.
    """
    return extract_features(clip.vision, pixels, bilinear_half)


def _stack(batch: Sequence[tuple[int, Tensor]]) -> tuple[list[int], Pixels]:
    return [index for index, _ in batch], torch.stack([pixels for _, pixels in batch])


def _native(settings: InputSettings) -> TagclipSettings:
    sizes = {f.name: getattr(settings, f.name) for f in fields(InputSettings) if f.name != "input"}
    return TagclipSettings(**sizes)


def _square(image: Image, side: int) -> PILImage.Image:
    return PILImage.fromarray(image).resize((side, side), PILImage.Resampling.BICUBIC)


def _centre(image: Image, side: int) -> PILImage.Image:
    h, w = image.shape[:2]
    size = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)  # (width, height)
    # Python rounds halves to even, as the original's crop does.
    left, top = (round((length - side) / 2) for length in size)
    scaled = PILImage.fromarray(image).resize(size, PILImage.Resampling.BICUBIC)
    return scaled.crop((left, top, left + side, top + side))
