"""The pictures of one training step, and their captions."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tagmask.clip.load import OPENAI_MEAN, OPENAI_STD
from tagmask.miniature.captions import Caption, caption_of
from tagmask.miniature.scenes import Content
from tagmask.miniature.training.bank import SIDE, Bank

__all__ = ["Batch", "draw_batch"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures, their captions, and the same of each cell."""

    pixels: Float[Tensor, "b 3 224 224"]
    captions: list[Caption]
    cells: list[list[Content]]
    """One list a picture: one content, or those of the four cells of a collage (row by row)."""


def draw_batch(bank: Bank, count: int, seed: tuple[int, ...]) -> Batch:
    """`count` pictures, the second half of them collages; all follow from the seed."""
    rng = np.random.default_rng(seed)
    half = count // 2
    images = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8)
    cells: list[list[Content]] = []
    for row, i in enumerate(rng.integers(len(bank.wide), size=half)):
        images[row], content = _mirrored(bank.wide[i], bank.wide_contents[i], rng)
        cells.append([content])
    middle = SIDE // 2
    for row in range(half, count):
        four = []
        for cell, i in enumerate(rng.integers(len(bank.close), size=4)):
            y, x = divmod(cell, 2)
            picture, content = _mirrored(bank.close[i], bank.close_contents[i], rng)
            images[row, y * middle : (y + 1) * middle, x * middle : (x + 1) * middle] = picture
            four.append(content)
        cells.append(four)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    gain = torch.from_numpy(rng.uniform(0.8, 1.2, (count, 3, 1, 1)).astype(np.float32))
    shift = torch.from_numpy(rng.uniform(-15, 15, (count, 1, 1, 1)).astype(np.float32))
    mean = torch.tensor(OPENAI_MEAN).view(3, 1, 1) * 255
    std = torch.tensor(OPENAI_STD).view(3, 1, 1) * 255
    pixels = ((pixels * gain + shift).clamp_(0, 255) - mean) / std
    return Batch(pixels, [caption_of(each, rng) for each in cells], cells)


def _mirrored(picture: np.ndarray, content: Content, rng: np.random.Generator) -> tuple[np.ndarray, Content]:
    if rng.random() < 0.5:
        return picture, content
    things = tuple(t._replace(centre=(1 - t.centre[0], t.centre[1])) for t in content.things)
    return picture[:, ::-1], Content(things, content.grounds)
