"""The images of a training step, and their captions."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray
from torch import Tensor

from tagmask.clip.load import OPENAI_MEAN, OPENAI_STD
from tagmask.miniature.captions import Caption, caption_of
from tagmask.miniature.scenes import Content
from tagmask.miniature.training.bank import CLOSE_SIDE, SIDE, Bank

__all__ = ["Batch", "close_batch", "greyed", "mixed_batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of one size with their captions."""

    pixels: Float[Tensor, "b 3 side side"]
    captions: list[Caption]
    contents: list[list[Content]]
    """One list per image: one content, or those of the four cells of a collage (row by row)."""
    collages: int = 0
    """Number of collages; they are the last images."""


def close_batch(bank: Bank, count: int, seed: tuple[int, ...]) -> Batch:
    """Draw `count` close-ups as single images; depends only on the seed."""
    rng = np.random.default_rng(seed)
    images = np.empty((count, CLOSE_SIDE, CLOSE_SIDE, 3), dtype=np.uint8)
    contents: list[list[Content]] = []
    for row, i in enumerate(rng.integers(len(bank.close), size=count)):
        images[row], content = _mirrored(bank.close[i], bank.close_contents[i], rng)
        contents.append([content])
    return Batch(_pixels(images, rng), [caption_of(each, rng) for each in contents], contents)


def mixed_batch(bank: Bank, count: int, seed: tuple[int, ...]) -> Batch:
    """Draw `count` images, the second half collages of four close-ups; depends only on the seed."""
    rng = np.random.default_rng(seed)
    half = count // 2
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    contents: list[list[Content]] = []
    for row, i in enumerate(rng.integers(len(bank.wide), size=half)):
        images[row], content = _mirrored(bank.wide[i], bank.wide_contents[i], rng)
        contents.append([content])
    for row in range(half, count):
        four = []
        for cell, i in enumerate(rng.integers(len(bank.close), size=4)):
            y, x = (CLOSE_SIDE * part for part in divmod(cell, 2))
            image, content = _mirrored(bank.close[i], bank.close_contents[i], rng)
            images[row, y : y + CLOSE_SIDE, x : x + CLOSE_SIDE] = image
            four.append(content)
        contents.append(four)
    captions = [caption_of(each, rng) for each in contents]
    return Batch(_pixels(images, rng), captions, contents, collages=count - half)


def _pixels(images: UInt8[ndarray, "b h w 3"], rng: np.random.Generator) -> Float[Tensor, "b 3 h w"]:
    """Normalise the images, each with random brightness and tint."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, (len(images), 3, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-15, 15, (len(images), 1, 1, 1)).astype(np.float32))
    mean = torch.tensor(OPENAI_MEAN).view(3, 1, 1) * 255
    std = torch.tensor(OPENAI_STD).view(3, 1, 1) * 255
    return ((pixels * gain + shift).clamp_(0, 255) - mean) / std


def _mirrored(
    image: UInt8[ndarray, "h w 3"], content: Content, rng: np.random.Generator
) -> tuple[UInt8[ndarray, "h w 3"], Content]:
    if rng.random() < 0.5:
        return image, content
    things = tuple(t._replace(centre=(1 - t.centre[0], t.centre[1])) for t in content.things)
    return image[:, ::-1], Content(things, content.grounds)


def greyed(
    pixels: Float[Tensor, "b 3 h w"], share: float, rng: np.random.Generator
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, " b"]]:
    """Make `share` of the images grey; also returns which."""
    is_grey = torch.from_numpy(rng.random(len(pixels)) < share)
    grey = (pixels * torch.tensor([0.3, 0.59, 0.11]).view(3, 1, 1)).sum(dim=1, keepdim=True)
    return torch.where(is_grey[:, None, None, None], grey, pixels), is_grey
