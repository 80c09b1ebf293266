"""The three ways in which taggers of one look bring an image to the tower.

    centre   the short side to the tower's own size, then the middle square (CLIP, TaI-DPT, PIAA)
    square   both sides to the tower's own size, whatever the shape (CLIP Surgery)
    native   the image's own size, each side rounded up to whole patches (TagCLIP)

Departure: palette and CMYK files are RGB before they are scaled, where some of the authors' programs convert
them afterwards.
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

_TOGETHER = 8


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """How an image is brought to the tower."""

    input: str = "native"
    """"centre", "square" or "native"."""
    min_patches: int = 1
    """Of native images: smaller ones are enlarged to about so many patches."""
    max_patches: int = 4096
    """Of native images: larger ones are reduced to at most so many patches."""

    def __post_init__(self) -> None:
        check_choice("input", self.input, INPUTS)
        _native(self)


def to_pixels(clip: Clip, image: Image, settings: InputSettings) -> Float[Tensor, "3 hs ws"]:
    """Scaled by Pillow's bicubic, cropped where that is asked for, then normalised as the weights want it."""
    if settings.input == "native":
        return tagclip.preprocess_bicubic(clip, image, _native(settings))
    side = clip.geometry.grid * clip.geometry.patch
    scaled = _square(image, side) if settings.input == "square" else _centre(image, side)
    pixels = torch.from_numpy(np.array(scaled)).to(clip.device).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(three, device=clip.device)[:, None, None] for three in (clip.mean, clip.std))
    return (pixels - mean) / std


def batches(clip: Clip, images: Images, settings: InputSettings) -> Iterator[tuple[list[int], Pixels]]:
    """Images of one size together, a few at a time, with their places in `images`."""
    waiting: dict[tuple[int, ...], list[tuple[int, Tensor]]] = {}
    for place, image in enumerate(images):
        pixels = to_pixels(clip, image, settings)
        alike = waiting.setdefault(tuple(pixels.shape), [])
        alike.append((place, pixels))
        if len(alike) == _TOGETHER:
            yield _stacked(waiting.pop(tuple(pixels.shape)))
    for alike in waiting.values():
        yield _stacked(alike)


def encode_image(clip: Clip, pixels: Pixels) -> TowerFeatures:
    """All blocks but the last.

    Positions as in TagCLIP: the stored table on the tower's own grid, else stretched bilinearly.
    """
    return extract_features(clip.vision, pixels, bilinear_half)


def _stacked(alike: Sequence[tuple[int, Tensor]]) -> tuple[list[int], Pixels]:
    return [place for place, _ in alike], torch.stack([pixels for _, pixels in alike])


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
